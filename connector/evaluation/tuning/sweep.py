"""The sweep: a coarse grid, then what lies around the frontier; each trial is kept, and made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from connector.collection.coding import CodedPassages, code
from connector.collection.recipe import RECIPES, Recipe
from connector.compression.codecs.scalar_quantization import stored_bytes
from connector.core.errors import InputError
from connector.core.io import digest
from connector.encoders import Encoder
from connector.encoders.cache import CachedEncoder
from connector.evaluation.metrics import DEPTH, Float64, ndcg
from connector.evaluation.ranking import Ranking
from connector.evaluation.tuning.search_space import DEFAULT, Point, Space, usable
from connector.evaluation.tuning.task import Task
from connector.evaluation.tuning.trials import (
    Ledger,
    Trial,
    agreement,
    best,
    frontier,
    scored_by,
    smallest_alike,
)
from connector.evaluation.tuning.workload import Progress, Workload, by_recipe, milliseconds

_BEYOND = 2
"""Times the budget up to which recipes are tried: what more bytes would buy is worth knowing."""


Measure = Callable[[Sequence[Ranking]], Float64]
"""(Q,) what each query's ranking is worth."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a sweep found.

    Args:
        task: what the recipes were tried on.
        model: the encoder's name.
        measure: "nDCG@10", or "agreement@10", the share of the ten best by `full`, where nothing is judged.
        budget: bytes a passage.
        candidates: passages that CLS vectors, and as many that words find for each query.
        dense: CLS vectors alone.
        hybrid: words and CLS vectors.
        full: all tokens at full width, fused with both.
        trials: all recipes that were tried, up to twice the budget.
        left_out: why some recipes could not be tried.
        finished: whether the sweep came to its end, or Ctrl-C ended it; the same call goes on with it then.
    """

    task: Task
    model: str
    measure: str
    budget: float
    candidates: int
    dense: Trial
    hybrid: Trial
    full: Trial
    trials: list[Trial]
    left_out: list[str]
    finished: bool

    @property
    def frontier(self) -> list[Trial]:
        """What no other trial beats with as few bytes, fewest bytes first."""
        return frontier(self.trials)

    @property
    def best(self) -> Trial | None:
        """The best one within the budget; None if none fits."""
        return best(self.trials, self.budget)

    @property
    def smallest_alike(self) -> Trial | None:
        """The smallest one that the queries do not show to be worse than the best."""
        return None if self.best is None else smallest_alike(self.trials, self.best)


def tune(
    task: Task,
    encoder: Encoder,
    cache: Path,
    *,
    budget: float,
    candidates: int = 200,
    head: str | None = None,
    asked: Mapping[str, str | None] | None = None,
    progress: Progress = lambda *_: None,
) -> Tuning:
    """Look for the recipe that ranks best in at most so many bytes a passage.

    Ctrl-C ends it with what was found until then, once there is something to compare by.

    Args:
        task: passages and queries.
        encoder: of both.
        cache: folder that keeps embeddings and trials; the same call goes on where one was cut off.
        budget: bytes a passage, of all its vectors and of the index of words.
        candidates: passages that CLS vectors, and as many that words find for each query.
        head: of codecs with trained layers, which are not tried without it; "own" is the one that comes for
            the model.
        asked: what all recipes have in place of what would be tried: query_rows, query_weights, fusion or
            feedback.
        progress: told how far it is.

    Raises:
        InputError: no recipe is so small, or there is nothing to compare by.
        RecipeError: the head is none for the encoder, or recipes cannot be asked so.
    """
    least = stored_bytes(DEFAULT.cls, encoder.cls_width)
    if budget <= least:
        raise InputError(
            f"the budget is {budget:,.0f} bytes a passage, and a CLS vector alone takes {least}; give more"
        )
    if candidates < 1:
        raise InputError(f"candidates is {candidates}; give at least 1")
    if task.qrels is None and task.sampled <= DEPTH:
        raise InputError(
            f"{task.name} has {task.sampled} documents, and recipes are compared by their {DEPTH} best; give "
            "more documents, or judgements"
        )
    space = Space(encoder.token_width, head, task.qrels is not None, asked)
    space.check_head(encoder)
    floats = space.floats.for_model(encoder.fingerprint, encoder.late_interaction)
    library, arrays = version("qdrant-late-interaction"), space.head_digest(encoder)
    key = digest([library, encoder.fingerprint, arrays, task.digest, candidates, scored_by(floats)])
    ledger = Ledger(cache / f"tune-{key}")
    workload = Workload(task, CachedEncoder(encoder, cache), candidates, progress)
    needed = workload.bytes_per_passage(floats)
    if budget <= needed:
        raise InputError(
            f"the budget is {budget:,.0f} bytes a passage, and a CLS vector and its words take "
            f"{needed:,.0f}; give more"
        )
    full, measure = _full(workload, ledger, floats)
    rankings = {"dense": workload.by_cls, "hybrid": workload.by_words_and_cls}
    others = [
        ledger.trial(it)
        or Trial(it, workload.bytes_per_passage(it), 0.0, measure(rankings[it.name]()).tolist())
        for it in map(RECIPES.__getitem__, rankings)
    ]
    sweep = _Sweep(workload, ledger, measure, space, others, full.tokens_per_passage, _BEYOND * budget)
    finished = sweep.run()
    return Tuning(
        task=task,
        model=encoder.name,
        measure=f"{'agreement' if task.qrels is None else 'nDCG'}@{DEPTH}",
        budget=budget,
        candidates=candidates,
        dense=sweep.others[0],
        hybrid=sweep.others[1],
        full=full,
        trials=sorted(sweep.trials.values(), key=lambda it: (it.bytes_per_passage, -it.mean, it.recipe.name)),
        left_out=list(sweep.left_out),
        finished=finished,
    )


def _full(workload: Workload, ledger: Ledger, recipe: Recipe) -> tuple[Trial, Measure]:
    """All tokens at full width, and what the rankings of all trials are measured by."""
    task = workload.task
    kept = ledger.read("full")
    if not isinstance(kept, list) or len(kept) != 3:
        texts = task.texts
        (coded,) = code(
            texts, workload.encoder, [recipe], lambda it: workload.progress("All tokens", it, len(texts))
        )
        tokens = float(coded.lengths.mean())
        kept = [workload.bytes_per_passage(recipe, coded), tokens, by_recipe(workload, coded, recipe)]
        ledger.write("full", kept)
    size, tokens, rankings = kept
    if task.qrels is None:
        measure: Measure = partial(agreement, rankings)
    else:
        measure = partial(ndcg, grades=[task.qrels[query] for query in task.queries])
    return Trial(recipe, size, tokens, measure(rankings).tolist()), measure


@dataclass(slots=True)
class _Sweep:
    """The trials of one call.

    Args:
        workload: what they have in common.
        ledger: keeps them.
        measure: what rankings are worth.
        space: what is tried.
        others: trials of recipes without tokens.
        tokens: mean tokens of a passage.
        most: bytes a passage; what takes more is not tried.
        trials: what was tried.
        left_out: why other recipes could not be, each reason once.
    """

    workload: Workload
    ledger: Ledger
    measure: Measure
    space: Space
    others: list[Trial]
    tokens: float
    most: float
    trials: dict[Point, Trial] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    _met: set[Point] = field(default_factory=set)
    _codes: dict[tuple[Any, ...], CodedPassages] = field(default_factory=dict)

    def run(self) -> bool:
        """Try, and time the searches of the frontier; whether all of it was done before Ctrl-C."""
        try:
            batch = self.space.coarse()
            while batch:
                self._try(batch)
                batch = [point for point in self.space.around(self._frontier()) if point not in self._met]
            self._time()
        except KeyboardInterrupt:
            return False
        return True

    def _time(self) -> None:
        points, done = self._frontier(), 0
        count = len(self.others) + len(points)
        for number, trial in enumerate(self.others):
            self.others[number] = self._timed(trial)
            self.workload.progress("Timing searches", done := done + 1, count)
        for point in points:
            self.trials[point] = self._timed(self.trials[point])
            self.workload.progress("Timing searches", done := done + 1, count)

    def _timed(self, trial: Trial) -> Trial:
        """The trial with the time of a search."""
        if trial.ms is None:
            coded = None if trial.recipe.codec is None else self._coded([trial.recipe])[0]
            trial = replace(trial, ms=milliseconds(self.workload, trial.recipe, coded))
            self.ledger.keep(trial)
        return trial

    def _frontier(self) -> list[Point]:
        found = frontier(self.trials.values())
        return [point for point, trial in self.trials.items() if trial in found]

    def _try(self, batch: Sequence[Point]) -> None:
        """Try these combinations, as far as they are possible and small enough."""
        self._met.update(batch)
        todo: dict[str, dict[Point, Recipe]] = {}
        for point in batch:
            recipe = self._possible(point)
            if isinstance(recipe, str):
                self.left_out[recipe] = None
            elif recipe is not None and (kept := self.ledger.trial(recipe)):
                self.trials[point] = kept
            elif recipe is not None:
                todo.setdefault(point.reduction, {})[point] = recipe
        done, count = 0, sum(map(len, todo.values()))
        for recipes in todo.values():
            coded = self._coded(list(recipes.values()))
            for (point, recipe), passages in zip(recipes.items(), coded, strict=True):
                self.workload.progress("Trying recipes", done, count)
                self.trials[point] = self._tried(recipe, passages)
                done += 1
            self._forget()
        self.workload.progress("Trying recipes", done, count)

    def _possible(self, point: Point) -> Recipe | str | None:
        """The recipe of a combination, or why it cannot be tried; None if it is too large."""
        encoder = self.workload.encoder
        recipe = usable(self.space.recipe(point), encoder)
        if isinstance(recipe, str):
            return recipe
        codec, rows = recipe.make_codec(), self.tokens * point.share
        row = codec.bytes_per_token(encoder.token_width) + recipe.saliency
        if self.workload.bytes_per_passage(recipe) + row * rows > self.most:
            return None
        if rows * len(self.workload.cls) < codec.least_sample:
            return f"{codec.spec}, which learns from more token vectors than these passages have"
        return recipe

    def _tried(self, recipe: Recipe, coded: CodedPassages) -> Trial:
        values = self.measure(by_recipe(self.workload, coded, recipe)).tolist()
        size = self.workload.bytes_per_passage(recipe, coded)
        trial = Trial(recipe, size, float(coded.lengths.mean()), values)
        self.ledger.keep(trial)
        return trial

    def _coded(self, recipes: Sequence[Recipe]) -> list[CodedPassages]:
        """The passages under each of some recipes with the same reduction, reduced once for all."""
        missing = {_stored(it): it for it in recipes if _stored(it) not in self._codes}
        if missing:
            texts = self.workload.task.texts
            made = code(
                texts,
                self.workload.encoder,
                list(missing.values()),
                lambda done: self.workload.progress("Reducing", done, len(texts)),
            )
            self._codes |= zip(missing, made, strict=True)
        return [self._codes[_stored(it)] for it in recipes]

    def _forget(self) -> None:
        """Hold the codes of the frontier alone, whose neighbours are tried and whose searches are timed."""
        held = {_stored(self.trials[point].recipe) for point in self._frontier()}
        self._codes = {stored: coded for stored, coded in self._codes.items() if stored in held}


def _stored(recipe: Recipe) -> tuple[Any, ...]:
    """What of a recipe decides the codes of its tokens."""
    return recipe.reduction, recipe.codec, recipe.head, recipe.saliency
