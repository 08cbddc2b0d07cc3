"""What the peers are compared on: a BEIR set with the vectors of its passages and of its queries."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connector import Document, Embedding
from connector.collection.pipeline import WINDOW
from connector.core.sources import Source
from connector.core.types import passage_text
from connector.encoders import Encoder
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import Judged, load_judged

SEED = 0


@dataclass(frozen=True)
class Task:
    """Passages and judged queries of one set, encoded.

    Args:
        name: the set's folder.
        documents, passages: the corpus and its vectors, in the same order.
        judged: the queries that are asked and their judgements.
        queries: their vectors, in the same order.
        sampled: what was left out, in words; empty if nothing was.
    """

    name: str
    documents: list[Document]
    passages: list[Embedding]
    judged: Judged
    queries: list[Embedding]
    sampled: str

    @property
    def texts(self) -> list[str]:
        return [passage_text(it.title, it.text) for it in self.documents]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.passages))


class Loaded:
    """An encoder that gives vectors out of memory, so that writing is timed without encoding.

    Args:
        encoder: which made them; tells what it is.
        passages: text to vectors.
    """

    def __init__(self, encoder: Encoder, passages: Mapping[str, Embedding]) -> None:
        self._encoder = encoder
        self._passages = passages
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.cls_width, self.token_width = encoder.cls_width, encoder.token_width
        self.device, self.cls_weight, self.reduction = "cpu", encoder.cls_weight, encoder.reduction
        self.late_interaction, self.token_ids = encoder.late_interaction, encoder.token_ids
        self.window = encoder.window

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        del attention  # where a recipe needs it, `load` has asked for it
        return [self._passages[text] for text in texts]

    def encode_queries(self, texts: Sequence[str]) -> list[Embedding]:
        return self._encoder.encode_queries(texts)

    def split(self, text: str, tokens: int, overlap: int) -> list[tuple[int, int]]:
        return self._encoder.split(text, tokens, overlap)


def load(
    folder: Path,
    encoder: CachedEncoder,
    attention: bool,
    most: int,
    passages: int | None,
    queries: int | None,
) -> Task:
    """One set.

    Args:
        folder: in BEIR layout, with a test split.
        encoder: encodes what it has not kept.
        attention: whether a recipe needs to know how much attention tokens received.
        most: queries that are asked at most, drawn with a fixed seed.
        passages, queries: how many to take for a quick try; None for all. Judged passages stay.
    """
    judged = load_judged(folder, "test")
    embedded = dict(zip(judged.queries, encoder.encode_queries(list(judged.queries.values())), strict=True))
    asked = _sample(list(judged.queries), min(most, queries or most))
    judged_all = len(judged.queries)
    judged = Judged({it: judged.queries[it] for it in asked}, {it: judged.qrels[it] for it in asked})
    documents = list(Source(folder))
    vectors = _encoded(folder.name, documents, encoder, attention)
    kept = _kept(documents, judged, passages)
    said = []
    if len(asked) < judged_all:
        said.append(f"{len(asked):,} of {judged_all:,} judged queries, drawn with seed {SEED}")
    if len(kept) < len(documents):
        said.append(f"{len(kept):,} of {len(documents):,} passages: the judged ones and the first others")
    return Task(
        folder.name,
        [documents[it] for it in kept],
        [vectors[it] for it in kept],
        judged,
        [embedded[it] for it in asked],
        "; ".join(said),
    )


def _sample(names: list[str], count: int) -> list[str]:
    if count >= len(names):
        return names
    drawn = set(random.Random(SEED).sample(names, count))
    return [name for name in names if name in drawn]


def _encoded(
    name: str, documents: list[Document], encoder: CachedEncoder, attention: bool
) -> list[Embedding]:
    """Vectors of the whole corpus, in the windows in which ingest asks for them."""
    texts = [passage_text(it.title, it.text) for it in documents]
    found: list[Embedding] = []
    for start in range(0, len(texts), WINDOW):
        found += encoder.encode_documents(texts[start : start + WINDOW], attention=attention)
        print(f"\r{name}: vectors of {len(found):,} of {len(texts):,} passages", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def _kept(documents: list[Document], judged: Judged, count: int | None) -> list[int]:
    """Numbers of the passages that are taken, in order."""
    if count is None or count >= len(documents):
        return list(range(len(documents)))
    relevant = {id_ for grades in judged.qrels.values() for id_ in grades}
    first = [number for number, it in enumerate(documents) if it.id in relevant]
    others = [number for number, it in enumerate(documents) if it.id not in relevant]
    return sorted(first + others[: max(count - len(first), 0)])
