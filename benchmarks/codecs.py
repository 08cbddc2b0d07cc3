"""What each codec keeps of the quality: nDCG@10 of a rerank and bytes a token, from one encoding.

SciFact's dense top 200 and TREC DL 2019's BM25 top 100, reranked by MaxSim over tokens pooled by 4 (Ward),
straight from the codes. The peer is the float32 tokens at full width. Codecs are fitted as an ingest fits
them, on the first passages.

    python benchmarks/codecs.py [DATA] [CACHE] [HEAD]

DATA holds the folders `scifact` and `msmarco_dl19` in BEIR layout; CACHE keeps the encoder's output; HEAD is
the folder of a trained layer for the codecs with `linear-D`.
"""

from __future__ import annotations

import sys
import tempfile
import uuid

import numpy as np
from _rerank import Task, ndcg, tasks

from connector.compression.codecs import parse_codec
from connector.compression.reduction import parse_reduction
from connector.core.types import Float32
from connector.scoring.maxsim import maxsim
from connector.stores import Point, open_store
from connector.stores.schema import CollectionSchema, VectorSchema

FULL = ["float32", "float16", "turbo8", "turbo4", "int8", "binary", "hamming", "residual-2", "residual-1"]
PROJECTED = [
    "pca-128+float16",
    "pca-128+int8",
    "pca-256+pq-128",
    "pca-256+binary",
    "pca-192+binary",
    "pca-128+residual-4",
    "pca-128+residual-2",
    "pca-128+residual-1",
    "pca-128+binary",
    "pca-128+hamming",
    "pca-96+residual-1",
    "pq-48",
    "opq-48",
    "pq-16",
    "opq-16",
    "pca-128+pq-16",
    "pca-128+opq-16",
    "pca-96+opq-16",
    "pca-128+opq-8",
]
TRAINED = ["linear-128+float16", "linear-128+binary", "linear-128+residual-1"]


def main() -> None:
    head = sys.argv[3] if len(sys.argv) > 3 else None
    with tasks(sys.argv[1:3]) as found:
        reduction = parse_reduction("ward-4")
        pooled = [[reduction(passage).tokens for passage in task.passages] for task in found]
        full = [0.0] * len(found)
        print("nDCG@10 (share of float32's)\n")
        row("codec", "bytes a token", *(task.name for task in found))
        row(*["---"] * (2 + len(found)))
        for spec in [*FULL, *PROJECTED, *TRAINED]:
            if spec.startswith("linear") and head is None:
                row(spec, "", *["not run: no HEAD given"] * len(found))
                continue
            results = [rerank(task, tokens, spec, head) for task, tokens in zip(found, pooled, strict=True)]
            if spec == "float32":
                full = results
            size = parse_codec(spec, head).bytes_per_token(pooled[0][0].shape[1]) if found else 0
            cells = [f"{value:.4f} ({value / best:.1%})" for value, best in zip(results, full, strict=True)]
            row(spec, str(size), *cells)


def rerank(task: Task, passages: list[Float32], spec: str, head: str | None) -> float:
    """nDCG@10."""
    codec = parse_codec(spec, head)
    tokens = np.concatenate(passages)
    codec.fit(tokens[: max(codec.sample, 1)])
    lengths = np.array([len(passage) for passage in passages])
    ends = np.cumsum(lengths)
    stored = codec.encode(tokens)
    if codec.datatype in ("turbo8", "turbo4"):
        stored = through_qdrant(stored, codec.datatype)

    def score(name: str, found: list[int]) -> Float32:
        rows = np.concatenate([stored[ends[it] - lengths[it] : ends[it]] for it in found])
        return maxsim(codec.scorer(codec.encode_query(task.queries[name].tokens)), rows, lengths[found])

    return ndcg(task, score)


def through_qdrant(vectors: Float32, datatype: str) -> Float32:
    """What Qdrant Edge gives back of vectors that it has stored in this type."""
    ids = [str(uuid.UUID(int=number)) for number in range(len(vectors))]
    back = np.empty_like(vectors)
    with tempfile.TemporaryDirectory() as scratch:
        store = open_store(path=scratch)
        schema = VectorSchema("tokens", vectors.shape[1], datatype)  # type: ignore[arg-type]
        store.create("codec", CollectionSchema((schema,)), {})
        for start in range(0, len(ids), 10_000):
            numbers = range(start, min(start + 10_000, len(ids)))
            store.upsert("codec", [Point(ids[it], {"tokens": vectors[it]}, {}) for it in numbers])
        for record in store.scroll("codec", [], ["tokens"]):
            back[uuid.UUID(record.id).int] = record.vectors["tokens"]
        store.close()
    return back


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
