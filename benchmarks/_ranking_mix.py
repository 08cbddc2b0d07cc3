"""How `ranking.py` mixes parts of a score, and chooses the constants: on all collections but the judged.

The fused score is f = tokens + b · BM25 + c · CLS, each part scaled to 0 … 1 over the pool. Feedback from
the first two hits adds w · cos(v₁, v₂) · scaled(v · (v₁ + v₂) / 2), v being one vector a passage: where the
two are alike, so is what is wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from _ranking_parts import OUTSIDE, Pools, Stored
from numpy.typing import NDArray

from connector.core.types import Float32

LENGTHS = (0.0, 0.025)
WORDS = (0.0, 0.25, 0.5, 1.0, 2.0)
CLS = (0.0, 0.25, 0.5, 1.0, 2.0)
FEEDBACKS = (0.0, 1.0, 3.0, 5.0)
MIXED_WORDS = (0.1, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
"""The grid: of a, b, c and w, and of b where CLS stands for the tokens.

It is coarse, as the optimum is flat: of a finer one, five collections choose what is luck for the sixth.
"""

DRAWS = 2000
"""Of the bootstrap."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Constants:
    """One point of the grid.

    Args:
        length: a, of the logarithm of a passage's rows.
        words: b.
        cls: c.
        feedback: w.
    """

    length: float
    words: float
    cls: float
    feedback: float

    def __str__(self) -> str:
        return f"a {self.length:g} b {self.words:g} c {self.cls:g} w {self.feedback:g}"


@dataclass(frozen=True)
class Way:
    """What a score is made of; each default is that of the library's recipes.

    Args:
        tokens: whether by tokens; else by CLS in their place.
        own_rows: whether only query rows of words are asked with.
        idf: whether each weighs its inverse document frequency.
        length: whether long passages lose.
        fused: whether BM25 and CLS are added.
        feedback: the vector of it: "codes", "cls", or "" for none.
        own_words: whether BM25 is the library's own; else bm25s'.
    """

    tokens: bool = True
    own_rows: bool = True
    idf: bool = True
    length: bool = False
    fused: bool = True
    feedback: str = "codes"
    own_words: bool = True

    def grid(self) -> list[Constants]:
        if not self.tokens:
            axes: Iterable[Sequence[float]] = [(0.0,), MIXED_WORDS, (0.0,)]
        else:
            fused = [WORDS, CLS] if self.fused else [(0.0,)] * 2
            axes = [LENGTHS if self.length else (0.0,), *fused]
        return [Constants(*it) for it in itertools.product(*axes, FEEDBACKS if self.feedback else (0.0,))]


class Feedback:
    """Makes feedback for one collection.

    Args:
        pools: of the collection.
        vectors: (N, d) one unit vector a passage.
    """

    def __init__(self, pools: Pools, vectors: Float32) -> None:
        self._pools = pools
        self._alike = pools.alike(vectors)

    def __call__(self, score: Float32) -> Float32:
        """(Q, P) what w multiplies, by the first two of a score."""
        queries, rest = np.arange(len(score)), score.copy()
        first = score.argmax(axis=1)
        rest[queries, first] = OUTSIDE
        second = rest.argmax(axis=1)
        trust = np.maximum(self._alike[queries, first, second], 0)[:, None]
        near = self._pools.scaled(self._alike[queries, first] + self._alike[queries, second])
        wanted: Float32 = trust * np.where(self._pools.inside, near, 0)
        return wanted


def measured(pools: Pools, stored: Stored | None, way: Way, feedback: Feedback | None) -> Float32:
    """(C, Q) nDCG@10 of each query, by all constants of the grid.

    Args:
        pools: the collection.
        stored: its passages; needed for a way by tokens.
        way: how to score.
        feedback: made of the way's vectors; None where there is none.
    """
    words = pools.own_words if way.own_words else pools.words
    weights = (pools.idf if way.idf else np.ones_like(pools.idf)) * (pools.own_rows if way.own_rows else 1)
    table = []
    for length, points in itertools.groupby(way.grid(), lambda point: point.length):
        if not way.tokens:
            first = pools.dense
        elif stored is not None:
            first = pools.by_tokens(stored, weights.astype(np.float32), length)
        for (b, c), those in itertools.groupby(points, lambda point: (point.words, point.cls)):
            score = first + np.float32(b) * words + np.float32(c) * pools.dense
            more = None if feedback is None else feedback(score)
            for point in those:
                table.append(pools.ndcg(score if more is None else score + np.float32(point.feedback) * more))
    return np.stack(table).astype(np.float32)


@dataclass(frozen=True)
class Outcome:
    """One way, judged on each collection with the constants that are best on the others.

    Args:
        queries: (Q,) nDCG@10 of each query, for each collection.
        chosen: the constants of each.
        best: the constants that are best on all.
        fixed: (Q,) nDCG@10 of each query with these, which is no fair figure, unless it is a peer's.
    """

    queries: list[Float32]
    chosen: list[Constants]
    best: Constants
    fixed: list[Float32]

    def of(self, places: slice) -> Outcome:
        """That of one encoder."""
        return Outcome(self.queries[places], self.chosen[places], self.best, self.fixed[places])


def left_out(way: Way, tables: Sequence[Float32], names: Sequence[str]) -> Outcome:
    """Choose constants for each collection on the others, the same for all encoders.

    Args:
        way: whose grid it is.
        tables: what `measured` gave for each collection under each encoder.
        names: of the collections; one comes once for each encoder.
    """
    points = way.grid()
    found = np.stack([table.mean(axis=1, dtype=np.float64) for table in tables])
    others = [[place for place, it in enumerate(names) if it != name] for name in names]
    chosen = [int(found[rest or slice(None)].sum(axis=0).argmax()) for rest in others]
    best = int(found.sum(axis=0).argmax())
    return Outcome(
        [table[place] for table, place in zip(tables, chosen, strict=True)],
        [points[place] for place in chosen],
        points[best],
        [table[best] for table in tables],
    )


def means(queries: Sequence[Float32]) -> Float64:
    """The mean of each collection."""
    return np.array([it.mean(dtype=np.float64) for it in queries])


def interval(ours: Sequence[Float32], theirs: Sequence[Float32]) -> tuple[float, float, float]:
    """The ratio of both means over collections, and its middle 95 % when queries are drawn again, in pairs.

    Args:
        ours: (Q,) for each collection.
        theirs: of the same queries.
    """
    chance = np.random.default_rng(0)
    sums = np.zeros((2, DRAWS))
    for pair in zip(ours, theirs, strict=True):
        drawn = chance.integers(len(pair[0]), size=(DRAWS, len(pair[0])))
        for side, values in zip(sums, pair, strict=True):
            side += values[drawn].mean(axis=1)
    low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
    return float(means(ours).mean() / means(theirs).mean()), float(low), float(high)
