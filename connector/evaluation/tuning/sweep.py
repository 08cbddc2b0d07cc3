"""The sweep: a coarse grid, then what lies around the frontier; each trial is kept, and made once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from connector.collection.pipeline import CodedPassages, code
from connector.collection.recipe import RECIPES, Recipe
from connector.compression.codecs.base import stored_bytes
from connector.compression.heads import OWN
from connector.core.errors import InputError
from connector.core.io import to_json
from connector.encoders import Encoder
from connector.encoders.cache import CachedEncoder
from connector.evaluation.tuning.search_space import CLS, Point, around, check_head, coarse, digest_of, usable
from connector.evaluation.tuning.task import (
    DEPTH,
    FOR_TRIALS,
    Clock,
    OutOfTime,
    Progress,
    Ranking,
    Task,
    Workload,
    workload_of,
)
from connector.evaluation.tuning.trials import (
    Float64,
    Ledger,
    Trial,
    agreement,
    best,
    by_cls,
    by_tokens,
    frontier,
    milliseconds,
    ndcg,
    smallest_alike,
)

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
        candidates: passages that CLS vectors find for each query, and tokens order.
        dense: CLS vectors alone.
        full: all tokens at full width, scored by MaxSim.
        trials: all recipes that were tried, up to twice the budget.
        left_out: why some recipes could not be tried.
        finished: whether the sweep came to its end; if not, the same call goes on with it.
    """

    task: Task
    model: str
    measure: str
    budget: float
    candidates: int
    dense: Trial
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
    head: str = OWN,
    minutes: float | None = None,
    progress: Progress = lambda *_: None,
) -> Tuning:
    """Look for the recipe that ranks best in at most so many bytes a passage.

    Args:
        task: passages and queries.
        encoder: of both.
        cache: folder that keeps embeddings, codes and trials; the same call goes on where one was cut off.
        budget: bytes a passage, of all its vectors.
        candidates: passages that CLS vectors find for each query.
        head: of codecs with trained layers; "own" is the one that comes for the model.
        minutes: stop after about so many, between two steps; what is done is kept.
        progress: told how far it is.

    Raises:
        InputError: no recipe is so small, or the time was over before anything could be compared, or there
            is nothing to compare by.
        RecipeError: the head is none for the encoder.
    """
    least = stored_bytes(CLS, encoder.cls_width)
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
    check_head(head, encoder)
    clock = Clock(minutes)
    cached = CachedEncoder(encoder, cache)
    key = [
        version("qdrant-late-interaction"),
        encoder.fingerprint,
        digest_of(head, encoder),
        task.digest,
        candidates,
    ]
    ledger = Ledger(cache / f"tune-{hashlib.sha256(to_json(key).encode()).hexdigest()[:16]}")
    workload = workload_of(task, cached, candidates, clock, progress)
    full, measure = _full(workload, ledger, progress)
    dense = ledger.trial(RECIPES["dense"]) or Trial(
        RECIPES["dense"], stored_bytes("float32", encoder.cls_width), 0.0, measure(by_cls(workload))
    )
    sweep = _Sweep(
        workload, ledger, measure, full.tokens_per_passage, _BEYOND * budget, head, clock, progress
    )
    finished = sweep.run()
    return Tuning(
        task=task,
        model=encoder.name,
        measure=f"{'agreement' if task.qrels is None else 'nDCG'}@{DEPTH}",
        budget=budget,
        candidates=candidates,
        dense=sweep.timed(dense),
        full=full,
        trials=sorted(sweep.trials.values(), key=lambda it: (it.bytes_per_passage, -it.mean, it.recipe.name)),
        left_out=list(sweep.left_out),
        finished=finished,
    )


def _full(workload: Workload, ledger: Ledger, progress: Progress) -> tuple[Trial, Measure]:
    """All tokens at full width, and what the rankings of all trials are measured by."""
    recipe, task = RECIPES["colbert"], workload.task
    kept = ledger.read("full")
    if not isinstance(kept, list) or len(kept) != 3:
        texts = task.texts
        (coded,) = code(
            texts, workload.encoder, [recipe], lambda done: progress("All tokens", done, len(texts))
        )
        tokens = float(coded.lengths.mean())
        kept = [coded.bytes_per_passage, tokens, by_tokens(workload, coded, recipe)]
        ledger.write("full", kept)
    size, tokens, rankings = kept
    if task.qrels is None:
        measure: Measure = partial(agreement, rankings)
    else:
        measure = partial(ndcg, task.qrels, list(task.queries))
    return Trial(recipe, size, tokens, measure(rankings)), measure


