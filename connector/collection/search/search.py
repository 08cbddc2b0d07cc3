"""Query to hits: candidates by CLS, by words or by both, reranked by MaxSim in Qdrant or here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.recipe import Recipe
from connector.collection.search.rerank import Asked, asked, codec_of, keys_of, scores, stored
from connector.core.errors import CollectionError, InputError, RecipeError
from connector.core.types import Embedding, Hit, Hits
from connector.scoring.alignment import Alignment, TopK, parse_alignment
from connector.stores import Fused, Nearest, Query, Record
from connector.stores.filters import on_metadata
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS, Layout

Rerank = Literal["auto", "client", "server"]


Mode = Literal["client", "server"] | None


CandidatesBy = Literal["dense", "lexical", "hybrid", "hybrid-dbsf", "muvera"]


_AUTO: dict[Layout, Mode] = {"dense": None, "multivector": "server", "codes": "client"}


_FOUND_BY: dict[CandidatesBy, str] = {
    "dense": "cls",
    "lexical": "bm25",
    "hybrid": "rrf",
    "hybrid-dbsf": "dbsf",
    "muvera": "fde",
}
"""What the score is called by which candidates are found."""


_LACKED: dict[CandidatesBy, tuple[str, ...]] = {
    "lexical": (LEXICAL,),
    "hybrid": (LEXICAL,),
    "hybrid-dbsf": (LEXICAL,),
    "muvera": (FDE,),
}
"""Vectors without which candidates cannot be found so."""


_KEYS = ["id", "passage"]


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
    collection: Collection,
    query: Embedding,
    *,
    k: int = 10,
    filter: models.Filter | None = None,
    rerank: Rerank | None = "auto",
    candidates: int = 100,
    candidates_by: CandidatesBy = "dense",
    cls_weight: float | None = None,
    alignment: str | Alignment | None = None,
    device: str = "cpu",
) -> Ranking:
    """The k best documents for an encoded query, each by its best passage, without their texts.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        k: how many documents, at least 1.
        filter: conditions on metadata keys, applied while candidates are found.
        rerank: "server": Qdrant scores MaxSim (layout multivector); "client": this process does
            (multivector and codes); None: candidates keep the order in which they were found; "auto":
            server where it can, else client, else None.
        candidates: passages found and reranked; at least k are.
        candidates_by: what finds them. "dense": the CLS vectors; "lexical": BM25; "hybrid": both, fused by
            reciprocal ranks; "hybrid-dbsf": both, fused by the distributions of their scores; "muvera": fixed
            dimensional encodings of the tokens.
        cls_weight: w of the score w·CLS + (1 − w)·tokens, from 0 to 1; None: the collection's, what it was
            adapted to or its model was trained with, which for most is no share at all. Only the client
            mixes.
        alignment: how tokens are scored, such as "top-4" or "top-1.5%"; None: the collection's.
        device: where the client scores, "cpu" or a CUDA device.

    Raises:
        InputError: an argument is out of range.
        CollectionError: the collection cannot be searched as asked.
    """
    if k < 1 or candidates < 1:
        raise InputError(f"k is {k} and candidates {candidates}; both must be at least 1")
    check_finding(collection.recipe, candidates_by, cls_weight, alignment)
    if collection.filling in _LACKED.get(candidates_by, ()):
        raise CollectionError(
            f"the vector {collection.filling!r} of {collection.name!r} is being added; find candidates by "
            "something else until the migration has ended"
        )
    if alignment is not None and rerank is None:
        raise InputError(f"alignment is {alignment!r}, but without a rerank no token is scored")
    if cls_weight is not None and rerank is None:
        raise InputError(f"cls_weight is {cls_weight}, but without a rerank there is nothing to mix CLS with")
    weight = collection.cls_weight if cls_weight is None else cls_weight
    chosen = collection.alignment if alignment is None else parse_alignment(alignment)
    mode = _mode(collection, rerank, weight, chosen)
    if mode is not None and not codec_of(collection).fitted:  # nothing was ever written
        return Ranking([], [], [], {"candidates": 0.0, "rerank": 0.0})
    ready = None if mode is None else asked(collection, query)
    plan = _Plan(collection, query, ready, mode, candidates_by, weight, chosen, on_metadata(filter), device)
    limit, ms = max(candidates, k), {"candidates": 0.0, "rerank": 0.0}
    wanted = k if plan.mode == "server" else limit  # Qdrant has sorted out the others
    while True:
        started = time.perf_counter()
        found = plan.candidates(limit, wanted)
        fetched = time.perf_counter()
        parts = plan.parts(found)
        order = _best_passages(found, parts, k)
        ms["candidates"] += 1e3 * (fetched - started)
        ms["rerank"] += 1e3 * (time.perf_counter() - fetched)
        if len(order) == k or len(found) < wanted:
            return Ranking(found, parts, order, ms, chosen)
        if wanted == limit:  # the passages were of fewer than k documents
            limit *= 2
        wanted = limit


def fetch(collection: Collection, ranking: Ranking, k: int) -> Hits:
    """The first k hits of a ranking, with their texts. The request counts as time for candidates."""
    started = time.perf_counter()
    hits = _hits(collection, ranking, k)
    candidates = ranking.ms["candidates"] + 1e3 * (time.perf_counter() - started)
    rerank = ranking.ms["rerank"]
    return Hits(
        hits, {"encode": 0.0, "candidates": candidates, "rerank": rerank, "total": candidates + rerank}
    )


def check_finding(
    recipe: Recipe,
    candidates_by: CandidatesBy,
    cls_weight: float | None,
    alignment: str | Alignment | None = None,
) -> None:
    """Raises unless collections of this recipe can be searched so.

    Raises:
        InputError: an argument is out of range.
        RecipeError: the recipe lacks what it takes.
    """
    if candidates_by not in _FOUND_BY:
        raise InputError(f"candidates_by is {candidates_by!r}; give one of {', '.join(_FOUND_BY)}")
    if candidates_by == "muvera" and recipe.fde is None:
        raise RecipeError(
            f"recipe {recipe.name} stores no encoding to find candidates by (muvera); ingest into another "
            "collection with --fde muvera"
        )
    if candidates_by not in ("dense", "muvera") and recipe.lexical is None:
        raise RecipeError(
            f"recipe {recipe.name} has no index of words to find candidates by ({candidates_by}); ingest "
            "into another collection with --lexical LANGUAGE, such as --lexical english"
        )
    if cls_weight is not None and not 0 <= cls_weight <= 1:
        raise InputError(f"cls_weight is {cls_weight}; give the share of the CLS score, from 0 to 1")
    if cls_weight is not None and recipe.layout == "dense":
        raise RecipeError(f"recipe {recipe.name} stores no tokens to mix with CLS; leave cls_weight out")
    if alignment is not None:
        parse_alignment(alignment)
        if recipe.layout == "dense":
            raise RecipeError(f"recipe {recipe.name} stores no tokens to align; leave alignment out")


def _mode(
    collection: Collection, rerank: Rerank | None, weight: float | None, alignment: Alignment | None
) -> Mode:
    maxsim = alignment is None or alignment == TopK(1)
    layout = collection.recipe.layout
    if rerank == "auto":
        mode = _AUTO[layout]
        return "client" if mode == "server" and (weight is not None or not maxsim) else mode
    if rerank not in ("client", "server", None):
        raise InputError(f"rerank is {rerank!r}; give auto, client, server or None")
    if rerank is not None and layout == "dense":
        raise CollectionError(
            f"collection {collection.name!r} stores no tokens to rerank by; leave rerank out"
        )
    if rerank == "server" and weight is not None:
        raise CollectionError(
            f"collection {collection.name!r} is to be scored by CLS and tokens together, which Qdrant does "
            "not do; rerank on the client"
        )
    if rerank == "server" and alignment is not None and not maxsim:
        raise CollectionError(
            f"collection {collection.name!r} is to be scored by {alignment.spec}, and Qdrant has MaxSim "
            "alone; rerank on the client, or with alignment top-1"
        )
    if rerank == "server" and layout == "codes":
        raise CollectionError(
            f"collection {collection.name!r} stores codes, which Qdrant cannot score; rerank on the client"
        )
    return rerank


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one query is searched."""

    collection: Collection
    query: Embedding
    asked: Asked | None
    mode: Mode
    by: CandidatesBy
    weight: float | None
    alignment: Alignment | None
    where: models.Filter | None
    device: str

    def candidates(self, limit: int, wanted: int) -> list[Record]:
        """The best of `limit` candidates, in one request, with all that scoring them needs."""
        collection, source = self.collection, self._source(limit)
        keys, vectors = list(_KEYS), list[str]()
        if self.mode == "server" and self.asked is not None:
            oversampling = None if collection.recipe.quantization is None else collection.recipe.oversampling
            source = Nearest(self.asked.weighted, TOKENS, wanted, source, oversampling)
        elif self.mode == "client":
            if self.by != "dense":  # a fused score is no part of the final one, that of the CLS vectors is
                source = Nearest(self.query.cls, CLS, limit, source)
            more, vectors = keys_of(collection)
            keys += more
        return collection.store.search(
            collection.physical, source, payload=keys, vectors=vectors, filter=self.where
        )

    def _source(self, limit: int) -> Query:
        by_cls = Nearest(self.query.cls, CLS, limit)
        if self.by == "dense":
            return by_cls
        if self.by == "muvera":
            query = asked(self.collection, self.query) if self.asked is None else self.asked
            return Nearest(self.collection.muvera.query(query.weighted), FDE, limit)
        by_words = Nearest(self.collection.words.query(self.query.text), LEXICAL, limit)
        if self.by == "lexical":
            return by_words
        return Fused((by_cls, by_words), limit, "rrf" if self.by == "hybrid" else "dbsf")

    def parts(self, found: list[Record]) -> list[dict[str, float]]:
        """The parts of each candidate's score; the last one is what it is ordered by."""
        if self.mode is None:
            return [{_FOUND_BY[self.by]: record.score} for record in found]
        if self.mode == "server" and self.asked is not None:
            if self.alignment is None or self.collection.recipe.saliency:
                return [{"maxsim": record.score} for record in found]
            return [{"aligned": record.score / self.asked.weight} for record in found]
        if self.asked is None or not found:
            return []
        passages = stored(self.collection, found)
        by = "maxsim" if self.alignment is None else "aligned"
        scored = scores(codec_of(self.collection), self.asked, passages, self.alignment, self.device)
        parts = [{"cls": record.score, by: float(score)} for record, score in zip(found, scored, strict=True)]
        if self.weight is not None:
            for part in parts:
                part["mixed"] = self.weight * part["cls"] + (1 - self.weight) * part[by]
        return parts


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
