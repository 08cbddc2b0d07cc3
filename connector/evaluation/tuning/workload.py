"""What all trials have in common: passages and queries, encoded once; how recipes rank and search them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.coding import CodedPassages
from connector.collection.collection import Collection
from connector.collection.documents.passages import points_of, text_of
from connector.collection.documents.writer import WORD_BYTES
from connector.collection.pipeline import WINDOW, CodedPassage, QueryPipeline
from connector.collection.recipe import RECIPES, Recipe
from connector.collection.search.candidates import Plan
from connector.collection.search.found import Found
from connector.collection.search.options import search_options
from connector.collection.search.scored import Scored
from connector.compression.codecs.scalar_quantization import stored_bytes
from connector.compression.reduction import Frequencies
from connector.core.io import batched
from connector.core.types import Float32
from connector.encoders import Encoder
from connector.encoders.long_queries import tell_of_long
from connector.evaluation.evaluate import searches, temporary_collection
from connector.evaluation.metrics import DEPTH
from connector.evaluation.ranking import Ranking, best_first, nearest
from connector.evaluation.tuning.task import Task
from connector.stores import Record

TIMED = 100
"""Queries of which the time is the median."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a search finds for one query before tokens are scored.

    Args:
        plan: of the search, by words and CLS vectors.
        found: passages, and their scores by both.
        numbers: (P,) of these passages among the task's.
        own: the id of a document that rankings leave out, if there is one.
    """

    plan: Plan
    found: Found
    numbers: NDArray[np.intp]
    own: str | None

    def by_cls(self) -> Candidates:
        """Those that CLS vectors alone find."""
        nearest = np.sort(np.argsort(-self.found.raw["cls"], kind="stable")[: self.plan.limit])
        raw = {name: scores[nearest] for name, scores in self.found.raw.items()}
        records = [self.found.records[it] for it in nearest]
        return Candidates(self.plan, Found(records, raw), self.numbers[nearest], self.own)


class Workload:
    """What all trials have in common.

    Args:
        task: passages and queries.
        encoder: of both; a `CachedEncoder` reads what was encoded before.
        candidates: passages that CLS vectors, and as many that words find for each query.
        progress: told how far it is.

    Attributes:
        queries: the encoded queries, in the order of the task's.
        cls: (P, w) float32 CLS vectors of the passages.
        frequencies: how often they have each token.
        candidates: of each query.
        word_bytes: mean bytes of a passage in the index of words.
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
        tell_of_long(self.queries)
        self.options = search_options(k=DEPTH, candidates=candidates)
        with temporary_collection(RECIPES["hybrid"], encoder) as collection:
            words = _write(collection, self, None)
            self.candidates = self._found(collection)
        self.word_bytes = WORD_BYTES * words / len(texts)

    def _found(self, collection: Collection) -> list[Candidates]:
        passages = self.task.passages
        numbers = {(it.document.id, it.number): place for place, it in enumerate(passages)}
        once: dict[str, Record] = {}  # not again for each query
        candidates = []
        for query, id_ in zip(self.queries, self.task.queries, strict=True):
            plan = Plan.of(collection, query, self.options, self.encoder.device)
            found = plan.candidates(plan.limit)
            found = replace(found, records=[once.setdefault(it.id, it) for it in found.records])
            places = [numbers[it.payload["id"], it.payload["passage"]] for it in found.records]
            own = id_ if id_ in self.task.own else None
            candidates.append(Candidates(plan, found, np.array(places, np.intp), own))
        return candidates

    def bytes_per_passage(self, recipe: Recipe, coded: CodedPassages | None = None) -> float:
        """Mean bytes of all vectors of a passage, as `connector evaluate` counts them.

        Args:
            recipe: what is stored.
            coded: its tokens; None if there are none.
        """
        words = 0.0 if recipe.lexical is None else self.word_bytes
        cls = float(stored_bytes(recipe.cls, self.encoder.cls_width))
        return words + (cls if coded is None else coded.bytes_per_passage)

    def by_cls(self) -> list[Ranking]:
        """Rankings by CLS vectors alone, at full width."""
        places = [(it.document.id, it.number) for it in self.task.passages]
        found = nearest(self.queries, self.cls, self.candidates[0].plan.limit)
        return [
            _best([places[it] for it in numbers], (self.cls[numbers] @ query.cls).tolist(), candidates.own)
            for query, numbers, candidates in zip(self.queries, found, self.candidates, strict=True)
        ]

    def by_words_and_cls(self) -> list[Ranking]:
        """Rankings by the recipe hybrid."""
        return [_of_search(Scored.of(it.plan, it.found).with_feedback(it.plan), it) for it in self.candidates]


