"""What finds candidates, what is read of them, and what their scores are made of."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.pipeline import QueryTokens, StoredTokens, scores
from connector.collection.search.options import CandidatesBy, SearchOptions
from connector.compression.codecs import Codec
from connector.core.errors import CollectionError, InputError
from connector.core.types import Embedding, Float32
from connector.scoring.alignment import Alignment, TopK
from connector.stores import Fused, Nearest, Query, Record
from connector.stores.filters import on_metadata
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS, Layout

Mode = Literal["client", "server"] | None


_AUTO: dict[Layout, Mode] = {"dense": None, "multivector": "server", "codes": "client"}


_FOUND_BY: dict[CandidatesBy, str] = {
    "dense": "cls",
    "lexical": "bm25",
    "hybrid": "rrf",
    "hybrid-dbsf": "dbsf",
    "muvera": "fde",
}
"""What the score is called by which candidates are found."""


_KEYS = ["id", "passage"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one query is searched.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        options: as given; `weight` and `alignment` are what they come to in this collection.
        mode: what reranks: Qdrant, this process, or None.
        weight: share of the CLS vectors in the score.
        alignment: how tokens are scored; None is MaxSim.
        device: where this process scores.
        query_tokens: the query's rows in the scored space; None if no token is scored.
    """

    collection: Collection
    query: Embedding
    options: SearchOptions
    mode: Mode
    weight: float | None
    alignment: Alignment | None
    device: str
    query_tokens: QueryTokens | None

    @classmethod
    def of(cls, collection: Collection, query: Embedding, options: SearchOptions, device: str) -> Plan:
        """The plan for a query.

        Raises:
            InputError: options contradict each other.
            CollectionError: the collection cannot be searched so.
        """
        options.check(collection.recipe)
        if options.needs is not None and options.needs == collection.metadata.filling:
            raise CollectionError(
                f"the vector {options.needs!r} of {collection.name!r} is being added; find candidates "
                "by something else until the migration has ended"
            )
        for name in ("alignment", "cls_weight"):
            if options.rerank is None and getattr(options, name) is not None:
                raise InputError(
                    f"{name} is {getattr(options, name)}, but without a rerank no token is scored"
                )
        weight = collection.cls_weight if options.cls_weight is None else options.cls_weight
        alignment = collection.alignment if options.alignment is None else options.alignment
        mode = _mode(collection, options, weight, alignment)
        # Without a fitted codec nothing was ever written.
        ready = query_tokens(collection, query) if mode is not None and codec_of(collection).fitted else None
        return cls(collection, query, options, mode, weight, alignment, device, ready)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to find, as no token was ever written."""
        return self.mode is not None and self.query_tokens is None

    def candidates(self, limit: int, wanted: int) -> list[Record]:
        """The best `wanted` of `limit` candidates, in one request, with all that scoring them needs."""
        collection, source, where = self.collection, self._source(limit), self.options.filter
        keys, vectors = list(_KEYS), list[str]()
        if self.mode == "server" and self.query_tokens is not None:
            oversampling = None if collection.recipe.quantization is None else collection.recipe.oversampling
            source = Nearest(self.query_tokens.weighted, TOKENS, wanted, source, oversampling)
        elif self.mode == "client":
            if self.options.candidates_by != "dense":  # the score of the CLS vectors is part of the final one
                source = Nearest(self.query.cls, CLS, limit, source)
            more, vectors = keys_of(collection)
            keys += more
        else:  # each of several queries finds `limit`, as their ranks are compared
            source = replace(source, limit=wanted)
        return collection.store.search(
            collection.physical,
            source,
            payload=keys,
            vectors=vectors,
            filter=None if where is None else on_metadata(where),
        )

    def _source(self, limit: int) -> Query:
        by = self.options.candidates_by
        by_cls = Nearest(self.query.cls, CLS, limit)
        if by == "dense":
            return by_cls
        if by == "muvera":
            query = (
                query_tokens(self.collection, self.query) if self.query_tokens is None else self.query_tokens
            )
            return Nearest(self.collection.muvera.query(query.weighted), FDE, limit)
        by_words = Nearest(self.collection.words.query(self.query.text), LEXICAL, limit)
        if by == "lexical":
            return by_words
        return Fused((by_cls, by_words), limit, "rrf" if by == "hybrid" else "dbsf")

    def parts(self, found: list[Record]) -> list[dict[str, float]]:
        """The parts of each candidate's score; the last one is what it is ordered by."""
        if self.mode is None:
            return [{_FOUND_BY[self.options.candidates_by]: record.score} for record in found]
        if self.query_tokens is None or not found:
            return []
        if self.mode == "server":
            if self.alignment is None or self.collection.recipe.saliency:
                return [{"maxsim": record.score} for record in found]
            return [{"aligned": record.score / self.query_tokens.weight} for record in found]
        by = "maxsim" if self.alignment is None else "aligned"
        passages = stored(self.collection, found)
        scored = scores(codec_of(self.collection), self.query_tokens, passages, self.alignment, self.device)
        parts = [{"cls": record.score, by: float(score)} for record, score in zip(found, scored, strict=True)]
        if self.weight is not None:
            for part in parts:
                part["mixed"] = self.weight * part["cls"] + (1 - self.weight) * part[by]
        return parts


