"""Queries to hits: candidates are found and scored, hits chosen of them, and their texts fetched."""

from __future__ import annotations

import contextvars
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from connector.collection.collection import Collection
from connector.collection.search.candidates import SIMILARITY, Found, Plan
from connector.collection.search.options import SearchOptions
from connector.collection.search.scored import Scored
from connector.collection.search.selection import diverse, documents, groups, values_at
from connector.core.types import Embedding, Hit, Hits, unit
from connector.scoring.maxsim import compute_alone
from connector.stores import Nearest, Record
from connector.stores.schema import CLS

T = TypeVar("T")


R = TypeVar("R")


_LEAST_DOCUMENTS = 10
"""In a pool, if there are as many: where scores do not depend on the pool, it grows until it holds them."""


_ROUNDS = 4
"""Times that further candidates are looked for to fill groups, each time twice as many."""


_FULL_GROUPS = 20
"""That are enough, so that the candidates do not depend on how many groups are asked for."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of a query, scored.

    Args:
        plan: how they were searched.
        scored: the candidate passages and their scores.
        documents: numbers of the best passages of all documents among them, best first.
        more: whether there may be other candidates.
    """

    plan: Plan
    scored: Scored
    documents: list[int]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Ranking:
    """Hits, before their texts are fetched.

    Args:
        pool: the candidates; those that were found to fill groups come after the others.
        order: numbers of the hits' passages, best first, or group after group.
        groups: of each hit the value that it is grouped by; empty without groups.
        ms: milliseconds for "candidates", "rerank" and "feedback".
        note: why there are fewer than were asked for, where that is not all that the collection holds.
    """

    pool: Pool
    order: list[int]
    groups: list[Any]
    ms: dict[str, float]
    note: str | None = None

    @property
    def scored(self) -> Scored:
        """The candidate passages and their scores."""
        return self.pool.scored

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
    """The best documents for an encoded query, each by its best passage, without their texts.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        options: how many, and how they are found and scored.
        device: where the client scores, "cpu" or a CUDA device.

    Raises:
        InputError: options contradict each other.
        CollectionError: the collection cannot be searched as asked.
    """
    (ranking,) = rank_all(collection, [query], options, device=device)
    return ranking


def rank_all(
    collection: Collection,
    queries: Sequence[Embedding],
    options: SearchOptions | None = None,
    *,
    device: str = "cpu",
) -> list[Ranking]:
    """The same for several queries: their candidates are found in one request, and scored in threads."""
    options, clock = options or SearchOptions(), _Clock()
    plans = [Plan.of(collection, query, options, device) for query in queries]
    together = _found_together(collection, [plan for plan in plans if not plan.empty])
    clock.lap("candidates")
    share = {name: ms / max(len(plans), 1) for name, ms in clock.ms.items()}

    def ranked(plan: Plan, found: Found | None) -> Ranking:
        mine = _Clock(share)
        if found is None:
            nothing = Pool(plan, Scored(Found([], {}), {}, {}), [])
            return Ranking(nothing, [], [], mine.ms)
        pool = _pool(plan, found, mine)
        if options.search_again and (further := _like_the_first(pool)) is not None:
            plan = replace(plan, further=further)
            found = plan.candidates(plan.limit)
            mine.lap("candidates")
            pool = _pool(plan, found, mine)
        ranking = _chosen(pool, mine)
        mine.lap("rerank")
        return ranking

    answers = [None if plan.empty else next(together) for plan in plans]
    return _in_threads(ranked, plans, answers)


def _found_together(collection: Collection, plans: Sequence[Plan]) -> Iterator[Found]:
    if not plans:
        return iter(())
    requests = [plan.request(plan.limit) for plan in plans]
    alike = requests[0]  # they have the same options
    answers = collection.store.search_many(
        collection.physical,
        [list(request.queries.values()) for request in requests],
        payload=alike.payload,
        vectors=alike.vectors,
        filter=alike.where,
    )
    return map(Plan.found, plans, requests, answers)


