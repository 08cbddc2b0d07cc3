"""How well a recipe ranks the passages that CLS vectors find, and how long its searches take."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from connector.collection.collection import Collection
from connector.collection.documents.points import points_of
from connector.collection.pipeline import WINDOW, CodedPassage, CodedPassages, QueryPipeline, scores
from connector.collection.recipe import Recipe
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import fetch, rank
from connector.core.errors import InputError
from connector.core.io import batched, to_json
from connector.evaluation.tuning.task import DEPTH, Ranking, Workload
from connector.scoring.alignment import parse_alignment
from connector.stores import open_store

Float64 = NDArray[np.float64]


TIMED = 100
"""Queries of which the time is the median."""


def ndcg(
    qrels: Mapping[str, Mapping[str, int]], queries: Sequence[str], rankings: Sequence[Ranking]
) -> Float64:
    """(Q,) nDCG@10 of each query's ranking."""
    run = {
        query: {document: -float(place) for place, document in enumerate(ranking)}
        for query, ranking in zip(queries, rankings, strict=True)
    }
    judged = {query: dict(qrels[query]) for query in queries}
    values = dict.fromkeys(queries, 0.0)
    for result in ir_measures.iter_calc([ir_measures.nDCG @ DEPTH], judged, run):
        values[result.query_id] = result.value
    return np.array(list(values.values()))


def agreement(reference: Sequence[Ranking], rankings: Sequence[Ranking]) -> Float64:
    """(Q,) which share of the reference's documents each ranking has."""
    pairs = zip(reference, rankings, strict=True)
    return np.array([len(set(one) & set(other)) / max(len(one), 1) for one, other in pairs])


def by_cls(workload: Workload) -> list[Ranking]:
    """Rankings without tokens."""
    return [
        workload.ranked(found, workload.cls[found] @ query.cls)
        for query, found in zip(workload.queries, workload.candidates, strict=True)
    ]


def by_tokens(workload: Workload, coded: CodedPassages, recipe: Recipe) -> list[Ranking]:
    """Rankings by a recipe.

    Args:
        workload: what is ranked.
        coded: the passages, as the recipe stores them.
        recipe: says how they are scored.
    """
    codec, pipeline = coded.codec, QueryPipeline(recipe, workload.frequencies)
    alignment = None if recipe.alignment is None else parse_alignment(recipe.alignment)
    rankings = []
    for query, found in zip(workload.queries, workload.candidates, strict=True):
        scored = scores(codec, pipeline(query, codec), coded.of(found), alignment, workload.encoder.device)
        rankings.append(workload.ranked(found, scored))
    return rankings


def milliseconds(workload: Workload, recipe: Recipe, coded: CodedPassages | None) -> float:
    """Median time of a search for 10 hits in an embedded Qdrant with these passages, queries encoded before.

    Args:
        workload: what is searched.
        recipe: how.
        coded: the passages as the recipe stores them; None in layout dense.
    """
    most = len(workload.candidates[0])
    with tempfile.TemporaryDirectory(prefix="connector-tune-") as scratch:
        store = open_store(path=scratch)
        try:
            collection = Collection.create(store, "tune", recipe, workload.encoder)
            _write(collection, workload, coded)
            times = []
            for query in [workload.queries[0], *workload.queries[:TIMED]]:  # the first one warms up
                ranking = rank(
                    collection, query, SearchOptions(candidates=most), device=workload.encoder.device
                )
                times.append(fetch(collection, ranking, DEPTH).ms["total"])
        finally:
            store.close()
    return float(np.median(times[1:]))


def _write(collection: Collection, workload: Workload, coded: CodedPassages | None) -> None:
    count = len(workload.cls)
    rows: Sequence[Any] = [None] * count
    saliency: Sequence[Any] = rows
    if coded is not None:
        ends = np.cumsum(coded.lengths)[:-1]
        collection.take_codec(coded.codec)
        collection.frequencies.for_passages = workload.frequencies
        collection.frequencies.store()
        rows = np.split(coded.rows, ends)
        saliency = saliency if coded.saliency is None else np.split(coded.saliency, ends)
    materials = map(CodedPassage, workload.cls, rows, saliency)
    for window in batched(zip(workload.task.passages, materials, strict=True), WINDOW):
        points = points_of(collection, *map(list, zip(*window, strict=True)))
        collection.store.upsert(collection.physical, points)
    collection.store.finish(collection.physical)


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
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,),
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


_STORED = ("reduction", "codec", "head", "saliency")
"""What of a recipe decides the codes of its tokens."""


_SCORED = (*_STORED, "layout", "alignment", "cls", "query_reduction")
"""What decides a trial."""


class Ledger:
    """The folder of one task.

    Args:
        folder: made if missing.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be made: {error.strerror}; give another with --cache"
            ) from error

    def trial(self, recipe: Recipe) -> Trial | None:
        """The trial of a recipe, whatever it was called; None if there was none."""
        try:
            kept = self.read(_name(recipe, _SCORED))
            values = np.array(kept["values"], np.float64)
            ms = None if kept["ms"] is None else float(kept["ms"])
            return Trial(recipe, float(kept["bytes"]), float(kept["tokens"]), values, ms)
        except (KeyError, TypeError, ValueError):  # there was none, or its file is damaged
            return None

    def keep(self, trial: Trial) -> None:
        """Keep a trial, in place of an earlier one of the same recipe."""
        kept = {
            "recipe": trial.recipe.name,
            "bytes": trial.bytes_per_passage,
            "tokens": trial.tokens_per_passage,
            "ms": trial.ms,
            "values": trial.values.tolist(),
        }
        self.write(_name(trial.recipe, _SCORED), kept)

    def codes(self, recipe: Recipe, cls_width: int) -> CodedPassages | None:
        """The passages under a recipe; None if nothing is kept, or it cannot be read."""
        try:
            arrays = load_file(self._codes(recipe))
            codec = recipe.make_codec().load(arrays["codec"].tobytes())
        except (FileNotFoundError, SafetensorError, KeyError, InputError):
            return None
        return CodedPassages(
            recipe, codec, arrays["rows"], arrays["lengths"], arrays.get("saliency"), cls_width
        )

    def keep_codes(self, coded: CodedPassages) -> None:
        """Keep the passages under a recipe."""
        arrays = {"rows": coded.rows, "lengths": coded.lengths}
        arrays["codec"] = np.frombuffer(coded.codec.save(), np.uint8)
        if coded.saliency is not None:
            arrays["saliency"] = coded.saliency
        path = self._codes(coded.recipe)
        temporary = path.with_suffix(".tmp")
        save_file(arrays, temporary)
        temporary.replace(path)

    def read(self, name: str) -> Any:
        """What `write` wrote under a name; None if nothing, or nothing whole."""
        try:
            return json.loads((self._folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def write(self, name: str, value: Any) -> None:
        """Write a value that JSON can hold."""
        path = self._folder / f"{name}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(path)

    @staticmethod
    def stored(recipe: Recipe) -> str:
        """Alike for recipes that store the same codes."""
        return _name(recipe, _STORED)

    def _codes(self, recipe: Recipe) -> Path:
        return self._folder / f"{self.stored(recipe)}.safetensors"


def _name(recipe: Recipe, fields: tuple[str, ...]) -> str:
    content = to_json([getattr(recipe, field) for field in fields])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
