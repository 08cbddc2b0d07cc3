"""What all trials have in common: passages and queries, encoded once; how recipes rank and search them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.coding import CodedPassages
from connector.collection.collection import Collection
from connector.collection.documents.passages import points_of
from connector.collection.pipeline import WINDOW, CodedPassage, QueryPipeline, scores
from connector.collection.recipe import Recipe
from connector.collection.search.options import SearchOptions
from connector.compression.reduction import Frequencies
from connector.core.io import batched
from connector.core.types import Float32
from connector.encoders import Encoder
from connector.evaluation.evaluate import searches, temporary_collection
from connector.evaluation.metrics import DEPTH
from connector.evaluation.ranking import Ranking, best_first, nearest
from connector.evaluation.tuning.task import Task
from connector.scoring.alignment import parse_alignment

TIMED = 100
"""Queries of which the time is the median."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Workload:
    """What all trials have in common.

    Args:
        task: passages and queries.
        encoder: of both; a `CachedEncoder` reads what was encoded before.
        candidates: passages that CLS vectors find for each query.
        progress: told how far it is.

    Attributes:
        queries: the encoded queries, in the order of the task's.
        cls: (P, w) float32 CLS vectors of the passages.
        frequencies: how often they have each token.
        candidates: for each query the numbers of the passages nearest by CLS, best first.
    """

    def __init__(
        self, task: Task, encoder: Encoder, candidates: int, progress: Progress = lambda *_: None
    ) -> None:
        self.task, self.encoder, self.progress, self.frequencies = task, encoder, progress, Frequencies()
        texts, vectors = task.texts, list[Float32]()
        for window in batched(texts, WINDOW):
            progress("Encoding", len(vectors), len(texts))
            embeddings = encoder.encode_documents(window)
            self.frequencies.add(embeddings)
            vectors += [embedding.cls for embedding in embeddings]
        progress("Encoding", len(texts), len(texts))
        self.queries, self.cls = encoder.encode_queries(list(task.queries.values())), np.stack(vectors)
        self.candidates = nearest(self.queries, self.cls, candidates)

    def ranked(self, found: NDArray[np.integer], scored: Float32) -> Ranking:
        """The best documents of these passages, each by its best passage."""
        passages = [self.task.passages[it] for it in found]
        return best_first([(it.document.id, it.number) for it in passages], scored.tolist())[:DEPTH]

    def by_cls(self) -> list[Ranking]:
        """Rankings without tokens."""
        pairs = zip(self.queries, self.candidates, strict=True)
        return [self.ranked(found, self.cls[found] @ query.cls) for query, found in pairs]


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
    options = SearchOptions(candidates=len(workload.candidates[0]))
    queries = [workload.queries[0], *workload.queries[:TIMED]]  # the first one warms up
    with temporary_collection(recipe, workload.encoder) as collection:
        _write(collection, workload, coded)
        times = [ms for _, ms in searches(collection, queries, options, workload.encoder.device)]
    return float(np.median(times[1:]))


def _write(collection: Collection, workload: Workload, coded: CodedPassages | None) -> None:
    rows: Sequence[Any] = [None] * len(workload.cls)
    saliency = rows
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
