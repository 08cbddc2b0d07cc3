"""All passages of a corpus as recipes store them, in memory: what is tried, judged and written elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.pipeline import (
    WINDOW,
    CodedPassage,
    OwnCodec,
    PassagePipeline,
    StoredTokens,
    ready,
)
from connector.collection.recipe import Recipe
from connector.compression.codecs import Codec
from connector.compression.codecs.scalar_quantization import stored_bytes
from connector.core.types import Embedding
from connector.encoders import Encoder


@dataclass(frozen=True, slots=True)
class CodedPassages:
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

    def of(self, passages: NDArray[np.integer]) -> StoredTokens:
        """What is stored of these passages, by number."""
        ends = np.cumsum(self.lengths)
        taken = np.concatenate([np.arange(ends[it] - self.lengths[it], ends[it]) for it in passages])
        saliency = None if self.saliency is None else self.saliency[taken]
        return StoredTokens(self.rows[taken], self.lengths[passages], saliency)


def code(
    texts: Sequence[str],
    encoder: Encoder,
    recipes: Sequence[Recipe],
    step: Callable[[int], None] = lambda _: None,
) -> Iterator[CodedPassages]:
    """The passages under recipes that have the same reduction and weigh tokens alike, reduced once for all.

    Args:
        texts: what the encoder sees of each passage; a `CachedEncoder` encodes them once.
        encoder: of the recipes' model.
        recipes: at least one, with heads for that model.
        step: called after each window with the number of passages so far.
    """
    codings = [_Coding(recipe, encoder) for recipe in recipes]
    pipeline = codings[0].pipeline
    for start in range(0, len(texts), WINDOW):
        window = texts[start : start + WINDOW]
        reduced = pipeline.reduce(pipeline.embed(encoder, window))
        for coding in codings:
            coding.add(reduced)
        step(start + len(window))
    for coding in codings:
        yield coding.coded(encoder.cls_width)


class _Coding:
    """One recipe's passages so far."""

    def __init__(self, recipe: Recipe, encoder: Encoder) -> None:
        holder = OwnCodec(recipe)
        width = holder.codec.bytes_per_token(encoder.token_width)
        self.codec = holder.codec
        self.pipeline = PassagePipeline(recipe, holder, width)
        self._waiting: list[Embedding] = []
        self._made: list[CodedPassage] = []

    def add(self, reduced: Sequence[Embedding]) -> None:
        self._waiting += reduced
        if ready(self.codec, self._waiting):
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._made += self.pipeline.code(self._waiting)
            self._waiting = []

    def coded(self, cls_width: int) -> CodedPassages:
        self._flush()
        made = StoredTokens.of(self._made)
        recipe = self.pipeline.recipe
        return CodedPassages(recipe, self.codec, made.rows, made.lengths, made.saliency, cls_width)
