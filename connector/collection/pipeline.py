"""Passages as recipes store them, without a store: encoded once, reduced once for all codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.documents.points import salience, tokens_of
from connector.collection.documents.writer import WAITING, WINDOW
from connector.collection.recipe import Recipe
from connector.collection.search.rerank import Stored
from connector.compression.codecs import Codec
from connector.compression.codecs.base import stored_bytes
from connector.compression.reduction import Setting
from connector.core.types import Embedding
from connector.encoders import Encoder


@dataclass(frozen=True, slots=True)
class Coded:
    """The tokens of all passages under one recipe.

    Args:
        recipe: for the encoder's model.
        codec: fitted.
        rows: (N, …) as the codec stores them, one passage after another.
        lengths: (P,) rows of each passage.
        saliency: (N,) uint8, if the recipe weighs tokens.
        cls_width: of the CLS vectors, which are not here.
    """

    recipe: Recipe
    codec: Codec
    rows: NDArray[Any]
    lengths: NDArray[np.int64]
    saliency: NDArray[np.uint8] | None
    cls_width: int

    @property
    def bytes_per_passage(self) -> float:
        """Mean bytes of all vectors of a passage, as `connector evaluate` counts them."""
        row = self.codec.stored_row_bytes + (self.saliency is not None)
        return float(stored_bytes(self.recipe.cls, self.cls_width) + row * self.lengths.mean())

    def of(self, passages: NDArray[np.integer]) -> Stored:
        """What is stored of these passages, by number."""
        ends = np.cumsum(self.lengths)
        taken = np.concatenate([np.arange(ends[it] - self.lengths[it], ends[it]) for it in passages])
        saliency = None if self.saliency is None else self.saliency[taken]
        return Stored(self.rows[taken], self.lengths[passages], saliency)


def code(
    texts: Sequence[str],
    encoder: Encoder,
    recipes: Sequence[Recipe],
    step: Callable[[int], None] = lambda _: None,
) -> Iterator[Coded]:
    """The passages under recipes that have the same reduction and weigh tokens alike.

    Args:
        texts: what the encoder sees of each passage; a `CachedEncoder` encodes them once.
        encoder: of the recipes' model.
        recipes: at least one, with heads for that model.
        step: called after each window with the number of passages so far.
    """
    codings = [_Coding(recipe, encoder.cls_width) for recipe in recipes]
    first = codings[0]
    reduction = first.recipe.make_reduction(Setting(first.codec.bytes_per_token(encoder.token_width)))
    for start in range(0, len(texts), WINDOW):
        window = texts[start : start + WINDOW]
        embeddings = encoder.encode_documents(window, attention="attention" in reduction.needs)
        if first.recipe.salient:
            embeddings = first.codec.saliency(embeddings, "document")
        reduced = [reduction(embedding) for embedding in embeddings]
        for coding in codings:
            coding.add(reduced)
        step(start + len(window))
    for coding in codings:
        yield coding.coded()


class _Coding:
    """One recipe's passages so far. Those wait whose codec is not fitted, as in an ingest."""

    def __init__(self, recipe: Recipe, cls_width: int) -> None:
        self.recipe = recipe
        self.codec = recipe.make_codec()
        self._cls_width = cls_width
        self._waiting: list[Embedding] = []
        self._rows: list[NDArray[Any]] = []
        self._lengths: list[int] = []
        self._saliency: list[NDArray[np.uint8]] = []

    def add(self, reduced: Sequence[Embedding]) -> None:
        self._waiting += reduced
        waiting = self._waiting
        if self.codec.fitted or len(waiting) >= WAITING or sum(map(len, waiting)) >= self.codec.sample:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        tokens, salient = tokens_of(self._waiting), None
        if self.recipe.saliency:
            salient = np.concatenate([salience(embedding) for embedding in self._waiting])
        if not self.codec.fitted:
            self.codec.fit(tokens, saliency=salient)
        self._rows.append(self.codec.encode(tokens))
        self._lengths += map(len, self._waiting)
        if salient is not None:
            self._saliency.append(self.codec.saliency.encode(salient))
        self._waiting = []

    def coded(self) -> Coded:
        self._flush()
        rows, lengths = np.concatenate(self._rows), np.array(self._lengths)
        saliency = np.concatenate(self._saliency) if self.recipe.saliency else None
        return Coded(self.recipe, self.codec, rows, lengths, saliency, self._cls_width)
