"""Search in process: Qdrant Edge against qdrant-client's local mode, on the same collection.

5,000 docstrings of Python's standard library, 100 candidates, without encoding queries. Both engines hold
the same points and run the same search; they take turns, query by query. Recipe default reads byte codes
and scores them here; recipe default has the engine score MaxSim.

    python benchmarks/embedded.py
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from pathlib import Path

from qdrant_client import QdrantClient

from connector import Connector, Document, Encoder, load_encoder
from connector.cli.demo_corpus import standard_library
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import fetch, rank
from connector.core.types import Embedding
from connector.encoders.cache import CachedEncoder

PASSAGES = 5_000
QUERIES = 50
ROUNDS = {"default": 3, "colbert": 1}


def compare(
    recipe: str, documents: list[Document], encoder: Encoder, queries: list[Embedding], folder: Path
) -> dict[str, float]:
    """Median milliseconds of a search on each engine."""
    engines = {
        "edge": Connector.create("bench", path=folder / f"edge-{recipe}", recipe=recipe, model=encoder),
        "local": Connector.create(
            "bench", client=QdrantClient(path=str(folder / f"local-{recipe}")), recipe=recipe, model=encoder
        ),
    }
    for engine in engines.values():
        engine.ingest(documents)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for embedding in queries * ROUNDS[recipe]:
        answers = {}
        for name, engine in engines.items():
            options = SearchOptions(candidates=100)
            (hits,) = fetch(engine.collection, [rank(engine.collection, embedding, options)])
            times[name].append(hits.ms["total"])
            answers[name] = {hit.id for hit in hits}
        if len(answers["edge"] & answers["local"]) < 8:  # one of them keeps CLS vectors in 4 bits
            raise SystemExit(f"the engines disagree: {answers}")
    for engine in engines.values():
        engine.close()
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    warnings.filterwarnings("ignore", module="qdrant_client")
    documents = standard_library()[:PASSAGES]
    texts = [document.text.split(".")[0] for document in documents[:: PASSAGES // QUERIES]]
    print(f"{len(documents):,} passages, 100 candidates, p50 of a search in ms")
    medians = {}
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(scratch) / "cache")
        queries = encoder.encode_queries(texts)
        for recipe in ROUNDS:
            medians[recipe] = compare(recipe, documents, encoder, queries, Path(scratch))
            edge, local = medians[recipe]["edge"], medians[recipe]["local"]
            print(
                f"{recipe:<8} Qdrant Edge {edge:7.2f}   QdrantClient(path=…) {local:8.2f}   "
                f"ratio {edge / local:.3f} ({local / edge:.1f} times as fast)",
                flush=True,
            )
    ratio = medians["default"]["edge"] / medians["colbert"]["local"]
    print(f"default on Edge takes {ratio:.3f} of the time of MaxSim in QdrantClient(path=…)")


if __name__ == "__main__":
    main()
