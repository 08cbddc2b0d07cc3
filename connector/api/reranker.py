"""Texts that are in no collection, scored for a query: what any retriever has found, in a better order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, TypeVar

import numpy as np

from connector.api.searcher import check_query
from connector.collection.pipeline import (
    CodedPassage,
    OwnCodec,
    PassagePipeline,
    QueryPipeline,
    StoredTokens,
    scores,
)
from connector.collection.recipe import Recipe, get_recipe
from connector.compression.reduction import Frequencies
from connector.core.errors import InputError, RecipeError
from connector.core.types import Embedding, Float32
from connector.encoders import DEFAULT_MODEL, Encoder, Model, load_encoder
from connector.scoring.alignment import parse_alignment
from connector.scoring.bm25 import bm25_scores
from connector.scoring.fusion import Float64, parse_fusion
from connector.scoring.strategy import TOKENS_ALONE

T = TypeVar("T")

_CENTER = "center+"
"""What is learned from the texts of a call, too."""


class RankedText(TypedDict):
    """One of the texts that `Reranker.rank` was given.

    Attributes:
        corpus_id: its number among them.
        score: larger is better.
        text: the text.
    """

    corpus_id: int
    score: float
    text: str


class Reranker:
    """Scores texts as a collection of the recipe would, with nothing stored: each call encodes its texts.

    What a collection knows of its passages is taken from the texts of a call: how rare each token and each
    word is and, the more there are, the mean of their tokens. Feedback is not part of it.

    Args:
        model: a model id or folder, or an encoder of your own.
        recipe: how tokens are reduced, stored, aligned and fused with words and CLS vectors. By default
            `colbert`, every token as the model makes it.
        device: such as "cpu" or "cuda"; by default the best there is.

    Raises:
        ModelError: the model cannot be loaded.
        RecipeError: the recipe stores no tokens, or has to learn more than a mean.
    """

    def __init__(
        self,
        model: Model = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        device: str | None = None,
    ) -> None:
        self.encoder = load_encoder(model, device)
        self.recipe = _usable("colbert" if recipe is None else recipe, self.encoder)
        self._alignment = None if self.recipe.alignment is None else parse_alignment(self.recipe.alignment)
        self._fusion = TOKENS_ALONE if self.recipe.fusion is None else parse_fusion(self.recipe.fusion)

    def rank(self, query: str, texts: Sequence[str], top_k: int | None = None) -> list[RankedText]:
        """The texts in order, best first, as `CrossEncoder.rank` of sentence-transformers gives them.

        Args:
            query: not blank.
            texts: as in `scores`.
            top_k: how many of them; None for all.

        Raises:
            InputError: the query is blank, a text is none, or top_k is less than 1.
        """
        _check_top_k(top_k)
        return _best(self.scores(query, texts), texts, top_k)

    def rank_batch(
        self, queries: Sequence[str], texts: Sequence[Sequence[str]], top_k: int | None = None
    ) -> list[list[RankedText]]:
        """`rank` of several queries, each with texts of its own; all are encoded together.

        Args:
            queries: as in `rank`.
            texts: as many lists of texts; one that is in several of them is encoded once.
            top_k: as in `rank`.

        Raises:
            InputError: as `rank` raises it, or there are not as many lists as queries.
        """
        _check_top_k(top_k)
        return [
            _best(scored, own, top_k)
            for scored, own in zip(self.scores_batch(queries, texts), texts, strict=True)
        ]

    def scores(self, query: str, texts: Sequence[str]) -> Float32:
        """How well each text answers a query.

        Args:
            query: not blank.
            texts: what lies beyond the encoder's window does not count; blank ones score 0, or −1 where
                scores are scaled, which is less than all others. Characters that no tokenizer keeps are
                passed over.

        Returns:
            (n,) float32, larger is better: tokens, words and CLS vectors as the recipe fuses them, each on
            the scale of these texts; without a fusion MaxSim, the sum over the query's tokens, or the aligned
            score.

        Raises:
            InputError: the query is blank, or a text is none.
        """
        (scored,) = self.scores_batch([query], [texts])
        return scored

    def scores_batch(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[Float32]:
        """`scores` of several queries, each with texts of its own; all are encoded together.

        Args:
            queries: as in `scores`.
            texts: as many lists of texts; one that is in several of them is encoded once.

        Raises:
            InputError: as `scores` raises it, or there are not as many lists as queries.
        """
        for query in _listed(queries, "queries"):
            check_query(query)
        if len(_listed(texts, "texts")) != len(queries):
            raise InputError(
                f"there are {len(texts)} lists of texts for {len(queries)} queries; give as many"
            )
        readable = [list(map(_readable, _listed(own, "texts"))) for own in texts]
        distinct = list(dict.fromkeys(text for own in readable for text in own if text.strip()))
        if not distinct:
            return [self._unscored(own) for own in readable]
        known = dict(
            zip(distinct, self._pipeline(OwnCodec(self.recipe)).embed(self.encoder, distinct), strict=True)
        )
        asked = self.encoder.encode_queries(list(queries))
        return [self._scored(*each, known) for each in zip(asked, readable, strict=True)]

    def _unscored(self, texts: Sequence[str]) -> Float32:
        return np.full(len(texts), 0 if self._fusion.method == "sum" else -1, np.float32)

    def _scored(self, query: Embedding, texts: Sequence[str], known: Mapping[str, Embedding]) -> Float32:
        scored = self._unscored(texts)
        written = [number for number, text in enumerate(texts) if text in known]
        if written:
            some = [texts[number] for number in written]
            scored[written] = self._fused(query, some, [known[text] for text in some])
        return scored

    def _pipeline(self, holder: OwnCodec) -> PassagePipeline:
        return PassagePipeline(self.recipe, holder, holder.codec.bytes_per_token(self.encoder.token_width))

    def _fused(self, asked: Embedding, texts: Sequence[str], embeddings: Sequence[Embedding]) -> Float64:
        recipe, holder = self.recipe, OwnCodec(self.recipe)
        pipeline = self._pipeline(holder)
        coded = pipeline.code(pipeline.reduce(embeddings))
        weights = self._fusion.weights
        parts = {"tokens": self._tokens(recipe, holder, asked, embeddings, coded)}
        if "bm25" in weights:
            parts["bm25"] = bm25_scores(recipe.lexical or "english", asked.text, texts)
        if "cls" in weights:
            parts["cls"] = np.stack([it.cls for it in embeddings]).astype(np.float64) @ asked.cls
        scaled = [it * self._fusion.scale(name, parts[name])(parts[name]) for name, it in weights.items()]
        fused: Float64 = np.sum(scaled, axis=0)
        return fused

    def _tokens(
        self,
        recipe: Recipe,
        holder: OwnCodec,
        query: Embedding,
        embeddings: Sequence[Embedding],
        coded: Sequence[CodedPassage],
    ) -> Float64:
        """(n,) scores of the texts' tokens."""
        counted = Frequencies()
        counted.add(embeddings)
        question = QueryPipeline(recipe, counted)(query, holder.codec)
        found = StoredTokens.of(coded)
        scored = scores(holder.codec, question, found, self._alignment, self.encoder.device)
        if self._alignment is None and (self._fusion.method != "sum" or recipe.length_penalty):
            scored = scored / question.weight
        return scored.astype(np.float64) - recipe.length_penalty * np.log(found.lengths)


