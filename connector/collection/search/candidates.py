"""What finds candidates, what is read of them, and the parts of their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.pipeline import QueryTokens, StoredTokens, scores
from connector.collection.search.found import SIMILARITY, Found, Request
from connector.collection.search.options import CandidatesBy, SearchOptions
from connector.collection.search.stored_tokens import codec_of, keys_of, stored
from connector.collection.search.strategy import Mode, mode_of, strategy_of
from connector.core.errors import CollectionError, InputError
from connector.core.types import Embedding, Sparse
from connector.scoring.alignment import Alignment
from connector.scoring.feedback import By, Feedback
from connector.scoring.fusion import Float64, Fusion, PartName
from connector.stores import Fused, Nearest, Query, Record
from connector.stores.filters import on_metadata
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS

_FOUND_BY: dict[CandidatesBy, str] = {
    "dense": "cls",
    "lexical": "bm25",
    "hybrid": "rrf",
    "hybrid-dbsf": "dbsf",
    "muvera": "fde",
}
"""What the score is called by which candidates are found."""


_KEYS = ["id", "passage"]


CANDIDATES, POOL = 100, 200
"""Passages that each query finds: where scores do not depend on the other candidates, and where they do."""


@dataclass(frozen=True)
class Plan:
    """How one query is searched.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        options: as given; the other arguments are what they come to in this collection.
        mode: what scores tokens: Qdrant, this process, or None.
        fusion: how parts make the score; None where candidates keep the order in which they are found.
        by: what finds candidates; "union" takes those that CLS vectors and those that words find.
        alignment: how tokens are scored; None is MaxSim.
        device: where this process scores.
        query_tokens: the query's rows in the scored space; None if no token is scored.
        missing: parts that the fusion weighs and the collection cannot give yet.
        further: also finds candidates.
    """

    collection: Collection
    query: Embedding
    options: SearchOptions
    mode: Mode
    fusion: Fusion | None
    by: CandidatesBy
    alignment: Alignment | None
    device: str
    query_tokens: QueryTokens | None
    missing: tuple[str, ...] = ()
    further: Nearest | None = None

    @classmethod
    def of(cls, collection: Collection, query: Embedding, options: SearchOptions, device: str) -> Plan:
        """The plan for a query.

        Raises:
            RecipeError: the collection's recipe cannot be searched so.
            CollectionError: the collection cannot be, or not yet.
        """
        options.check(collection.recipe)
        filling = collection.metadata.filling
        if options.needs is not None and options.needs == filling:
            raise CollectionError(
                f"the vector {options.needs!r} of {collection.name!r} is being added; find candidates "
                "by something else until the migration has ended"
            )
        strategy = strategy_of(collection, options)
        fusion: Fusion | None = strategy.fusion
        alignment = strategy.alignment
        mode = mode_of(collection, options, strategy)
        if fusion and not fusion.tokens:
            mode = None
        missing: tuple[str, ...] = ()
        if fusion and fusion.bm25 and (collection.recipe.lexical is None or filling == LEXICAL):
            fusion, missing = fusion.without("bm25"), ("bm25",)
        if fusion and mode is None:
            fusion = fusion.without("tokens")
        by = options.candidates_by or ("union" if fusion and fusion.bm25 else "dense")
        ordered = options.candidates_by not in (None, "union") and options.fusion is None
        if mode is None and ordered and fusion and fusion.method == "sum":
            fusion = None
        if fusion is None and by == "union":  # which has no order of its own
            by = "hybrid"
        if fusion is None and (options.like or options.unlike):
            raise InputError(
                "like and unlike add to a score, and candidates keep the order in which they are found here; "
                "give a fusion, such as sum:cls=1"
            )
        # Without a fitted codec nothing was ever written.
        ready = query_tokens(collection, query) if mode is not None and codec_of(collection).fitted else None
        return cls(collection, query, options, mode, fusion, by, alignment, device, ready, missing)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to find, as no token was ever written."""
        return self.mode is not None and self.query_tokens is None

    @property
    def pooled(self) -> bool:
        """Whether a score depends on the other candidates."""
        return self.fusion is not None and (self.fusion.method != "sum" or bool(self.feeds_back))

    @property
    def limit(self) -> int:
        """Passages that each query for candidates finds: as many for any number of hits, and for any page."""
        return self.options.candidates or (POOL if self.pooled else CANDIDATES)

    @property
    def feedback(self) -> Feedback | None:
        """What first hits, or liked documents, add to the score."""
        chosen = None if self.fusion is None else strategy_of(self.collection, self.options).feedback
        if chosen is None and (self.options.like or self.options.unlike):
            return Feedback(codes=1) if self._coded else Feedback(cls=1)
        return chosen

    @property
    def feeds_back(self) -> dict[By, float]:
        """The vectors that they speak by, and what each kind weighs."""
        if self.feedback is None:
            return {}
        # Where no codes are read, CLS vectors speak in their place.
        return self.feedback.weights if self._coded else {"cls": self.feedback.codes + self.feedback.cls}

    @property
    def _coded(self) -> bool:
        """Whether codes of the candidates are read."""
        return self.mode == "client" and self.collection.recipe.layout == "codes"

    @property
    def found_by(self) -> str:
        """What the score is called by which candidates are found."""
        return _FOUND_BY[self.by]

    @property
    def diverse_by(self) -> By | None:
        """The vectors by which hits are to be unlike one another, if they are to be."""
        return None if self.options.mmr is None else "codes" if self._coded else "cls"

    @property
    def _similar_by_cls(self) -> bool:
        """Whether CLS vectors are compared for the sake of a least similarity alone."""
        return self.options.min_similarity is not None and not self._tokens_compare

    @property
    def _tokens_compare(self) -> bool:
        """Whether scores of tokens tell similarities: not those of rows that are as long as salient."""
        return self.mode == "client" or (self.mode == "server" and not self.collection.recipe.saliency)

    @cached_property
    def words(self) -> Sparse:
        """The query's words."""
        return self.collection.words.query(self.query.text)

    def request(self, limit: int) -> Request:
        """What finds candidates, with all that scoring them needs and what Qdrant scores, at once.

        Args:
            limit: passages that each query finds.
        """
        where = None if self.options.filter is None else on_metadata(self.options.filter)
        return self._request(self._pool(limit), limit, where)

    def candidates(self, limit: int) -> Found:
        """The candidates, in one request."""
        return self._asked(self.request(limit))

    def among(self, ids: Sequence[str]) -> Found:
        """These points, with all parts of their scores."""
        where = models.Filter(must=[models.HasIdCondition(has_id=list(ids))])
        return self.rescored(self._asked(self._request((), len(ids), where)))

    def _asked(self, request: Request) -> Found:
        answer = self.collection.store.search_together(
            self.collection.physical,
            list(request.queries.values()),
            payload=request.payload,
            vectors=request.vectors,
            filter=request.where,
        )
        return self.found(request, answer)

    def _pool(self, limit: int) -> tuple[Query, ...]:
        """What finds candidates."""
        by_cls = Nearest(self.query.cls, CLS, limit)
        more = () if self.further is None else (self.further,)
        if self.by == "dense":
            return (by_cls, *more)
        if self.by == "muvera":
            query = self.query_tokens or query_tokens(self.collection, self.query)
            return (Nearest(self.collection.muvera.query(query.weighted), FDE, limit), *more)
        by_words = Nearest(self.words, LEXICAL, limit)
        if self.by == "lexical":
            return (by_words, *more)
        if self.by == "union":
            return (by_cls, by_words, *more) if len(self.words) else (by_cls, *more)
        return (Fused((by_cls, by_words), limit, "rrf" if self.by == "hybrid" else "dbsf"), *more)

    def _request(self, pool: tuple[Query, ...], limit: int, where: models.Filter | None) -> Request:
        keys, vectors = keys_of(self.collection) if self.mode == "client" else (list[str](), list[str]())
        if self.mode == "server" and self.collection.recipe.length_penalty:
            keys = [*keys, "rows"]
        if "cls" in self.feeds_back or self.diverse_by == "cls":
            vectors = [*vectors, CLS]
        return Request(self._queries(pool, limit), _KEYS + keys, vectors, where)

    def _queries(self, pool: tuple[Query, ...], limit: int) -> dict[str, Query]:
        """What gives the parts that Qdrant computes, the first one for all candidates."""
        size = sum(it.limit for it in pool) or limit
        queries: dict[str, Query] = {}
        weights: Mapping[PartName, float] = {}
        if self.fusion is None:
            queries[self.found_by] = pool[0]
        else:
            weights = self.fusion.weights
        if self.mode == "server" and self.query_tokens is not None:
            recipe = self.collection.recipe
            oversampling = None if recipe.quantization is None else recipe.oversampling
            queries["tokens"] = Nearest(self.query_tokens.weighted, TOKENS, size, pool, oversampling)
        if "cls" not in queries and ("cls" in weights or not queries or self._similar_by_cls):
            plain = len(pool) == 1 and self.by == "dense"
            queries["cls"] = Nearest(self.query.cls, CLS, size, () if plain else pool)
        if "bm25" in weights and len(self.words):
            queries["bm25"] = Nearest(self.words, LEXICAL, size, pool)
        return queries

    def found(self, request: Request, answer: tuple[list[Record], list[dict[Any, float]]]) -> Found:
        """What a store has answered, with the parts of scores that it gives."""
        records, there = answer
        own, *names = request.queries
        whole = [scored for name, scored in zip(names, there, strict=True) if name != "bm25"]
        if whole:  # one that was written or deleted in between has not all its parts
            records = [it for it in records if all(it.key in scored for scored in whole)]
        raw = {own: _scores(records)}
        for name, scored in zip(names, there, strict=True):  # a passage without such words is not found
            raw[name] = np.array([scored.get(record.key, 0.0) for record in records])
        tokens = None
        if self.mode == "client":
            tokens = stored(self.collection, records) if records else None
        elif self.mode == "server":
            raw |= self._by_server(records, raw["tokens"])
        if not self._tokens_compare and "cls" in raw:
            raw[SIMILARITY] = raw["cls"]
        none = np.zeros(len(records))  # such as words, where the query has none
        parts: Iterable[str] = () if self.fusion is None else self.fusion.weights
        return Found(records, dict.fromkeys(parts, none) | raw, tokens)

    def rescored(self, found: Found) -> Found:
        """The same with the scores of tokens, where this process gives them."""
        if found.tokens is None:
            return found
        return replace(found, raw={**found.raw, **self._scored(found.tokens)})

    def _scored(self, passages: StoredTokens) -> dict[str, Float64]:
        """(P,) the scores of tokens, here, and the similarities."""
        if self.query_tokens is None:
            return dict.fromkeys(("tokens", SIMILARITY), np.zeros(len(passages.lengths)))
        scored = scores(codec_of(self.collection), self.query_tokens, passages, self.alignment, self.device)
        similarity = exact = scored.astype(np.float64)
        if self.alignment is None:  # a sum over the query's tokens
            similarity, exact = exact / self.query_tokens.weight, exact / self.divisor(self.query_tokens)
        return {"tokens": exact - self._penalty(passages.lengths), SIMILARITY: similarity}

    def divisor(self, asked: QueryTokens) -> float:
        """What a sum of maxima is divided by: nothing, or what the query's tokens weigh."""
        aligned = self.alignment is not None and not self.collection.recipe.saliency
        scaled = self.fusion is not None and self.fusion.method != "sum"
        return asked.weight if aligned or scaled or self.collection.recipe.length_penalty else 1.0

    def _by_server(self, records: list[Record], scored: Float64) -> dict[str, Float64]:
        """(P,) the scores of tokens that Qdrant gave, on the scale of those that are computed here, and the
        similarities, where they tell some."""
        parts = {"tokens": scored}
        if self.query_tokens is not None:
            parts["tokens"] = scored / self.divisor(self.query_tokens)
            if self._tokens_compare:
                parts[SIMILARITY] = scored / self.query_tokens.weight
        if self.collection.recipe.length_penalty:
            rows = np.array([record.payload.get("rows", 1) for record in records])
            parts["tokens"] = parts["tokens"] - self._penalty(rows)
        return parts

    def _penalty(self, rows: NDArray[np.integer]) -> Float64:
        """(P,) what passages of so many rows lose."""
        penalty: Float64 = self.collection.recipe.length_penalty * np.log(rows)
        return penalty


def _scores(records: Sequence[Record]) -> Float64:
    return np.array([record.score for record in records], np.float64)


def query_tokens(collection: Collection, query: Embedding) -> QueryTokens:
    """The rows of an encoded query that its collection asks with, and their weights."""
    return collection.query_pipeline(query, codec_of(collection))
