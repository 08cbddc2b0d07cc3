"""Ingest against the bare forward pass of the model on the same batches.

What ingest adds (tokenizing, pooling, the codec, the upsert) should cost next to nothing. Docstrings of
Python's standard library, once as they are and once joined to passages that fill the model's window.
Ingest and the bare forward pass take turns.

    python benchmarks/ingest.py [RECIPE …]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time

from connector import Connector, Document, load_encoder
from connector.demo import standard_library
from connector.encoders.multivector import SentenceTransformersEncoder
from connector.ingest import WINDOW

ROUNDS = 3
PASSAGES = 2 * WINDOW


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


def ingest_seconds(encoder: SentenceTransformersEncoder, documents: list[Document], recipe: str) -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        Connector.create("bench", path=folder, recipe=recipe, model=encoder) as connector,
    ):
        return connector.ingest(documents).seconds


def main() -> None:
    encoder = load_encoder()
    if not isinstance(encoder, SentenceTransformersEncoder):
        raise SystemExit("the default encoder is no sentence-transformers model")
    for recipe in sys.argv[1:] or ["default", "compact"]:
        for what, documents in (("as they are", short_passages()), ("256 tokens", long_passages())):
            texts = [f"{item.title} {item.text}" if item.title else item.text for item in documents]
            windows = [texts[i : i + WINDOW] for i in range(0, len(texts), WINDOW)]
            forward_seconds(encoder, windows[:1])
            bare, ours = [], []
            for _ in range(ROUNDS):
                bare.append(forward_seconds(encoder, windows))
                ours.append(ingest_seconds(encoder, documents, recipe))
            ratio = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
            print(
                f"{recipe:<8} {len(documents)} passages, {what:<11}: "
                f"forward {len(documents) / statistics.median(bare):6.1f} documents/s, "
                f"ingest {len(documents) / statistics.median(ours):6.1f}, ratio {ratio:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
