"""Query to hits: candidates are found and scored, and the best documents' texts fetched."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from connector.collection.collection import Collection
from connector.collection.search.candidates import Found, Plan
from connector.collection.search.options import SearchOptions
from connector.collection.search.scored import Scored
from connector.core.types import Embedding, Hit, Hits, unit
from connector.stores import Nearest, Record
from connector.stores.schema import CLS


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates and their order, before their texts are fetched.

    Args:
        plan: how they were searched.
        scored: the candidate passages and their scores.
        order: numbers of the best passages of the best documents, best first.
        ms: milliseconds for "candidates", "rerank" and "feedback".
    """

    plan: Plan
    scored: Scored
    order: list[int]
    ms: dict[str, float]

    @property
    def found(self) -> list[Record]:
        """The candidate passages."""
        return self.scored.found.records

    def scores(self) -> dict[str, float]:
        """Document id to score, best first."""
        return {self.found[i].payload["id"]: float(self.scored.totals[i]) for i in self.order}


def rank(
    collection: Collection, query: Embedding, options: SearchOptions | None = None, *, device: str = "cpu"
) -> Ranking:
    """The k best documents for an encoded query, each by its best passage, without their texts.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        options: how many, and how they are found and scored.
        device: where the client scores, "cpu" or a CUDA device.

    Raises:
        InputError: options contradict each other.
        CollectionError: the collection cannot be searched as asked.
    """
    options = options or SearchOptions()
    plan = Plan.of(collection, query, options, device)
    clock = _Clock()
    if plan.empty:
        return Ranking(plan, Scored(Found([], {}), {}, {}), [], clock.ms)
    ranking = _ranked(plan, clock)
    if options.search_again and (further := _like_the_first(ranking)) is not None:
        return _ranked(replace(plan, further=further), clock)
    return ranking


def _ranked(plan: Plan, clock: _Clock) -> Ranking:
    k, limit = plan.options.k, plan.limit
    wanted = limit if plan.mode == "client" or plan.pooled else k  # Qdrant has sorted out the others
    while True:
        found = plan.candidates(limit, wanted)
        clock.lap("candidates")
        scored = Scored.of(plan, plan.rescored(found))
        clock.lap("rerank")
        scored = scored.with_feedback(plan)
        clock.lap("feedback")
        order = _best_passages(scored, k)
        if plan.pooled or len(order) == k or len(found.records) < wanted:
            return Ranking(plan, scored, order, clock.ms)
        if wanted == limit:  # the passages were of fewer than k documents
            limit *= 2
        wanted = limit


class _Clock:
    """Milliseconds of each stage of a search."""

    def __init__(self) -> None:
        self.ms = {"candidates": 0.0, "rerank": 0.0, "feedback": 0.0}
        self._then = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last call for a stage."""
        now = time.perf_counter()
        self.ms[stage] += 1e3 * (now - self._then)
        self._then = now


def _like_the_first(ranking: Ranking) -> Nearest | None:
    """What finds passages whose CLS vectors are like those of the first two hits; None if there are fewer."""
    plan, first = ranking.plan, [ranking.found[i].id for i in ranking.order[:2]]
    if len(first) < 2:
        return None
    there = plan.collection.store.retrieve(plan.collection.physical, first, [], [CLS])
    if not there:
        return None
    return Nearest(unit(np.mean([it.vectors[CLS] for it in there.values()], axis=0)), CLS, plan.limit)


def fetch(collection: Collection, ranking: Ranking, k: int) -> Hits:
    """The first k hits of a ranking, with their texts. The request counts as time for candidates."""
    started = time.perf_counter()
    hits = _hits(collection, ranking, k)
    ms = ranking.ms | {"candidates": ranking.ms["candidates"] + 1e3 * (time.perf_counter() - started)}
    return Hits(hits, {"encode": 0.0, **ms, "total": sum(ms.values())}, ranking.plan.missing)


def _best_passages(scored: Scored, k: int) -> list[int]:
    """Numbers of the candidates to return: the best passage of each of the k best documents."""
    best: dict[str, int] = {}
    for i in scored.order():
        best.setdefault(scored.found.records[i].payload["id"], i)
        if len(best) == k:
            break
    return list(best.values())


def _hits(collection: Collection, ranking: Ranking, k: int) -> list[Hit]:
    order = ranking.order[:k]
    if not order:
        return []
    texts = collection.store.retrieve(
        collection.physical, [ranking.found[i].id for i in order], ["text", "title", "metadata"]
    )
    # A passage may have been deleted, or marked as unfinished, since the candidates were found.
    return [
        hit_of(ranking.scored, i, texts[ranking.found[i].id])
        for i in order
        if "text" in (texts[ranking.found[i].id].payload if ranking.found[i].id in texts else {})
    ]


def hit_of(scored: Scored, number: int, text: Record) -> Hit:
    """A passage as a hit, with its text."""
    payload = scored.found.records[number].payload
    return Hit(
        id=payload["id"],
        score=float(scored.totals[number]),
        text=text.payload["text"],
        title=text.payload.get("title"),
        metadata=text.payload.get("metadata") or {},
        passage=payload["passage"],
        parts=scored.parts(number),
    )