def by_recipe(workload: Workload, coded: CodedPassages, recipe: Recipe) -> list[Ranking]:
    """Rankings by a recipe, as a search of a collection with these passages gives them.

    Args:
        workload: what is ranked.
        coded: the passages, as the recipe stores them.
        recipe: of layout codes; says how they are scored.
    """
    codec, pipeline = coded.codec, QueryPipeline(recipe, workload.frequencies)
    collection = workload.candidates[0].plan.collection.as_if(recipe, codec)
    strategy = collection.strategy
    rankings = []
    for query, candidates in zip(workload.queries, workload.candidates, strict=True):
        known = candidates if strategy.fusion.bm25 else candidates.by_cls()
        plan = replace(
            known.plan,
            collection=collection,
            mode="client",
            fusion=strategy.fusion,
            alignment=strategy.alignment,
            query_tokens=pipeline(query, codec),
        )
        found = plan.rescored(replace(known.found, tokens=coded.of(known.numbers)))
        rankings.append(_of_search(Scored.of(plan, found).with_feedback(plan), known))
    return rankings


def _of_search(scored: Scored, candidates: Candidates) -> Ranking:
    payloads = [record.payload for record in scored.found.records]
    passages = [(it["id"], it["passage"]) for it in payloads]
    return _best(passages, scored.totals.tolist(), candidates.own)


def _best(passages: Sequence[tuple[str, int]], scores: Sequence[float], own: str | None) -> Ranking:
    """The best documents, each by its best passage, without the query's own."""
    return [document for document in best_first(passages, scores) if document != own][:DEPTH]


def milliseconds(workload: Workload, recipe: Recipe, coded: CodedPassages | None) -> float:
    """Median time of a search for 10 hits in an embedded Qdrant with these passages, queries encoded before.

    Args:
        workload: what is searched.
        recipe: how.
        coded: the passages as the recipe stores them; None in layout dense.
    """
    queries = [workload.queries[0], *workload.queries[:TIMED]]  # the first one warms up
    with temporary_collection(recipe, workload.encoder) as collection:
        _write(collection, workload, coded)
        collection.store.finish(collection.physical)
        times = [ms for _, ms in searches(collection, queries, workload.options, workload.encoder.device)]
    return float(np.median(times[1:]))


def _write(collection: Collection, workload: Workload, coded: CodedPassages | None) -> int:
    """Write the passages, and give how many words the index has of them, each once a passage.

    Until the engine has built its graph, searches compare all CLS vectors.
    """
    rows: Sequence[Any] = [None] * len(workload.cls)
    saliency = rows
    if coded is not None:
        ends = np.cumsum(coded.lengths)[:-1]
        collection.take_codec(coded.codec)
        collection.frequencies.for_passages = workload.frequencies
        collection.frequencies.store()
        rows = np.split(coded.rows, ends)
        saliency = saliency if coded.saliency is None else np.split(coded.saliency, ends)
    if collection.recipe.lexical is not None:
        collection.count_words(map(text_of, workload.task.passages))
    words = 0
    materials = map(CodedPassage, workload.cls, rows, saliency)
    for window in batched(zip(workload.task.passages, materials, strict=True), WINDOW):
        points = points_of(collection, *map(list, zip(*window, strict=True)))
        collection.store.upsert(collection.physical, points)
        words += sum(point.payload.get("words", 0) for point in points)
    return words
