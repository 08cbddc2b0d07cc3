"""Texts to what is stored of them, and queries to what they ask with: the one place for each, and no store.

A passage is encoded, its tokens are weighed, reduced and coded; a query is weighed and reduced, and its
tokens are brought into the space that the codec scores in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from connector.collection.recipe import Recipe
from connector.compression.codecs import Codec
from connector.compression.reduction import (
    Frequencies,
    QueryReduction,
    Reduction,
    Setting,
    own_rows,
    query_weights,
)
from connector.core.errors import InputError
from connector.core.types import Embedding, Float32
from connector.encoders import Encoder
from connector.scoring.alignment import Alignment
from connector.scoring.maxsim import aligned, maxsim

WINDOW = 256
"""Passages that are encoded, and written, at a time."""


WAITING = 2048
"""Passages that wait at most until the codec is fitted."""


@dataclass(frozen=True, slots=True)
class CodedPassage:
    """What is stored of a passage beside its text.

    Args:
        cls: (w,) float32, its CLS vector.
        rows: (n, …) its tokens as the codec stores them; None in layout dense.
        saliency: (n,) uint8, if the recipe keeps it.
        projected: (n, d) float32, its tokens as vectors in the scored space; None unless the recipe has
            fixed dimensional encodings.
    """

    cls: Float32
    rows: NDArray[Any] | None = None
    saliency: NDArray[np.uint8] | None = None
    projected: Float32 | None = None

    @classmethod
    def split(
        cls, vectors: Sequence[Float32], lengths: Iterable[int], *tokens: NDArray[Any] | None
    ) -> list[CodedPassage]:
        """Passages of which the tokens are given one after another.

        Args:
            vectors: the CLS vector of each.
            lengths: rows of each.
            tokens: (N, …) rows, saliency and projected.
        """
        ends = np.cumsum(list(lengths))[:-1]
        parts = [[None] * len(vectors) if it is None else np.split(it, ends) for it in tokens]
        return [cls(*those) for those in zip(vectors, *parts, strict=True)]


@dataclass(frozen=True, slots=True)
class QueryTokens:
    """A query, as its collection scores with it.

    Args:
        embedding: its rows that are asked with.
        tokens: (m, d) float32, their vectors in the scored space.
        weights: (m,) float32 ≥ 0, what each weighs; None if all weigh alike.
    """

    embedding: Embedding
    tokens: Float32
    weights: Float32 | None

    @property
    def weight(self) -> float:
        """The sum of what the tokens weigh."""
        return float(len(self.tokens) if self.weights is None else self.weights.sum()) or 1.0

    @property
    def weighted(self) -> Float32:
        """(m, d) the vectors as long as they weigh, for MaxSim."""
        return self.tokens if self.weights is None else self.tokens * self.weights[:, None]


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """What is stored of some passages' tokens, one passage after another.

    Args:
        rows: (N, …) as the codec stores them.
        lengths: (P,) rows of each passage.
        saliency: (N,) uint8, or None if the collection keeps none.
    """

    rows: NDArray[Any]
    lengths: NDArray[np.int64]
    saliency: NDArray[np.uint8] | None

    def joined(self, more: StoredTokens, numbers: Sequence[int]) -> StoredTokens:
        """These passages, and then some of others, by their numbers."""
        ends = np.cumsum(more.lengths)
        places = [slice(ends[it] - more.lengths[it], ends[it]) for it in numbers]
        saliency = None
        if self.saliency is not None and more.saliency is not None:
            saliency = np.concatenate([self.saliency, *(more.saliency[place] for place in places)])
        rows = np.concatenate([self.rows, *(more.rows[place] for place in places)])
        return StoredTokens(rows, np.concatenate([self.lengths, more.lengths[list(numbers)]]), saliency)

    @classmethod
    def of(cls, passages: Sequence[CodedPassage]) -> StoredTokens:
        """Those of passages of a recipe that stores tokens."""
        rows = [it.rows for it in passages if it.rows is not None]
        saliency = [it.saliency for it in passages if it.saliency is not None]
        kept = np.concatenate(saliency) if saliency else None
        return cls(np.concatenate(rows), np.array(list(map(len, rows))), kept)


class CodecHolder(Protocol):
    """Where a codec is kept, and fitted when the first passages have come."""

    @property
    def codec(self) -> Codec | None:
        """The codec, fitted or not; None in layout dense."""
        ...

    def fit_codec(self, tokens: Float32, saliency: Float32 | None = None) -> Codec:
        """The codec, fitted on (N, w) tokens and (N,) saliency unless it is already."""
        ...


class OwnCodec:
    """The codec of a recipe without a collection."""

    def __init__(self, recipe: Recipe) -> None:
        self.codec = recipe.make_codec()

    def fit_codec(self, tokens: Float32, saliency: Float32 | None = None) -> Codec:
        """The codec, fitted on these."""
        return self.codec.fit(tokens, saliency=saliency)


class PassagePipeline:
    """Passages as a recipe stores them.

    Args:
        recipe: for the encoder's model.
        holder: keeps the codec.
        bytes_per_token: stored bytes of a token, for reductions to a budget.
        frequencies: of tokens, for reductions by them.
    """

    def __init__(
        self,
        recipe: Recipe,
        holder: CodecHolder,
        bytes_per_token: int,
        frequencies: Frequencies | None = None,
    ) -> None:
        self.recipe = recipe
        self._holder = holder
        self._setting = Setting(bytes_per_token, frequencies or Frequencies())

    @cached_property
    def reduction(self) -> Reduction:
        """What drops and merges tokens."""
        return self.recipe.make_reduction(self._setting)

    def embed(self, encoder: Encoder, texts: Sequence[str], attention: bool = True) -> list[Embedding]:
        """The passages with all their tokens, each with its saliency if the recipe asks for it.

        Args:
            encoder: of the recipe's model.
            texts: of the passages.
            attention: whether to tell the attention that tokens received, if the reduction asks for it.
        """
        attention = attention and "attention" in self.reduction.needs
        embeddings = encoder.encode_documents(texts, attention=attention)
        codec = self._holder.codec if self.recipe.salient else None
        return embeddings if codec is None else codec.saliency(embeddings, "document")

    def reduce(self, embeddings: Sequence[Embedding]) -> list[Embedding]:
        """The passages with the tokens that are stored."""
        if self.recipe.layout == "dense":
            return list(embeddings)
        return [self.reduction(embedding) for embedding in embeddings]

    def code(self, reduced: Sequence[Embedding]) -> list[CodedPassage]:
        """What is stored of reduced passages, at least one; the codec is fitted on them if it is not yet.

        Raises:
            InputError: the recipe keeps saliency, and an embedding has none.
        """
        if self.recipe.layout == "dense":
            return [CodedPassage(embedding.cls) for embedding in reduced]
        tokens = np.concatenate([embedding.tokens for embedding in reduced])
        salient = self.recipe.saliency
        saliency = np.concatenate([_saliency(it) for it in reduced]) if salient else None
        codec = self._holder.codec
        if codec is None or not codec.fitted:
            codec = self._holder.fit_codec(tokens, saliency)
        return CodedPassage.split(
            [embedding.cls for embedding in reduced],
            map(len, reduced),
            codec.encode(tokens),
            None if saliency is None else codec.saliency.encode(saliency),
            None if self.recipe.fde is None else codec.encode_query(tokens),
        )

    def make(self, encoder: Encoder, texts: Sequence[str]) -> list[CodedPassage]:
        """What is stored of passages, at least one, from their texts."""
        return self.code(self.reduce(self.embed(encoder, texts)))


def ready(codec: Codec | None, waiting: Sequence[Embedding]) -> bool:
    """Whether reduced passages need not wait longer: the codec is fitted, or they are enough to fit it on."""
    if codec is None or codec.fitted or len(waiting) >= WAITING:
        return True
    return sum(map(len, waiting)) >= codec.sample


class QueryPipeline:
    """Queries as a recipe asks with them: their rows are chosen, then reduced, then weighed.

    Args:
        recipe: for the encoder's model.
        frequencies: of the corpus's tokens, for reductions and weights by them.
    """

    def __init__(self, recipe: Recipe, frequencies: Frequencies | None = None) -> None:
        self.recipe = recipe
        self._frequencies = frequencies or Frequencies()
        self.reduction: QueryReduction = recipe.make_query_reduction(self._frequencies)
        self.mean: Float32 | None = None
        """(w,) of the tokens of queries, if it is known: it is subtracted from them where a codec centres."""

    def rows(self, query: Embedding) -> Embedding:
        """The rows of a query that are asked with."""
        return self.reduction(own_rows(query) if self.recipe.query_rows == "own" else query)

    def __call__(self, query: Embedding, codec: Codec) -> QueryTokens:
        """What an encoded query asks with, in the scored space of a fitted codec."""
        if self.recipe.salient:
            (query,) = codec.saliency([query], "query")
        query = self.rows(query)
        weights = query_weights(query, self.recipe.query_weights, self._frequencies)
        if self.recipe.saliency and query.saliency is not None:
            weights = query.saliency if weights is None else weights * query.saliency
        return QueryTokens(query, codec.encode_query(query.tokens, self.mean), weights)


def scores(
    codec: Codec, query: QueryTokens, passages: StoredTokens, alignment: Alignment | None, device: str = "cpu"
) -> Float32:
    """(P,) float32 of passages that a codec stored: aligned scores, or MaxSim without an alignment."""
    if alignment is None:
        return maxsim(codec.scorer(query.weighted, device), passages.rows, passages.lengths)
    return aligned(
        codec.scorer(query.tokens, device),
        passages.rows,
        passages.lengths,
        alignment,
        query.weights,
        passages.saliency,
    )


def _saliency(embedding: Embedding) -> Float32:
    if embedding.saliency is None:
        raise InputError("the embedding has no saliency, and the recipe keeps it; weigh it first")
    return embedding.saliency
