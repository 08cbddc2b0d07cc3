"""Query to hits: candidates are found and scored, and the best documents' texts fetched."""

from __future__ import annotations

import time
from dataclasses import dataclass

from connector.collection.collection import Collection
from connector.collection.search.candidates import Plan
from connector.collection.search.options import SearchOptions
from connector.core.types import Embedding, Hit, Hits
from connector.scoring.alignment import Alignment
from connector.stores import Record


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates and their order, before their texts are fetched.

    Args:
        found: the candidate passages.
        parts: the parts of each one's score; the last part is what it is ordered by.
        order: numbers of the best passages of the best documents, best first.
        ms: milliseconds for "candidates" and "rerank".
        alignment: how tokens were scored; None for MaxSim, or if none were.
    """

    found: list[Record]
    parts: list[dict[str, float]]
    order: list[int]
    ms: dict[str, float]
    alignment: Alignment | None = None

    def scores(self) -> dict[str, float]:
        """Document id to score, best first."""
        return {self.found[i].payload["id"]: _score(self.parts[i]) for i in self.order}


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
    ms = {"candidates": 0.0, "rerank": 0.0}
    if plan.empty:
        return Ranking([], [], [], ms)
    limit = max(options.candidates, options.k)
    wanted = limit if plan.mode == "client" else options.k  # Qdrant has sorted out the others
    while True:
        started = time.perf_counter()
        found = plan.candidates(limit, wanted)
        fetched = time.perf_counter()
        parts = plan.parts(found)
        order = _best_passages(found, parts, options.k)
        ms["candidates"] += 1e3 * (fetched - started)
        ms["rerank"] += 1e3 * (time.perf_counter() - fetched)
        if len(order) == options.k or len(found) < wanted:
            return Ranking(found, parts, order, ms, plan.alignment)
        if wanted == limit:  # the passages were of fewer than k documents
            limit *= 2
        wanted = limit


def fetch(collection: Collection, ranking: Ranking, k: int) -> Hits:
    """The first k hits of a ranking, with their texts. The request counts as time for candidates."""
    started = time.perf_counter()
    hits = _hits(collection, ranking, k)
    ms = ranking.ms | {"candidates": ranking.ms["candidates"] + 1e3 * (time.perf_counter() - started)}
    return Hits(hits, {"encode": 0.0, **ms, "total": sum(ms.values())})


def _best_passages(found: list[Record], parts: list[dict[str, float]], k: int) -> list[int]:
    """Numbers of the candidates to return: the best passage of each of the k best documents."""
    ranked = sorted(
        range(len(found)),
        key=lambda i: (-_score(parts[i]), found[i].payload["id"], found[i].payload["passage"]),
    )
    best: dict[str, int] = {}
    for i in ranked:
        best.setdefault(found[i].payload["id"], i)
        if len(best) == k:
            break
    return list(best.values())


def _score(parts: dict[str, float]) -> float:
    return list(parts.values())[-1]


def _hits(collection: Collection, ranking: Ranking, k: int) -> list[Hit]:
    found = [(ranking.found[i], ranking.parts[i]) for i in ranking.order[:k]]
    if not found:
        return []
    texts = collection.store.retrieve(
        collection.physical, [record.id for record, _ in found], ["text", "title", "metadata"]
    )
    # A passage may have been deleted, or marked as unfinished, since the candidates were found.
    found = [pair for pair in found if pair[0].id in texts]
    return [
        Hit(
            id=record.payload["id"],
            score=_score(parts),
            text=texts[record.id].payload["text"],
            title=texts[record.id].payload.get("title"),
            metadata=texts[record.id].payload.get("metadata") or {},
            passage=record.payload["passage"],
            parts=parts,
        )
        for record, parts in found
        if "text" in texts[record.id].payload
    ]
