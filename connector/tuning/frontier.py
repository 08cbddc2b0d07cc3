"""Size against quality: what no other trial beats in both, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connector.recipes import Recipe

Float64 = NDArray[np.float64]

_RESAMPLES = 2_000
_CONFIDENCE = 95


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A recipe, what it takes and what it is worth.

    Args:
        recipe: for the encoder's model.
        bytes_per_passage: mean bytes of all vectors of a passage.
        tokens_per_passage: mean stored token vectors.
        values: (Q,) the measure of each query.
        ms: median milliseconds of a search; None where it was not timed.
    """

    recipe: Recipe
    bytes_per_passage: float
    tokens_per_passage: float
    values: Float64
    ms: float | None = None

    @property
    def mean(self) -> float:
        """The measure."""
        return float(self.values.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Its bootstrap interval, 95 %."""
        return interval(self.values)


def interval(values: Float64) -> tuple[float, float]:
    """Bootstrap interval of a mean, 95 %, by percentiles of 2,000 resamples; always the same ones.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        values: (Q,) of each query.
    """
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1)
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def frontier(trials: Iterable[Trial]) -> list[Trial]:
    """Those that no other trial beats with as few bytes, fewest bytes first."""
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda it: (it.bytes_per_passage, -it.mean)):
        if not found or trial.mean > found[-1].mean:
            found.append(trial)
    return found


def best(trials: Iterable[Trial], budget: float) -> Trial | None:
    """The best trial of at most so many bytes a passage; of equal ones the smaller. None if none fits."""
    fitting = frontier(it for it in trials if it.bytes_per_passage <= budget)
    return fitting[-1] if fitting else None


def smallest_alike(trials: Sequence[Trial], chosen: Trial) -> Trial:
    """The smallest trial whose queries do not show that it is worse than the chosen one.

    That is, the bootstrap interval of the difference, query by query, reaches 0.
    """
    smaller = [it for it in frontier(trials) if it.bytes_per_passage < chosen.bytes_per_passage]
    return next((it for it in smaller if interval(it.values - chosen.values)[1] >= 0), chosen)
