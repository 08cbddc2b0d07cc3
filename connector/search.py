"""Query to hits: candidates by CLS, reranked by MaxSim in Qdrant or here."""

from __future__ import annotations

import binascii
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from qdrant_client import models

from connector.codecs import Codec
from connector.collection import Collection
from connector.errors import CollectionError, InputError
from connector.recipes import Layout
from connector.schema import CLS, TOKENS
from connector.scoring import maxsim
from connector.stores import Nearest, Record
from connector.stores.filters import on_metadata
from connector.types import Embedding, Float32, Hit, Hits

Rerank = Literal["auto", "client", "server"]
Mode = Literal["client", "server"] | None

_AUTO: dict[Layout, Mode] = {"dense": None, "multivector": "server", "codes": "client"}

_KEYS = ["id", "passage"]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates and their order, before their texts are fetched.

    Args:
        found: the candidate passages.
        parts: the parts of each one's score; the last part is what it is ordered by.
        order: numbers of the best passages of the best documents, best first.
        ms: milliseconds for "candidates" and "rerank".
    """

    found: list[Record]
    parts: list[dict[str, float]]
    order: list[int]
    ms: dict[str, float]

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
) -> Ranking:
    """The k best documents for an encoded query, each by its best passage, without their texts.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        k: how many documents, at least 1.
        filter: conditions on metadata keys, applied while candidates are found.
        rerank: "server": Qdrant scores MaxSim (layout multivector); "client": this process does
            (multivector and codes); None: candidates keep the order of their CLS score; "auto": server
            where it can, else client, else None.
        candidates: passages found by CLS and reranked; at least k are.

    Raises:
        InputError: an argument is out of range.
        CollectionError: the layout cannot be reranked as asked.
    """
    if k < 1 or candidates < 1:
        raise InputError(f"k is {k} and candidates {candidates}; both must be at least 1")
    mode = _mode(collection, rerank)
    where = on_metadata(filter)
    if mode is not None and not _codec(collection).fitted:  # nothing was ever written
        return Ranking([], [], [], {"candidates": 0.0, "rerank": 0.0})
    limit, ms = max(candidates, k), {"candidates": 0.0, "rerank": 0.0}
    while True:
        started = time.perf_counter()
        found = _candidates(collection, query, mode, limit, where)
        fetched = time.perf_counter()
        parts = _parts(collection, query, mode, found)
        order = _best_passages(found, parts, k)
        ms["candidates"] += 1e3 * (fetched - started)
        ms["rerank"] += 1e3 * (time.perf_counter() - fetched)
        if len(order) == k or len(found) < limit:
            return Ranking(found, parts, order, ms)
        limit *= 2  # the passages were of fewer than k documents


def fetch(collection: Collection, ranking: Ranking, k: int) -> Hits:
    """The first k hits of a ranking, with their texts. The request counts as time for candidates."""
    started = time.perf_counter()
    hits = _hits(collection, ranking, k)
    candidates = ranking.ms["candidates"] + 1e3 * (time.perf_counter() - started)
    rerank = ranking.ms["rerank"]
    return Hits(
        hits, {"encode": 0.0, "candidates": candidates, "rerank": rerank, "total": candidates + rerank}
    )


def _mode(collection: Collection, rerank: Rerank | None) -> Mode:
    layout = collection.recipe.layout
    if rerank == "auto":
        mode = _AUTO[layout]
        return "client" if mode == "server" and collection.cls_weight is not None else mode
    if rerank not in ("client", "server", None):
        raise InputError(f"rerank is {rerank!r}; give auto, client, server or None")
    if rerank is not None and layout == "dense":
        raise CollectionError(
            f"collection {collection.name!r} stores no tokens to rerank by; leave rerank out"
        )
    if rerank == "server" and collection.cls_weight is not None:
        raise CollectionError(
            f"collection {collection.name!r} scores CLS and tokens together, which Qdrant does not; "
            "rerank on the client"
        )
    if rerank == "server" and layout == "codes":
        raise CollectionError(
            f"collection {collection.name!r} stores codes, which Qdrant cannot score; rerank on the client"
        )
    return rerank


def _candidates(
    collection: Collection,
    query: Embedding,
    mode: Mode,
    limit: int,
    where: models.Filter | None,
) -> list[Record]:
    store, name = collection.store, collection.name
    by_cls = Nearest(query.cls, CLS, limit)
    if mode is None:
        return store.search(name, by_cls, payload=_KEYS, filter=where)
    if mode == "server":
        by_tokens = Nearest(_query_tokens(collection, query), TOKENS, limit, prefetch=by_cls)
        return store.search(name, by_tokens, payload=_KEYS, filter=where)
    if collection.recipe.layout == "codes":
        return store.search(name, by_cls, payload=[*_KEYS, "codes"], filter=where)
    return store.search(name, by_cls, payload=_KEYS, vectors=[TOKENS], filter=where)


def _parts(
    collection: Collection,
    query: Embedding,
    mode: Mode,
    found: list[Record],
) -> list[dict[str, float]]:
    """The parts of each candidate's score; the last one is what it is ordered by."""
    if mode is None:
        return [{"cls": record.score} for record in found]
    if mode == "server":
        return [{"maxsim": record.score} for record in found]
    scores = _client_maxsim(collection, query, found)
    parts = [
        {"cls": record.score, "maxsim": float(score)} for record, score in zip(found, scores, strict=True)
    ]
    weight = collection.cls_weight
    if weight is not None:
        for part in parts:
            part["mixed"] = weight * part["cls"] + (1 - weight) * part["maxsim"]
    return parts


def _query_tokens(collection: Collection, query: Embedding) -> Float32:
    """(m, d) the query's tokens that are asked with, in the scored space, as long as they weigh."""
    reduced, weights = collection.reduce_query(query)
    tokens = _codec(collection).encode_query(reduced.tokens)
    return tokens if weights is None else tokens * weights[:, None]


def _client_maxsim(collection: Collection, query: Embedding, found: list[Record]) -> Float32:
    """(P,) MaxSim of each candidate, from codes where there are codes."""
    if not found:
        return np.empty(0, np.float32)
    codec = _codec(collection)
    tokens = _query_tokens(collection, query)
    if collection.recipe.layout == "codes":
        try:
            blobs = [binascii.a2b_base64(record.payload["codes"]) for record in found]
        except KeyError:
            raise collection.replaced() from None
        lengths = np.array([len(blob) for blob in blobs]) // collection.token_bytes
        return maxsim(codec.similarities(codec.stored(b"".join(blobs)), tokens), lengths)
    rows = [record.vectors[TOKENS] for record in found if TOKENS in record.vectors]
    if len(rows) < len(found):
        raise collection.replaced()
    return maxsim(codec.similarities(np.concatenate(rows), tokens), [len(row) for row in rows])


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
        collection.name, [record.id for record, _ in found], ["text", "title", "metadata"]
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


def _codec(collection: Collection) -> Codec:
    if collection.codec is None:
        raise CollectionError(f"collection {collection.name!r} stores no tokens")
    return collection.codec
