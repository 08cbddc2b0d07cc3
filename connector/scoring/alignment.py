"""Alignments: over which tokens of a passage each token of a query spreads.

A query of n vectors and a passage of m have similarities S (n, m). An alignment marks cells Ã of them,
saliences u of both sides weigh them, A = Ã ∘ (u^q ⊗ u^p), and the score is their weighted mean
(1/Z) Σᵢⱼ (S ∘ A)ᵢⱼ with Z = Σᵢⱼ Aᵢⱼ. `TopK(1)` with all saliences 1 is MaxSim over n; with one cell marked it
is the inner product of two vectors. Source: Qian et al., "Multi-Vector Retrieval as Sparse Alignment"
(ALIGNER), 2022, sections 2 and 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import InputError, RecipeError
from connector.core.types import Float32

_MOST = 2**31
"""More tokens than a passage has."""


@dataclass(frozen=True, slots=True)
class TopK:
    """Each query token is aligned with the k passage tokens most similar to it.

    Args:
        k: at least 1; a passage of fewer tokens is aligned whole.
    """

    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or self.k < 1:
            raise RecipeError(f"alignment top-{self.k} aligns nothing; give a whole count of at least 1")

    @property
    def spec(self) -> str:
        """As recipes name it."""
        return f"top-{self.k}"

    def counts(self, lengths: NDArray[np.integer]) -> NDArray[np.int64]:
        """(P,) cells of each query token in passages of these many tokens."""
        return np.minimum(np.asarray(lengths, np.int64), min(self.k, _MOST))


@dataclass(frozen=True, slots=True)
class TopP:
    """Each query token is aligned with a share of the passage's tokens: max(⌊p·m⌋, 1) of m.

    Args:
        percent: p in percent, above 0 and at most 100.
    """

    percent: float

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise RecipeError(
                f"alignment top-{self.percent:g}% is not a share; give one above 0%, up to 100%"
            )

    @property
    def spec(self) -> str:
        """As recipes name it."""
        return f"top-{self.percent:.12g}%"

    def counts(self, lengths: NDArray[np.integer]) -> NDArray[np.int64]:
        """(P,) cells of each query token in passages of these many tokens."""
        exact = np.asarray(lengths, np.float64) * self.percent / 100
        return np.maximum(np.floor(exact + 1e-9), 1).astype(np.int64)


Alignment: TypeAlias = TopK | TopP


def parse_alignment(spec: str | Alignment) -> Alignment:
    """The alignment that a text such as "top-4" (a count) or "top-1.5%" (a share) names.

    Raises:
        RecipeError: the text names none.
    """
    if isinstance(spec, TopK | TopP):
        return spec
    text = spec.strip() if isinstance(spec, str) else ""
    named = re.fullmatch(r"top-(?:([0-9]+)|([0-9]+(?:\.[0-9]+)?)%)", text)
    if named is None:
        raise RecipeError(f"alignment {spec!r} is not known; give a count (top-4) or a share (top-1.5%)")
    return TopK(int(named[1])) if named[1] else TopP(float(named[2]))


def aligned_cells(
    similarities: Float32,
    alignment: Alignment,
    query_saliency: Float32 | None = None,
    passage_saliency: Float32 | None = None,
) -> Float32:
    """A / Z of one query and one passage: each cell's share of the weights.

    Where passages have saliency, similarities are compared by their first 16 bits (`coarse`), and of equal
    ones the more salient is aligned, so that the order of a passage's tokens changes nothing.

    Args:
        similarities: S (n, m) float32.
        alignment: which cells are marked.
        query_saliency, passage_saliency: (n,) and (m,) float32 ≥ 0; all 1 if not given.

    Returns:
        (n, m) float32 with sum 1, so that `(similarities * shares).sum()` is the score; zeros if no
        aligned cell has any weight.

    Raises:
        InputError: shapes disagree.
    """
    rows, columns = similarities.shape
    asked = _saliency(query_saliency, rows, "query")
    weights = np.outer(asked, _saliency(passage_saliency, columns, "passage"))
    count = int(alignment.counts(np.array([columns]))[0])
    order = _descending(similarities, passage_saliency)[:, :count]
    marked = np.zeros((rows, columns), np.float32)
    np.put_along_axis(marked, order, np.take_along_axis(weights, order, axis=1), axis=1)
    total = marked.sum(dtype=np.float64)
    shares: Float32 = (marked / total).astype(np.float32) if total > 0 else marked
    return shares


def coarse(similarities: Float32) -> Float32:
    """Rounded to 16 significant bits, by at most 2⁻¹⁶ of each value.

    The kernel keeps a token's saliency, a byte, in the other eight while it looks for the largest.
    """
    bits = np.ascontiguousarray(similarities, np.float32).view(np.int32)
    rounded: Float32 = ((bits + 0x80) & ~0xFF).view(np.float32)
    return rounded


def _descending(similarities: Float32, saliency: Float32 | None) -> NDArray[np.intp]:
    """(n, m) column numbers, each row's largest similarities first."""
    if saliency is None:
        return np.argsort(-similarities, axis=1, kind="stable")
    rounded = coarse(similarities)
    salient = np.where(rounded < 0, -saliency, saliency)  # a larger byte makes a negative number smaller
    return np.lexsort((-salient, -rounded), axis=1)


def _saliency(values: Float32 | None, rows: int, side: str) -> Float32:
    if values is None:
        return np.ones(rows, np.float32)
    if values.shape != (rows,) or not (np.isfinite(values) & (values >= 0)).all():
        raise InputError(
            f"{side} saliency has shape {values.shape}; give {rows} finite numbers of at least 0"
        )
    return values
