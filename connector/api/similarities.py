"""What similarities a collection's hits have, so that a person can choose a least one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from connector.core.types import Hits

RANKS = (1, 10, 100)
"""Places of hits that are looked at: the best, the last of a page, and one that hardly answers."""


PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, slots=True)
class Similarities:
    """How alike queries and hits are: `Hit.similarity`, on which `min_similarity` acts.

    Attributes:
        queries: how many were asked.
        asked: where they are from.
        at: of places of hits, 1, 10 and 100, as far as there are so many, the percentiles of the similarity
            over all queries, from "p5" to "p95".
    """

    queries: int
    asked: str
    at: Mapping[str, Mapping[str, float]]


def similarities_of(found: Iterable[Hits], asked: str) -> Similarities:
    """Of what some queries have found, at least the hits at `RANKS`."""
    there: dict[int, list[float]] = {rank: [] for rank in RANKS}
    count = 0
    for hits in found:
        count += 1
        for rank in RANKS:
            similarity = hits[rank - 1].similarity if len(hits) >= rank else None
            if similarity is not None:
                there[rank].append(similarity)
    return Similarities(count, asked, {str(rank): _spread(it) for rank, it in there.items() if it})


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, PERCENTILES)
    return {f"p{it}": round(float(value), 4) for it, value in zip(PERCENTILES, found, strict=True)}
