"""What all trials of a sweep have in common: the task, encoded, and how much time there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connector.compression.reduction import Frequencies
from connector.core.errors import InputError
from connector.core.types import Embedding, Float32
from connector.encoders import Encoder
from connector.encoders.cache import CachedEncoder
from connector.tuning.task import Task
from connector.writing import WINDOW

Ranking = list[str]
"""Document ids, best first."""

DEPTH = 10
"""Of both measures."""

FOR_TRIALS = 0.9
"""Of the time that is given; in the rest the frontier's searches are timed."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class OutOfTime(Exception):
    """The time is over."""


class Clock:
    """How much of the time is over."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self._started = time.monotonic()

    def over(self, share: float = 1.0) -> bool:
        """Whether this share of it is."""
        return self.minutes is not None and time.monotonic() - self._started > share * 60 * self.minutes


@dataclass(frozen=True, slots=True)
class Ground:
    """What all trials have in common.

    Args:
        task: passages and queries.
        encoder: of both.
        queries: the encoded queries, in the order of the task's.
        cls: (P, w) float32 CLS vectors of the passages.
        frequencies: how often they have each token.
        candidates: for each query the numbers of the passages nearest by CLS, best first.
    """

    task: Task
    encoder: Encoder
    queries: list[Embedding]
    cls: Float32
    frequencies: Frequencies
    candidates: list[NDArray[np.intp]]

    def ranked(self, found: NDArray[np.integer], scored: Float32) -> Ranking:
        """The best documents of these passages, each by its best passage."""
        passages = [self.task.passages[it] for it in found]
        places = [(passage.document.id, passage.number) for passage in passages]
        order = sorted(range(len(places)), key=lambda i: (-scored[i], places[i]))
        return list(dict.fromkeys(places[i][0] for i in order))[:DEPTH]


def nearest(queries: Sequence[Embedding], cls: Float32, most: int) -> list[NDArray[np.intp]]:
    """For each query the numbers of the passages with the nearest CLS vectors, best first."""
    return [np.argsort(-(cls @ query.cls), kind="stable")[:most] for query in queries]


def ground_of(
    task: Task, encoder: CachedEncoder, candidates: int, clock: Clock, progress: Progress
) -> Ground:
    """Encode all of it; what was encoded before is read."""
    texts, vectors, frequencies = task.texts, list[Float32](), Frequencies()
    for start in range(0, len(texts), WINDOW):
        progress("Encoding", start, len(texts))
        if clock.over(FOR_TRIALS):
            raise InputError(
                f"the {clock.minutes:g} minutes were over when {start:,} of {len(texts):,} passages were "
                "encoded; they are kept: run the same command again to go on"
            )
        embeddings = encoder.encode_documents(texts[start : start + WINDOW])
        frequencies.add(embeddings)
        vectors += [embedding.cls for embedding in embeddings]
    progress("Encoding", len(texts), len(texts))
    queries, cls = encoder.encode_queries(list(task.queries.values())), np.stack(vectors)
    return Ground(task, encoder, queries, cls, frequencies, nearest(queries, cls, candidates))