def _mode(
    collection: Collection, options: SearchOptions, weight: float | None, alignment: Alignment | None
) -> Mode:
    maxsim = alignment is None or alignment == TopK(1)
    layout, rerank = collection.recipe.layout, options.rerank
    if rerank == "auto":
        mode = _AUTO[layout]
        return "client" if mode == "server" and (weight is not None or not maxsim) else mode
    if rerank is not None and layout == "dense":
        raise CollectionError(
            f"collection {collection.name!r} stores no tokens to rerank by; leave rerank out"
        )
    if rerank == "server":
        problem = None
        if weight is not None:
            problem = "is to be scored by CLS and tokens together, which Qdrant does not do"
        elif alignment is not None and not maxsim:
            problem = f"is to be scored by {alignment.spec}, and Qdrant has MaxSim alone"
        elif layout == "codes":
            problem = "stores codes, which Qdrant cannot score"
        if problem is not None:
            raise CollectionError(f"collection {collection.name!r} {problem}; rerank on the client")
    return rerank


def query_tokens(collection: Collection, query: Embedding) -> QueryTokens:
    """The rows of an encoded query that its collection asks with, and their weights."""
    return collection.query_pipeline(query, codec_of(collection))


def keys_of(collection: Collection) -> tuple[list[str], list[str]]:
    """The payload keys and the vectors that `stored` wants of each record."""
    recipe = collection.recipe
    if recipe.layout == "multivector":
        return [], [TOKENS]
    return ["codes", "saliency"] if recipe.saliency else ["codes"], []


def stored(collection: Collection, records: Sequence[Record]) -> StoredTokens:
    """What is stored of these passages' tokens; at least one passage.

    Raises:
        CollectionError: they are not of this collection any more.
    """
    try:
        if collection.recipe.layout == "codes":
            return _from_payload(collection, records)
        vectors = [record.vectors[TOKENS] for record in records]
    except KeyError:
        raise collection.replaced() from None
    lengths = np.array([len(it) for it in vectors])
    rows = np.concatenate(vectors)
    return StoredTokens(rows, lengths, None) if not collection.recipe.saliency else _unfolded(rows, lengths)


def _from_payload(collection: Collection, records: Sequence[Record]) -> StoredTokens:
    blobs = [binascii.a2b_base64(record.payload["codes"]) for record in records]
    lengths = np.array([len(blob) for blob in blobs]) // codec_of(collection).stored_row_bytes
    rows, saliency = codec_of(collection).stored(b"".join(blobs)), None
    if collection.recipe.saliency:
        kept = b"".join(binascii.a2b_base64(record.payload["saliency"]) for record in records)
        saliency = np.frombuffer(kept, np.uint8)
    return StoredTokens(rows, lengths, saliency)


def _unfolded(rows: Float32, lengths: NDArray[np.int64]) -> StoredTokens:
    """Unit rows and their saliency again."""
    norms = np.linalg.norm(rows, axis=1)
    saliency = np.rint(np.minimum(norms, 1) * 255).astype(np.uint8)
    return StoredTokens(rows / np.maximum(norms, 1e-6)[:, None], lengths, saliency)


def codec_of(collection: Collection) -> Codec:
    """The codec of a collection that stores tokens.

    Raises:
        CollectionError: it stores none.
    """
    if collection.codec is None:
        raise CollectionError(f"collection {collection.name!r} stores no tokens")
    return collection.codec