def _listed(values: Sequence[T], name: str) -> Sequence[T]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InputError(f"{name} is {values!r:.80}; give a list of {name}")
    return values


def _readable(text: str) -> str:
    """A text without what no tokenizer keeps."""
    if not isinstance(text, str):
        raise InputError(f"texts hold {text!r:.80}; give a list of texts")
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def _check_top_k(top_k: int | None) -> None:
    if top_k is not None and (not isinstance(top_k, int | np.integer) or top_k is True or top_k < 1):
        raise InputError(f"top_k is {top_k!r}; give a number from 1, or None for all")


def _best(scored: Float32, texts: Sequence[str], top_k: int | None) -> list[RankedText]:
    order = np.argsort(-scored, kind="stable")[:top_k].tolist()
    return [RankedText(corpus_id=it, score=float(scored[it]), text=texts[it]) for it in order]


def _usable(recipe: str | Recipe, encoder: Encoder) -> Recipe:
    named = get_recipe(recipe) if isinstance(recipe, str) else recipe
    chosen = named.for_model(encoder.fingerprint, encoder.late_interaction)
    codec = chosen.make_codec()
    codec.check(encoder.token_width)
    plain = chosen.model_copy(update={"codec": (chosen.codec or "").removeprefix(_CENTER)})
    if plain.make_codec().learns or "frequencies" in chosen.make_reduction().needs:
        raise RecipeError(
            f"recipe {chosen.name} learns from the passages of a collection, and a reranker has none; "
            "choose recipe colbert, or search a collection"
        )
    return chosen
