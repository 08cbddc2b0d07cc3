"""Which scored passages become hits: the best of each document, unlike one another, in groups.

Where more hits are asked for, those of a shorter list come first, so that pages join.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from connector.collection.search.scored import Scored
from connector.core.types import Float32
from connector.scoring.fusion import Float64, minmax


def documents(scored: Scored) -> list[int]:
    """Numbers of the best passage of each document, best first."""
    best: dict[str, int] = {}
    for number in scored.order():
        best.setdefault(scored.found.records[number].payload["id"], number)
    return list(best.values())


def diverse(relevance: Float64, vectors: Float32, weight: float, count: int) -> list[int]:
    """Numbers of hits by maximal marginal relevance, the first ones first.

    Each next one has the largest λ · relevance − (1 − λ) · its largest similarity to one before it (Carbonell
    and Goldstein 1998, section 2).

    Args:
        relevance: (n,) scores, best first; scaled here to 0–1.
        vectors: (n, d) unit vectors, by whose cosines hits are alike.
        weight: λ, from 0 to 1; 1 leaves the order as it is.
        count: how many are wanted.
    """
    scaled = minmax(relevance)(relevance)
    alike = np.full(len(relevance), -np.inf)
    chosen: list[int] = []
    left = np.ones(len(relevance), np.bool_)
    while left.any() and len(chosen) < count:
        worth = weight * scaled - (1 - weight) * (alike if chosen else 0.0)
        first = int(np.argmax(np.where(left, worth, -np.inf)))
        chosen.append(first)
        left[first] = False
        alike = np.maximum(alike, vectors @ vectors[first])
    return chosen


def groups(
    numbers: Iterable[int], values: Mapping[int, Sequence[Any]], size: int
) -> list[tuple[Any, list[int]]]:
    """The values that documents have in common, and the first documents of each; the first one's group first.

    Args:
        numbers: of documents, best first.
        values: of each the values that it is grouped by; it is in the group of each.
        size: documents of a group at most.
    """
    found: dict[tuple[bool, Any], list[int]] = {}
    for number in numbers:
        for value in values.get(number, ()):
            there = found.setdefault((isinstance(value, bool), value), [])  # 1 is 1.0, and not true
            if len(there) < size and number not in there:
                there.append(number)
    return [(value, there) for (_, value), there in found.items()]


def values_at(metadata: Mapping[str, Any], key: str) -> list[Any]:
    """What a document is grouped by: the value of a metadata key, "author.name", say, or those of lists."""
    found: list[Any] = [metadata]
    for name in key.split("."):
        inner = [it.get(name.removesuffix("[]")) for it in found if isinstance(it, Mapping)]
        found = [value for it in inner for value in (it if isinstance(it, list) else [it])]
    return [it for it in found if isinstance(it, str | int | float)]
