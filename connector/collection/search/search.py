"""Queries to hits: candidates are found and scored, hits chosen of them, and their texts fetched."""

from __future__ import annotations

import contextvars
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from connector.collection.collection import Collection
from connector.collection.search.candidates import Plan
from connector.collection.search.found import SIMILARITY, Found
from connector.collection.search.options import SearchOptions
from connector.collection.search.page import Clock, Pool, Ranking, chosen
from connector.collection.search.scored import Scored
from connector.collection.search.selection import documents
from connector.core.types import Embedding, Hit, Hits, unit
from connector.scoring.maxsim import compute_alone
from connector.stores import Nearest, Record
from connector.stores.schema import CLS

R = TypeVar("R")


_LEAST_DOCUMENTS = 10
"""In a pool, if there are as many: where scores do not depend on the pool, it grows until it holds them."""


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
    options, clock = options or SearchOptions(), Clock()
    plans = [Plan.of(collection, query, options, device) for query in queries]
    together = _found_together(collection, [plan for plan in plans if not plan.empty])
    clock.lap("candidates")
    share = {name: ms / max(len(plans), 1) for name, ms in clock.ms.items()}

    def ranked(plan: Plan, found: Found | None) -> Ranking:
        mine = Clock(share)
        if found is None:
            nothing = Pool(plan, Scored(Found([], {}), {}, {}), [])
            return Ranking(nothing, [], [], mine.ms)
        pool = _pool(plan, found, mine)
        if options.search_again and (further := _like_the_first(pool)) is not None:
            plan = replace(plan, further=further)
            found = plan.candidates(plan.limit)
            mine.lap("candidates")
            pool = _pool(plan, found, mine)
        ranking = chosen(pool, mine)
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


def _pool(plan: Plan, found: Found, clock: Clock) -> Pool:
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


def _like_the_first(pool: Pool) -> Nearest | None:
    """What finds passages whose CLS vectors are like those of the first two hits; None if there are fewer."""
    plan, first = pool.plan, [pool.scored.found.records[i].id for i in pool.documents[:2]]
    if len(first) < 2:
        return None
    there = plan.collection.store.retrieve(plan.collection.physical, first, [], [CLS])
    if not there:
        return None
    return Nearest(unit(np.mean([it.vectors[CLS] for it in there.values()], axis=0)), CLS, plan.limit)


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
