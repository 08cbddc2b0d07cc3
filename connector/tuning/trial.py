"""How well a recipe ranks the passages that CLS vectors find, and how long its searches take."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import ir_measures
import numpy as np
from numpy.typing import NDArray

from connector.coding import Coded
from connector.collection import Collection
from connector.core.io import batched
from connector.points import Material, assembled
from connector.recipes import Recipe
from connector.rerank import asking, scores
from connector.scoring.alignment import parse_alignment
from connector.search import fetch, rank
from connector.stores import open_store
from connector.tuning.ground import DEPTH, Ground, Ranking
from connector.writing import WINDOW

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


def by_cls(ground: Ground) -> list[Ranking]:
    """Rankings without tokens."""
    return [
        ground.ranked(found, ground.cls[found] @ query.cls)
        for query, found in zip(ground.queries, ground.candidates, strict=True)
    ]


def by_tokens(ground: Ground, coded: Coded, recipe: Recipe) -> list[Ranking]:
    """Rankings by a recipe.

    Args:
        ground: what is ranked.
        coded: the passages, as the recipe stores them.
        recipe: says how they are scored.
    """
    codec, queries = coded.codec, ground.queries
    if recipe.salient:
        queries = codec.saliency(queries, "query")
    reduce = recipe.make_query_reduction(ground.frequencies)
    alignment = None if recipe.alignment is None else parse_alignment(recipe.alignment)
    rankings = []
    for query, found in zip(queries, ground.candidates, strict=True):
        asked = asking(codec, *reduce(query), recipe.saliency)
        scored = scores(codec, asked, coded.of(found), alignment, ground.encoder.device)
        rankings.append(ground.ranked(found, scored))
    return rankings


def milliseconds(ground: Ground, recipe: Recipe, coded: Coded | None) -> float:
    """Median time of a search for 10 hits in an embedded Qdrant with these passages, queries encoded before.

    Args:
        ground: what is searched.
        recipe: how.
        coded: the passages as the recipe stores them; None in layout dense.
    """
    most = len(ground.candidates[0])
    with tempfile.TemporaryDirectory(prefix="connector-tune-") as scratch:
        store = open_store(path=scratch)
        try:
            collection = Collection.create(store, "tune", recipe, ground.encoder)
            _write(collection, ground, coded)
            times = []
            for query in [ground.queries[0], *ground.queries[:TIMED]]:  # the first one warms up
                ranking = rank(collection, query, candidates=most, device=ground.encoder.device)
                times.append(fetch(collection, ranking, DEPTH).ms["total"])
        finally:
            store.close()
    return float(np.median(times[1:]))


def _write(collection: Collection, ground: Ground, coded: Coded | None) -> None:
    count = len(ground.cls)
    rows: Sequence[Any] = [None] * count
    saliency: Sequence[Any] = rows
    if coded is not None:
        ends = np.cumsum(coded.lengths)[:-1]
        collection.take_codec(coded.codec)
        collection.counts.counted = ground.frequencies
        collection.counts.store()
        rows = np.split(coded.rows, ends)
        saliency = saliency if coded.saliency is None else np.split(coded.saliency, ends)
    materials = map(Material, ground.cls, rows, saliency)
    for window in batched(zip(ground.task.passages, materials, strict=True), WINDOW):
        points = assembled(collection, *map(list, zip(*window, strict=True)))
        collection.store.upsert(collection.physical, points)
    collection.store.finish(collection.physical)
