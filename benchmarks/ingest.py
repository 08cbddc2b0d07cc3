"""Ingest against the bare forward pass of the model on the same batches, for each reduction.

What ingest adds (tokenizing, reduction, the codec, the upsert) should cost next to nothing. Docstrings of
Python's standard library, once as they are and once joined to passages that fill the model's window.
Ingest and the bare forward pass take turns. Then Ward and sentence-transformers' own Ward do.

    python benchmarks/ingest.py [REDUCTION …]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time

import torch
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from connector import RECIPES, Connector, Document, Embedding, Recipe, load_encoder
from connector.cli.demo_corpus import standard_library
from connector.collection.pipeline import WINDOW
from connector.compression.reduction import parse_reduction
from connector.core.types import passage_text
from connector.encoders.multi_vector import SentenceTransformersEncoder

ROUNDS = 5
PASSAGES = WINDOW // 2
WARM_UP = 8
RECIPE = RECIPES["default"]
REDUCTIONS = [
    "none",
    "first-25%",
    "idf-25%",
    "attention-25%",
    "stopwords-en",
    "punctuation",
    "whole-words",
    "sequential-4",
    "kmeans-4",
    "ward-6",
    "voronoi-25%",
]


def short_passages() -> list[Document]:
    documents = standard_library()
    return documents[:: len(documents) // PASSAGES][:PASSAGES]


def long_passages() -> list[Document]:
    """Docstrings joined until they are longer than any window of 256 tokens."""
    texts = itertools.cycle(document.text for document in standard_library())
    passages = []
    for number in range(PASSAGES):
        text = ""
        while len(text) < 2_000:
            text += next(texts) + "\n"
        passages.append(Document(id=str(number), text=text))
    return passages


def forward_seconds(encoder: SentenceTransformersEncoder, windows: list[list[str]]) -> float:
    """The model alone, on batches that are tokenized beforehand."""
    batches = [
        encoder.features([window[index] for index in batch], "document")
        for window in windows
        for batch in encoder.batches(window)
    ]
    started = time.perf_counter()
    for batch in batches:
        encoder.forward(batch, "document")
    return time.perf_counter() - started


def ingest_seconds(encoder: SentenceTransformersEncoder, documents: list[Document], recipe: Recipe) -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        Connector.create("bench", path=folder, recipe=recipe, model=encoder) as connector,
    ):
        connector.ingest(documents[:WARM_UP])  # fits the codec, which is done once for a collection
        return connector.ingest(documents[WARM_UP:]).seconds


def compare(encoder: SentenceTransformersEncoder, documents: list[Document], reductions: list[str]) -> None:
    texts = [passage_text(item.title, item.text) for item in documents[WARM_UP:]]
    windows = [texts[i : i + WINDOW] for i in range(0, len(texts), WINDOW)]
    forward_seconds(encoder, windows[:1])
    ratios: dict[str, list[float]] = {reduction: [] for reduction in reductions}
    for _ in range(ROUNDS):
        for reduction in reductions:
            bare = forward_seconds(encoder, windows)
            ratios[reduction].append(
                bare / ingest_seconds(encoder, documents, RECIPE.varied(reduction=reduction))
            )
    for reduction in reductions:
        print(f"  {reduction:<14} ratio {statistics.median(ratios[reduction]):.3f}", flush=True)


def ward_against_its_peer(passages: list[Embedding]) -> None:
    """Ward at factor 6 and sentence-transformers' `HierarchicalTokenPooling` of the same passages."""
    ours, theirs = parse_reduction("ward-6"), HierarchicalTokenPooling(6)
    tensors = [torch.from_numpy(passage.tokens) for passage in passages]
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for passage in passages:
            ours(passage)
        between = time.perf_counter()
        for tensor in tensors:
            theirs.pool_one(tensor)
        times["ours"].append(between - started)
        times["theirs"].append(time.perf_counter() - between)
    ms = {side: 1e3 * statistics.median(seconds) / len(passages) for side, seconds in times.items()}
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    print(
        f"ward-6, 256 tokens: ours {ms['ours']:.2f} ms a passage, "
        f"sentence-transformers' {ms['theirs']:.2f} ms, ratio {ratio:.2f}"
    )


def main() -> None:
    encoder = load_encoder()
    if not isinstance(encoder, SentenceTransformersEncoder):
        raise SystemExit("the default encoder is not a sentence-transformers model")
    reductions = sys.argv[1:] or REDUCTIONS
    for what, documents in (("256 tokens", long_passages()), ("as they are", short_passages())):
        print(f"{len(documents)} passages, {what}: ingest's speed over the bare forward pass's")
        compare(encoder, documents, reductions)
    ward_against_its_peer(encoder.encode_documents([document.text for document in long_passages()[:64]]))


if __name__ == "__main__":
    main()
