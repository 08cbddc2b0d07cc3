"""Search in process: Qdrant Edge against qdrant-client's local mode, on the same collection.

5,000 docstrings of Python's standard library, recipe compact, 100 candidates, without encoding queries.
Both engines hold the same points and run the same search; they take turns, query by query.

    python benchmarks/embedded.py
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from pathlib import Path

from qdrant_client import QdrantClient

from connector import Connector, load_encoder
from connector.demo import standard_library
from connector.encoders.cache import CachedEncoder
from connector.search import fetch, rank

PASSAGES = 5_000
QUERIES = 50
ROUNDS = 3


def main() -> None:
    warnings.filterwarnings("ignore", module="qdrant_client")
    documents = standard_library()[:PASSAGES]
    queries = [document.text.split(".")[0] for document in documents[:: PASSAGES // QUERIES]]
    with tempfile.TemporaryDirectory() as folder:
        encoder = CachedEncoder(load_encoder(), Path(folder) / "cache")
        engines = {
            "edge": Connector.create("bench", path=f"{folder}/edge", recipe="compact", model=encoder),
            "local": Connector.create(
                "bench", client=QdrantClient(path=f"{folder}/local"), recipe="compact", model=encoder
            ),
        }
        for engine in engines.values():
            engine.ingest(documents)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for embedding in encoder.encode_queries(queries) * ROUNDS:
            answers = {}
            for name, engine in engines.items():
                ranking = rank(engine.collection, embedding, candidates=100)
                hits = fetch(engine.collection, ranking, 10)
                times[name].append(hits.ms["total"])
                answers[name] = {hit.id for hit in hits}
            if len(answers["edge"] & answers["local"]) < 8:  # the CLS vectors are 4 bits in one of them
                raise SystemExit(f"the engines disagree: {answers}")
        for engine in engines.values():
            engine.close()
    edge, local = (statistics.median(times[name]) for name in ("edge", "local"))
    print(f"{len(documents):,} passages, recipe compact, 100 candidates, {len(times['edge'])} searches each")
    print(f"Qdrant Edge               p50 {edge:7.2f} ms")
    print(f"QdrantClient(path=…)      p50 {local:7.2f} ms")
    print(f"Edge takes {edge / local:.3f} of the time: {local / edge:.1f} times as fast")


if __name__ == "__main__":
    main()
