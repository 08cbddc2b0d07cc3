"""A search on a server beside the bare request that it makes, over HTTP and gRPC, alternately in one run.

Docstrings of Python's standard library, recipe `default`, which finds 200 candidates in one batch and scores
their codes here. The bare request is that batch, the same vectors and the same keys of the payload, made by
qdrant-client alone; what it answers is thrown away. A search also scores, and fetches the texts of its ten
hits. Queries are encoded before. What is printed are medians, in milliseconds, and their ratio.

    QDRANT_URL=http://localhost:6333 python benchmarks/server.py [PASSAGES]
    python benchmarks/server.py --memory [PASSAGES]    # qdrant-client's engine in memory: to try this script

The key comes from QDRANT_API_KEY; gRPC is asked for at the port after that of the url.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("OMP_NUM_THREADS", "1")

from qdrant_client import QdrantClient

from connector import Connector, Embedding, load_encoder
from connector.cli.demo_corpus import standard_library
from connector.collection.search.search import fetch, rank

PASSAGES, QUERIES, ROUNDS = 4_000, 50, 5
START = "docker run --rm -p 6333:6333 -p 6334:6334 qdrant/qdrant:v1.19.0"


def clients(url: str) -> dict[str, QdrantClient]:
    """One of each kind."""
    key = os.environ.get("QDRANT_API_KEY")
    options: Any = {
        "headers": {"api-key": key} if key else {},
        "grpc_port": (urlsplit(url).port or 6333) + 1,
        "timeout": 60,
        "check_compatibility": False,
    }
    return {
        name: QdrantClient(url, prefer_grpc=prefer_grpc, **options)
        for name, prefer_grpc in (("HTTP", False), ("gRPC", True))
    }


def batches(client: QdrantClient, search: Callable[[], object]) -> list[Callable[[], object]]:
    """The batches of queries that a search asks for, to be asked for again."""
    asked: list[Callable[[], object]] = []
    bare = client.query_batch_points

    def noted(*args: Any, **options: Any) -> Any:
        asked.append(lambda: bare(*args, **options))
        return bare(*args, **options)

    client.query_batch_points = noted  # type: ignore[method-assign]
    try:
        search()
    finally:
        client.query_batch_points = bare  # type: ignore[method-assign]
    return asked


def search(connector: Connector, query: Embedding) -> Callable[[], object]:
    def run() -> object:
        return fetch(connector.collection, [rank(connector.collection, query)])

    return run


def main() -> None:
    arguments = [it for it in sys.argv[1:] if it != "--memory"]
    url = os.environ.get("QDRANT_URL")
    if "--memory" in sys.argv:
        memory = QdrantClient(":memory:")
        asking = {"memory": memory}
    elif url:
        asking = clients(url)
    else:
        print(f"not run: no server; start one ({START}) and set QDRANT_URL=http://localhost:6333")
        return
    documents = standard_library()[: int(arguments[0]) if arguments else PASSAGES]
    encoder, name = load_encoder(), f"benchmark-{uuid.uuid4().hex[:8]}"
    first = next(iter(asking.values()))
    with Connector.create(name, client=first, recipe="default", model=encoder) as made:
        made.ingest(documents)
        print(f"{made.stats().passages:,} passages, recipe default, {url or 'in memory'}", flush=True)
        texts = [it.text.split(".")[0] for it in documents[:: max(len(documents) // QUERIES, 1)]]
        queries = encoder.encode_queries([it for it in texts if it.strip()])
        connectors = {kind: Connector.open(name, client=it, model=encoder) for kind, it in asking.items()}
        try:
            measure(asking, connectors, queries)
        finally:
            made.drop()


def measure(
    asking: dict[str, QdrantClient], connectors: dict[str, Connector], queries: list[Embedding]
) -> None:
    """Time all kinds for each query in turn; the first round does not count."""
    searches = [(kind, search(connectors[kind], query)) for query in queries for kind in asking]
    timed = [(kind, run, batches(asking[kind], run)) for kind, run in searches]
    ours: dict[str, list[float]] = {kind: [] for kind in asking}
    bare: dict[str, list[float]] = {kind: [] for kind in asking}
    for round_ in range(ROUNDS + 1):
        for kind, run, asked in timed:
            for times, calls in ((bare[kind], asked), (ours[kind], [run])):
                started = time.perf_counter()
                for call in calls:
                    call()
                if round_:
                    times.append(1e3 * (time.perf_counter() - started))
    requests = {len(asked) for _, _, asked in timed}
    print(f"batches a search: {' or '.join(map(str, sorted(requests)))}")
    for kind in asking:
        mine, theirs = statistics.median(ours[kind]), statistics.median(bare[kind])
        print(f"{kind:<7} search {mine:6.2f} ms, bare request {theirs:6.2f} ms: {mine / theirs:.2f} times")


if __name__ == "__main__":
    main()