class _Sweep:
    """The trials of one call.

    Args:
        workload: what they have in common.
        ledger: keeps them.
        measure: what rankings are worth.
        tokens: mean tokens of a passage.
        most: bytes a passage; what takes more is not tried.
        head: of codecs with trained layers.
        clock: of the call.
        progress: told how far it is.

    Attributes:
        trials: what was tried.
        left_out: why other recipes could not be, each reason once.
    """

    def __init__(
        self,
        workload: Workload,
        ledger: Ledger,
        measure: Measure,
        tokens: float,
        most: float,
        head: str,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self.trials: dict[Point, Trial] = {}
        self.left_out: dict[str, None] = {}
        self._workload, self._ledger, self._measure = workload, ledger, measure
        self._tokens, self._most, self._head = tokens, most, head
        self._clock, self._progress = clock, progress
        self._texts = workload.task.texts
        self._met: set[Point] = set()

    def run(self) -> bool:
        """Try, and time the searches of the frontier; whether there was time for all of it."""
        finished = True
        try:
            batch = coarse()
            while batch:
                self._try(batch)
                batch = [point for point in around(self._frontier()) if point not in self._met]
        except OutOfTime:
            finished = False
        frontier = self._frontier()
        for place, point in enumerate(frontier):
            self._progress("Timing searches", place, len(frontier))
            self.trials[point] = self.timed(self.trials[point])
        self._progress("Timing searches", len(frontier), len(frontier))
        return finished and all(self.trials[point].ms is not None for point in frontier)

    def timed(self, trial: Trial) -> Trial:
        """The trial with the time of a search, if there is time to take it."""
        if trial.ms is not None or self._clock.over():
            return trial
        try:
            coded = None if trial.recipe.codec is None else self._coded(trial.recipe)
        except OutOfTime:  # its codes were lost, and there is none to make them again
            return trial
        trial = replace(trial, ms=milliseconds(self._workload, trial.recipe, coded))
        self._ledger.keep(trial)
        return trial

    def _frontier(self) -> list[Point]:
        found = frontier(self.trials.values())
        return [point for point, trial in self.trials.items() if trial in found]

    def _try(self, batch: Sequence[Point]) -> None:
        """Try these combinations, as far as they are possible and small enough."""
        self._met.update(batch)
        todo: dict[tuple[str, str], dict[Point, Recipe]] = {}
        for point in batch:
            recipe = self._possible(point)
            if recipe is None:
                continue
            kept = self._ledger.trial(recipe)
            if kept is None:
                todo.setdefault((point.ladder, point.steps), {})[point] = recipe
            else:
                self.trials[point] = kept
        done, count = 0, sum(map(len, todo.values()))
        for recipes in todo.values():
            self._code(list(recipes.values()))
            for point, recipe in recipes.items():
                self._check_time()
                self._progress("Trying recipes", done, count)
                self.trials[point] = self._trial(recipe)
                done += 1
        self._progress("Trying recipes", done, count)

    def _possible(self, point: Point) -> Recipe | None:
        """The recipe of a combination; None if it is too large, or something that it takes is not there."""
        recipe = usable(point.recipe(self._head), self._workload.encoder)
        if isinstance(recipe, str):
            self.left_out[recipe] = None
            return None
        codec, encoder, rows = recipe.make_codec(), self._workload.encoder, self._tokens * point.share
        row = codec.bytes_per_token(encoder.token_width) + recipe.saliency
        if stored_bytes(recipe.cls, encoder.cls_width) + row * rows > self._most:
            return None
        if rows * len(self._texts) < codec.least_sample:
            self.left_out[f"{codec.spec}, which learns from more token vectors than these passages have"] = (
                None
            )
            return None
        return recipe

    def _trial(self, recipe: Recipe) -> Trial:
        coded = self._coded(recipe)
        values = self._measure(by_tokens(self._workload, coded, recipe))
        trial = Trial(recipe, coded.bytes_per_passage, float(coded.lengths.mean()), values)
        self._ledger.keep(trial)
        return trial

    def _coded(self, recipe: Recipe) -> CodedPassages:
        kept = self._ledger.codes(recipe, self._workload.encoder.cls_width)
        if kept is None:
            self._code([recipe])
            return self._coded(recipe)
        return kept

    def _code(self, recipes: Sequence[Recipe]) -> None:
        """Make and keep the codes of recipes with the same reduction, where there are none yet."""
        encoder = self._workload.encoder
        missing = {
            stored: recipe
            for stored, recipe in ((Ledger.stored(recipe), recipe) for recipe in recipes)
            if self._ledger.codes(recipe, encoder.cls_width) is None
        }
        if not missing:
            return

        def step(done: int) -> None:
            self._check_time()
            self._progress("Reducing", done, len(self._texts))

        for coded in code(self._texts, encoder, list(missing.values()), step):
            self._ledger.keep_codes(coded)

    def _check_time(self) -> None:
        if self._clock.over(FOR_TRIALS):
            raise OutOfTime
