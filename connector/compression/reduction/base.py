"""What reduction is made of: policies that keep rows, poolings that merge rows, chains of them, sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from connector.compression.reduction.frequencies import Frequencies
from connector.core.errors import InputError, RecipeError
from connector.core.types import Embedding, Float32

Labels = NDArray[np.intp]


Rows = NDArray[np.intp]


Need = Literal["attention", "frequencies", "saliency", "text"]


@dataclass(frozen=True, slots=True)
class PruningPolicy:
    """A method of deciding which token rows to keep.

    Args:
        keep: an embedding to the (k,) numbers of the rows to keep, ascending, without repetition; none leaves
            the first row.
        needs: what it asks for beside vectors and ids: attention, saliency, the corpus's frequencies, or the
            text.
    """

    keep: Callable[[Embedding], Rows]
    needs: frozenset[Need] = frozenset()


@dataclass(frozen=True, slots=True)
class TokenPooling:
    """A method of deciding which token rows to merge.

    Args:
        labels: an embedding to the (n,) cluster number of each row: 0 … k−1, each used, in order of first
            appearance.
        needs: as of `PruningPolicy`.
    """

    labels: Callable[[Embedding], Labels]
    needs: frozenset[Need] = frozenset()


Step: TypeAlias = PruningPolicy | TokenPooling


S = TypeVar("S", Step, PruningPolicy)
"""A step of one side or the other."""


@dataclass(frozen=True, slots=True)
class _Chain(Generic[S]):
    """Steps, done in order.

    Args:
        spec: the chain as text; parsing it makes the same one.
        steps: its steps.
    """

    spec: str
    steps: Sequence[S]

    @property
    def needs(self) -> frozenset[Need]:
        """What the steps ask for beside vectors and ids."""
        return frozenset[Need]().union(*(step.needs for step in self.steps))


class Reduction(_Chain[Step]):
    """A chain of steps for passages."""

    def __call__(self, embedding: Embedding) -> Embedding:
        """The reduced embedding of a passage, with at least one row.

        Raises:
            InputError: the embedding lacks what a step needs; see each step.
        """
        for step in self.steps:
            embedding = reduce(embedding, step)
        return embedding


class QueryReduction(_Chain[PruningPolicy]):
    """A chain of steps for queries: which rows are asked with."""

    def __call__(self, embedding: Embedding) -> Embedding:
        """The reduced embedding of a query, with at least one row.

        Raises:
            InputError: the embedding lacks what a step needs; see each step.
        """
        for step in self.steps:
            embedding = reduce(embedding, step)
        return embedding


@dataclass(frozen=True, slots=True)
class Setting:
    """What a step may have to know of where it is used.

    Args:
        bytes_per_token: stored bytes of a token under the recipe's codec, for budgets in bytes.
        frequencies: how often the corpus has each token.
    """

    bytes_per_token: int | None = None
    frequencies: Frequencies = field(default_factory=Frequencies)


@dataclass(frozen=True, slots=True)
class Budget:
    """How many rows a passage may keep, at least one.

    Args:
        amount: of rows, per cent or bytes; more than 0.
        unit: "rows", "%", or "B" where it is not known what a row takes.
    """

    amount: Fraction
    unit: str = "rows"

    @classmethod
    def parse(cls, text: str, setting: Setting) -> Budget:
        """A count ("32"), a share of the passage's rows ("25%") or bytes ("512B").

        Raises:
            RecipeError: the text is none of them, or not a single row fits.
        """
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+(?=%))?)(%|B)?", text)
        if match is None or not (amount := Fraction(match[1])):
            raise RecipeError(f"{text!r} is not a size; give a count (32), a share (25%) or bytes (512B)")
        unit = match[2] or "rows"
        if unit == "%" and amount > 100:
            raise RecipeError(f"{text} is more than all rows; give at most 100%")
        if unit == "B" and setting.bytes_per_token is not None:
            if amount < setting.bytes_per_token:
                raise RecipeError(f"{text} hold no token of {setting.bytes_per_token} bytes; give more")
            return cls(amount / setting.bytes_per_token)
        return cls(amount, unit)

    def rows(self, n: int) -> int:
        """How many of n ≥ 1 rows may stay, from 1 to n; ⌊share · n⌋ for a share.

        Raises:
            InputError: the budget is in bytes, and what a row takes is not known.
        """
        if self.unit == "B":
            raise InputError(f"{self.amount}B needs the bytes of a token: give bytes_per_token")
        allowed = self.amount * n / 100 if self.unit == "%" else self.amount
        return min(max(int(allowed), 1), n)


def assign(embedding: Embedding, step: Step) -> Labels:
    """(n,) for each row the number of the row that it becomes, or is merged into; −1 where it is dropped.

    The numbers 0 … k−1, k ≥ 1, are each used, in order of first appearance: where a policy would keep no
    row, the first one stays.
    """
    if isinstance(step, TokenPooling):
        return step.labels(embedding)
    labels = np.full(len(embedding), -1, np.intp)
    kept = step.keep(embedding)
    kept = kept if len(kept) else np.zeros(1, np.intp)
    labels[kept] = np.arange(len(kept))
    return labels


def reduce(embedding: Embedding, step: Step) -> Embedding:
    """The embedding after one step: its rows kept in order, or merged; see `regroup`."""
    return regroup(embedding, assign(embedding, step))


def regroup(embedding: Embedding, labels: Labels) -> Embedding:
    """The embedding of the rows that `assign` says.

    A merged row is the mean of its tokens, scaled to unit length. Its ids, offsets and word ids are those of
    its first token, its attention is the sum and its saliency the largest of its tokens'.
    """
    order, starts = grouped(labels)
    if len(starts) == len(embedding):
        return embedding
    first = order[starts]
    if len(order) == len(starts):
        return embedding.select(first)
    merged = embedding.select(first, merge(embedding.tokens, labels))
    if embedding.attention is not None:
        merged = replace(merged, attention=np.add.reduceat(embedding.attention[order], starts))
    if embedding.saliency is not None:
        merged = replace(merged, saliency=np.maximum.reduceat(embedding.saliency[order], starts))
    return merged


def merge(tokens: Float32, labels: Labels) -> Float32:
    """Mean of the rows of each cluster, scaled to unit length.

    Args:
        tokens: (n, w) float32.
        labels: (n,) cluster numbers 0 … k−1, each used; −1 for rows that are dropped.

    Returns:
        (k, w) float32 unit rows. A cluster whose mean is the zero vector keeps its first row.
    """
    order, starts = grouped(labels)
    sums = np.add.reduceat(tokens[order], starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    cancelled = norms[:, 0] < 1e-6
    if cancelled.any():
        sums[cancelled] = tokens[order[starts[cancelled]]]
        norms[cancelled, 0] = np.maximum(np.linalg.norm(sums[cancelled], axis=1), 1e-12)
    merged: Float32 = sums / norms
    return merged


def grouped(labels: Labels) -> tuple[Rows, Rows]:
    """The numbers of the rows that are not dropped, cluster after cluster, and where each cluster starts."""
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0) :]
    return order, np.searchsorted(labels[order], np.arange(labels.max() + 1))


def highest(scores: NDArray[np.floating], budget: Budget) -> Rows:
    """(k,) numbers of the k highest scores (n,), ascending; of equal scores the earlier ones."""
    order = np.argsort(-scores, kind="stable")[: budget.rows(len(scores))]
    return np.sort(order)
