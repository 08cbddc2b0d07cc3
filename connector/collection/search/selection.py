"""Which scored passages become hits: the best of each document, unlike one another, in groups.

Where more hits are asked for, those of a shorter list come first, so that pages join.
"""

from __future__ import annotations

import json
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


class Groups:
    """The first groups of documents, each with its first ones; documents come one after another.

    Args:
        count: how many groups.
        size: documents of a group at most.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._groups: dict[str, tuple[Any, list[int]]] = {}

    def add(self, number: int, values: Iterable[Any]) -> None:
        """A document comes, in the group of each of its values."""
        for value in values:
            key = json.dumps(value)  # 1 is not true
            if key not in self._groups and len(self._groups) < self._count:
                self._groups[key] = (value, [])
            _, there = self._groups.get(key, (None, []))
            if len(there) < self._size and number not in there:
                there.append(number)

    @property
    def full(self) -> bool:
        """Whether no other document would find a place."""
        them = self._groups.values()
        return len(them) == self._count and all(len(there) == self._size for _, there in them)

    def page(self, offset: int) -> list[tuple[Any, int]]:
        """The groups from this one on: the value and the number of each hit."""
        later = list(self._groups.values())[offset:]
        return [(value, number) for value, there in later for number in there]


def values_at(metadata: Mapping[str, Any], key: str) -> Sequence[Any]:
    """What a document is grouped by: the value of a metadata key, "author.name", say, or those of a list."""
    value: Any = metadata
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return [it for it in values if isinstance(it, str | int | float)]
