"""Scoring kernels over ragged batches: many passages of different lengths in one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connector.errors import InputError
from connector.types import Float32


def maxsim(similarities: Float32, lengths: Sequence[int] | NDArray[np.integer]) -> Float32:
    """Sum over query tokens of the best similarity in each passage.

    MaxSim(q, p) = Σᵢ maxⱼ qᵢ·pⱼ: Khattab and Zaharia, "ColBERT", SIGIR 2020, equation 3.

    Args:
        similarities: (N, m) float32, the rows of all passages one after another against the m query
            tokens.
        lengths: (P,) rows of each passage, each at least 1, Σ = N.

    Returns:
        (P,) float32 scores.

    Raises:
        InputError: the lengths do not add up to N, or one of them is not positive.
    """
    counts = np.asarray(lengths, dtype=np.intp)
    smallest = counts.min(initial=1)
    if smallest < 1 or counts.sum() != len(similarities):
        raise InputError(
            f"passage lengths add up to {counts.sum()} (smallest {smallest}) for "
            f"{len(similarities)} token rows; each must be at least 1 and their sum the number of rows"
        )
    if len(counts) == 0:
        return np.empty(0, np.float32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    scores: Float32 = np.maximum.reduceat(similarities, starts, axis=0).sum(axis=1)
    return scores
