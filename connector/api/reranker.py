"""Texts that are in no collection, scored for a query: what any retriever has found, in a better order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from connector.api.connector import check_query
from connector.collection.coding import code
from connector.collection.pipeline import QueryPipeline, scores
from connector.collection.recipe import RECIPES, Recipe, get_recipe
from connector.core.errors import InputError, RecipeError
from connector.core.types import Float32
from connector.encoders import DEFAULT_MODEL, Encoder, load_encoder
from connector.scoring.alignment import parse_alignment


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

    Args:
        model: a model id or folder, or an encoder of your own.
        recipe: how tokens are reduced, stored and aligned. By default `default` for models that a head comes
            for, else `colbert`, every token as the model makes it.
        device: such as "cpu" or "cuda"; by default the best there is.

    Raises:
        ModelError: the model cannot be loaded.
        RecipeError: the recipe stores no tokens, or has to learn from a collection.
    """

    def __init__(
        self,
        model: str | Encoder = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        device: str | None = None,
    ) -> None:
        self.encoder = load_encoder(model, device)
        self.recipe = _usable(recipe, self.encoder)
        self._queries = QueryPipeline(self.recipe)
        self._alignment = None if self.recipe.alignment is None else parse_alignment(self.recipe.alignment)

    def rank(self, query: str, texts: Sequence[str], top_k: int | None = None) -> list[RankedText]:
        """The texts in order, best first, as `CrossEncoder.rank` of sentence-transformers gives them.

        Args:
            query: not blank.
            texts: as in `scores`.
            top_k: how many of them; None for all.

        Raises:
            InputError: the query is blank, a text is none, or top_k is less than 1.
        """
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise InputError(f"top_k is {top_k!r}; give a number from 1, or None for all")
        scored = self.scores(query, texts)
        order = np.argsort(-scored, kind="stable")[:top_k].tolist()
        return [RankedText(corpus_id=it, score=float(scored[it]), text=texts[it]) for it in order]

    def scores(self, query: str, texts: Sequence[str]) -> Float32:
        """How well each text answers a query.

        Args:
            query: not blank.
            texts: what lies beyond the encoder's window does not count; blank ones score zero. Characters
                that no tokenizer keeps are passed over.

        Returns:
            (n,) float32, larger is better: MaxSim, the sum over the query's tokens, or the aligned score.

        Raises:
            InputError: the query is blank, or a text is none.
        """
        check_query(query)
        if not isinstance(texts, Sequence) or isinstance(texts, str):
            raise InputError(f"texts is {texts!r:.80}; give a list of texts")
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"texts is {texts!r:.80}; give a list of texts")
        readable = [text.replace("\0", " ").encode("utf-8", "replace").decode() for text in texts]
        scored = np.zeros(len(texts), np.float32)
        written = [number for number, text in enumerate(readable) if text.strip()]
        if not written:
            return scored
        (coded,) = code([readable[number] for number in written], self.encoder, [self.recipe])
        (embedding,) = self.encoder.encode_queries([query])
        query_tokens = self._queries(embedding, coded.codec)
        found = coded.of(np.arange(len(written)))
        scored[written] = scores(coded.codec, query_tokens, found, self._alignment, self.encoder.device)
        return scored


def _usable(recipe: str | Recipe | None, encoder: Encoder) -> Recipe:
    if recipe is None:
        chosen = RECIPES["default"].for_model(encoder.fingerprint, encoder.late_interaction)
        return RECIPES["colbert"] if chosen.make_codec().learns else chosen
    chosen = (get_recipe(recipe) if isinstance(recipe, str) else recipe).for_model(
        encoder.fingerprint, encoder.late_interaction
    )
    codec = chosen.make_codec()
    codec.check(encoder.token_width)
    if codec.learns or "frequencies" in chosen.needs:
        raise RecipeError(
            f"recipe {chosen.name} learns from the passages of a collection, and a reranker has none; "
            "choose recipe default or colbert, or search a collection"
        )
    return chosen
