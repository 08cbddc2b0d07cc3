"""Trials: recipes, what they take and what they are worth; which to choose, and where they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from connector.collection.recipe import Recipe
from connector.core.io import digest, write_atomically
from connector.evaluation.metrics import Float64
from connector.evaluation.ranking import Ranking


def agreement(reference: Sequence[Ranking], rankings: Sequence[Ranking]) -> Float64:
    """(Q,) which share of the reference's documents each ranking has."""
    pairs = zip(reference, rankings, strict=True)
    return np.array([len(set(one) & set(other)) / max(len(one), 1) for one, other in pairs])


@dataclass(frozen=True)
class Trial:
    """A recipe, what it takes and what it is worth.

    Args:
        recipe: for the encoder's model.
        bytes_per_passage: mean bytes of all vectors of a passage.
        tokens_per_passage: mean stored token vectors.
        values: the measure of each query.
        ms: median milliseconds of a search; None where it was not timed.
    """

    recipe: Recipe
    bytes_per_passage: float
    tokens_per_passage: float
    values: list[float]
    ms: float | None = None

    @property
    def mean(self) -> float:
        """The measure."""
        return float(np.mean(self.values))

    @property
    def interval(self) -> tuple[float, float]:
        """Its bootstrap interval, 95 %."""
        return interval(self.values)


def interval(values: Sequence[float] | Float64) -> tuple[float, float]:
    """Bootstrap interval of a mean, 95 %, by percentiles of 2,000 resamples; always the same ones.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Args:
        values: (Q,) of each query.
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=2_000,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def frontier(trials: Iterable[Trial]) -> list[Trial]:
    """Those that no other trial beats with as few bytes, fewest bytes first."""
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda it: (it.bytes_per_passage, -it.mean, it.recipe.name)):
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
    return next((it for it in smaller if interval(np.subtract(it.values, chosen.values))[1] >= 0), chosen)


_SCORED = (
    *("reduction", "codec", "head", "saliency", "layout", "alignment", "cls"),
    *("query_rows", "query_reduction", "query_weights", "lexical", "length_penalty", "fusion", "feedback"),
)
"""What of a recipe decides a trial."""


_TRIAL = TypeAdapter(Trial)


class Ledger:
    """The folder of one task.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def trial(self, recipe: Recipe) -> Trial | None:
        """The trial of a recipe, whatever it was called; None if there was none, or nothing whole."""
        try:
            kept = _TRIAL.validate_python(self.read(scored_by(recipe)))
        except ValidationError:
            return None
        return replace(kept, recipe=recipe)

    def keep(self, trial: Trial) -> None:
        """Keep a trial, in place of an earlier one of the same recipe."""
        self.write(scored_by(trial.recipe), _TRIAL.dump_python(trial, mode="json"))

    def read(self, name: str) -> Any:
        """What `write` wrote under a name; None if nothing, or nothing whole."""
        try:
            return json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Write a value that JSON can hold."""
        write_atomically(self._folder / f"{name}.json", json.dumps(value).encode())


def scored_by(recipe: Recipe) -> str:
    """16 hexadecimal digits over all of a recipe that decides a trial."""
    return digest([getattr(recipe, field) for field in _SCORED])
