"""Rankings of passages: what is nearest by CLS vectors, and in which order documents come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from connector.core.types import Embedding, Float32

Ranking = list[str]
"""Document ids, best first."""


def nearest(queries: Sequence[Embedding], cls: Float32, most: int) -> list[NDArray[np.intp]]:
    """For each query the numbers of the passages with the nearest CLS vectors (P, w), best first."""
    return [np.argsort(-(cls @ query.cls), kind="stable")[:most] for query in queries]


def best_first(passages: Iterable[tuple[str, int]], scores: Iterable[float]) -> Ranking:
    """The ids of passages' documents, each where its best passage is, in the order of a search.

    Args:
        passages: of each the id of its document and its number in it.
        scores: of each.
    """
    ordered = sorted(zip(passages, scores, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return list(dict.fromkeys(document for (document, _), _ in ordered))