def _in_threads(call: Callable[..., R], *arguments: Sequence[Any]) -> list[R]:
    """What a function gives for each of some arguments; the context, such as a deadline, goes along."""
    if len(arguments[0]) < 2:
        return list(map(call, *arguments))
    contexts = [contextvars.copy_context() for _ in arguments[0]]
    with ThreadPoolExecutor(min(len(contexts), os.cpu_count() or 1), initializer=compute_alone) as threads:
        return list(threads.map(lambda context, *those: context.run(call, *those), contexts, *arguments))


def _pool(plan: Plan, found: Found, clock: _Clock) -> Pool:
    limit = plan.limit
    while True:
        scored = Scored.of(plan, plan.rescored(found))
        clock.lap("rerank")
        scored = scored.with_feedback(plan)
        clock.lap("feedback")
        best, more = documents(scored), len(found.records) >= limit
        if plan.pooled or not more or len(best) >= _LEAST_DOCUMENTS:
            return Pool(plan, scored, best, more)
        limit *= 2
        found = plan.candidates(limit)
        clock.lap("candidates")


class _Clock:
    """Milliseconds of each stage of a search."""

    def __init__(self, spent: dict[str, float] | None = None) -> None:
        self.ms = {"candidates": 0.0, "rerank": 0.0, "feedback": 0.0} | (spent or {})
        self._then = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last call for a stage."""
        now = time.perf_counter()
        self.ms[stage] += 1e3 * (now - self._then)
        self._then = now


def _like_the_first(pool: Pool) -> Nearest | None:
    """What finds passages whose CLS vectors are like those of the first two hits; None if there are fewer."""
    plan, first = pool.plan, [pool.scored.found.records[i].id for i in pool.documents[:2]]
    if len(first) < 2:
        return None
    there = plan.collection.store.retrieve(plan.collection.physical, first, [], [CLS])
    if not there:
        return None
    return Nearest(unit(np.mean([it.vectors[CLS] for it in there.values()], axis=0)), CLS, plan.limit)


def _chosen(pool: Pool, clock: _Clock) -> Ranking:
    """The page of hits that the options ask for."""
    options = pool.plan.options
    if options.group_by is not None:
        return _grouped(pool, clock)
    end = options.offset + options.k
    numbers = _similar_enough(pool)
    similar = len(numbers)
    if options.mmr is not None:
        numbers = _diverse(pool, numbers, end)
    note = _note(pool, similar, "documents") if end > similar else None
    return Ranking(pool, numbers[options.offset : end], [], clock.ms, note)


def _note(pool: Pool, there: int, what: str) -> str | None:
    held, limit = len(pool.documents), pool.plan.limit
    if pool.plan.options.min_similarity is not None and what == "documents" and there < held:
        return f"{there:,} of the {held:,} documents among the candidates are similar enough"
    if not pool.more:
        return None
    return f"the candidates are of {there:,} {what}; candidates= (--candidates) above {limit:,} finds more"


def _diverse(pool: Pool, numbers: list[int], wanted: int) -> list[int]:
    options, found = pool.plan.options, pool.scored.found
    if options.mmr is None or not numbers:
        return numbers
    vectors = unit(found.vectors(pool.plan.diverse_by or "cls", pool.plan.collection)[numbers])
    order = diverse(pool.scored.totals[numbers], vectors, options.mmr, wanted)
    return [numbers[it] for it in order]


def _similar_enough(pool: Pool) -> list[int]:
    least, numbers = pool.plan.options.min_similarity, pool.documents
    if least is None or not numbers:
        return numbers
    return [it for it in numbers if pool.scored.raw[SIMILARITY][it] >= least]


def _grouped(pool: Pool, clock: _Clock) -> Ranking:
    """Groups of hits; further candidates are looked for while groups are not full, or new ones come."""
    options, limit, known = pool.plan.options, pool.plan.limit, 0
    values: dict[str, list[Any]] = {}
    for left in reversed(range(_ROUNDS + 1)):
        numbers = _similar_enough(pool)
        numbers = _diverse(pool, numbers, len(numbers))
        there = groups(numbers, _values(pool, numbers, values), options.group_size)
        full = [members for _, members in there if len(members) == options.group_size]
        enough = len(full) >= _FULL_GROUPS or (len(full) == len(there) == known)
        if enough or not left or not pool.more:
            break
        limit, known = 2 * limit, len(there)
        pool = _extended(pool, limit)
        clock.lap("candidates")
    end = options.offset + options.k
    page = [(value, number) for value, members in there[options.offset : end] for number in members]
    note = _note(pool, len(there), "groups") if end > len(there) else None
    if not there and pool.documents:
        note = f"none of {len(pool.documents):,} documents among the candidates has {options.group_by!r}"
    return Ranking(pool, [number for _, number in page], [value for value, _ in page], clock.ms, note)


def _values(pool: Pool, numbers: list[int], known: dict[str, list[Any]]) -> dict[int, list[Any]]:
    """What each document is grouped by; what was read before is known."""
    collection, key = pool.plan.collection, pool.plan.options.group_by or ""
    ids = {number: pool.scored.found.records[number].id for number in numbers}
    if unread := [id_ for id_ in ids.values() if id_ not in known]:
        there = collection.store.retrieve(collection.physical, unread, ["metadata"])
        known |= {id_: values_at(it.payload.get("metadata") or {}, key) for id_, it in there.items()}
    return {number: known.get(id_, []) for number, id_ in ids.items()}


def _extended(pool: Pool, limit: int) -> Pool:
    """The pool with further candidates, scored as its own are."""
    plan = pool.plan
    found = plan.candidates(limit)
    scored = pool.scored.joined(pool.scored.others(plan, plan.rescored(found)))
    return Pool(plan, scored, documents(scored), len(found.records) >= limit)


def fetch(collection: Collection, rankings: Iterable[Ranking]) -> list[Hits]:
    """The hits of some rankings, with their texts. The request counts as time for candidates."""
    rankings, started = list(rankings), time.perf_counter()
    ids = dict.fromkeys(ranking.found[i].id for ranking in rankings for i in ranking.order)
    texts: dict[str, Record] = {}
    if ids:
        texts = collection.store.retrieve(collection.physical, list(ids), ["text", "title", "metadata"])
    spent = 1e3 * (time.perf_counter() - started) / max(len(rankings), 1)
    found = []
    for ranking in rankings:
        ms = ranking.ms | {"candidates": ranking.ms["candidates"] + spent}
        times = {"encode": 0.0, **ms, "total": sum(ms.values())}
        plan, held = ranking.pool.plan, len(ranking.pool.documents)
        truncated = plan.query.truncated
        found.append(Hits(_hits(ranking, texts), times, plan.missing, held, ranking.note, truncated))
    return found


def _hits(ranking: Ranking, texts: dict[str, Record]) -> list[Hit]:
    # A passage may have been deleted, or marked as unfinished, since the candidates were found.
    there = {id_ for id_, record in texts.items() if "text" in record.payload}
    groups = ranking.groups or [None] * len(ranking.order)
    return [
        replace(hit_of(ranking.scored, i, texts[ranking.found[i].id]), group=group)
        for i, group in zip(ranking.order, groups, strict=True)
        if ranking.found[i].id in there
    ]


def hit_of(scored: Scored, number: int, text: Record) -> Hit:
    """A passage as a hit, with its text."""
    payload, similarity = scored.found.records[number].payload, scored.raw.get(SIMILARITY)
    return Hit(
        id=payload["id"],
        score=float(scored.totals[number]),
        text=text.payload["text"],
        title=text.payload.get("title"),
        metadata=text.payload.get("metadata") or {},
        passage=payload["passage"],
        parts=scored.parts(number),
        similarity=None if similarity is None else float(similarity[number]),
    )
