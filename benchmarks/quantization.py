"""What Qdrant's own quantization saves and keeps: SciFact in the multivector layout, Qdrant scores.

The vectors stay on disk; Qdrant keeps the smaller copy in memory and scores by it, and scores the best
OVERSAMPLING × 10 passages again by the vectors. The peer is the same collection without quantization.

    python benchmarks/quantization.py [DATA] [CACHE]

DATA holds the folder `scifact` in BEIR layout; CACHE keeps the encoder's output.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import get_args

from connector import Embedding, Recipe, load_encoder, open_store
from connector.collection.collection import Collection
from connector.collection.ingest import ingest
from connector.collection.recipe import get_recipe
from connector.collection.search.search import rank
from connector.core.sources import Source
from connector.encoders.cache import CachedEncoder
from connector.encoders.chunking import Chunking
from connector.evaluation.beir import Judged, load_judged
from connector.evaluation.metrics import Run, measure
from connector.stores.schema import Quantization

CANDIDATES = 200
OVERSAMPLINGS = (1.0, 2.0, 4.0)


def quality(collection: Collection, judged: Judged, queries: list[Embedding]) -> tuple[float, float]:
    """nDCG@10 and the median milliseconds of a search, without fetching texts."""
    run: Run = {}
    times = []
    for name, query in zip(judged.queries, queries, strict=True):
        found = rank(collection, query, k=10, candidates=CANDIDATES)
        run[name] = found.scores()
        times.append(sum(found.ms.values()))
    return measure(judged.qrels, run)["nDCG@10"], statistics.median(times)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data") / "scifact"
    if not folder.is_dir():
        print(f"not run: there is no {folder}; give the folder that holds it")
        return
    judged = load_judged(folder, "test")
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(sys.argv[2] if len(sys.argv) > 2 else scratch))
        queries = encoder.encode_queries(list(judged.queries.values()))
        store = open_store(path=Path(scratch) / "qdrant")
        print(
            "| quantization | at rest, bytes a passage | " + " | ".join(f"× {it:g}" for it in OVERSAMPLINGS)
        )
        plain = get_recipe("default").model_dump(exclude={"quantization", "oversampling", "name"})
        for name in (None, *get_args(Quantization)):
            cells = []
            recipe = Recipe(**plain, name="it", quantization=name)
            report = ingest(
                Collection.create(store, "it", recipe, encoder), encoder, Source(folder), chunking=Chunking()
            )
            size = (store.disk_bytes("it", log=False) or 0) / report.passages
            for oversampling in OVERSAMPLINGS if name else OVERSAMPLINGS[:1]:
                varied = Recipe(**plain, name="it", quantization=name, oversampling=oversampling)
                store.set_info("it", {"recipe": varied.model_dump_json()})
                ndcg, ms = quality(Collection(store, "it"), judged, queries)
                cells.append(f"{ndcg:.4f} ({ms:.1f} ms)")
            store.drop("it")
            print(f"| {name} | {size:,.0f} | " + " | ".join(cells), flush=True)
        store.close()


if __name__ == "__main__":
    main()
