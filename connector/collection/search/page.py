"""Of the candidates of a query, those that are its hits: a page of them, diverse, or in groups."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from connector.collection.search.candidates import Plan
from connector.collection.search.found import SIMILARITY
from connector.collection.search.scored import Scored
from connector.collection.search.selection import diverse, documents, groups, values_at
from connector.core.types import unit
from connector.stores import Record

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


class Clock:
    """Milliseconds of each stage of a search."""

    def __init__(self, spent: dict[str, float] | None = None) -> None:
        self.ms = {"candidates": 0.0, "rerank": 0.0, "feedback": 0.0} | (spent or {})
        self._then = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last call for a stage."""
        now = time.perf_counter()
        self.ms[stage] += 1e3 * (now - self._then)
        self._then = now


def chosen(pool: Pool, clock: Clock) -> Ranking:
    """The page of hits that the options ask for."""
    options = pool.plan.options
    if options.group_by is not None:
        return _grouped(pool, clock)
    end = options.offset + options.k
    numbers = _similar_enough(pool)
    similar = len(numbers)
    numbers = _diverse(pool, numbers, end)
    note = _note(pool, similar, "documents") if end > similar else None
    return Ranking(pool, numbers[options.offset : end], [], clock.ms, note)


def _note(pool: Pool, there: int, what: str) -> str | None:
    held, limit = len(pool.documents), pool.plan.limit
    if what == "documents" and there < held:
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


def _grouped(pool: Pool, clock: Clock) -> Ranking:
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
