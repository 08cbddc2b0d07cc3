"""What points would take, estimated from what is stored; nothing is written."""

from __future__ import annotations

import itertools
import json
from functools import cached_property

from connector.collection.collection import Collection
from connector.collection.documents.document_state import read, scan
from connector.collection.documents.passages import Passage
from connector.collection.documents.points import text_of
from connector.collection.documents.writer import WORD_BYTES, EncoderOf
from connector.collection.recipe import Recipe
from connector.compression.reduction import Setting
from connector.core.errors import ConnectorError
from connector.core.types import Embedding
from connector.encoders import Encoder
from connector.migrations.steps import Shape
from connector.scoring.bm25 import BM25
from connector.stores import Record
from connector.stores.schema import CLS, FDE, LEXICAL, CollectionSchema

_SAMPLE = 64
"""Documents that are looked at."""


class Estimate:
    """Sizes by a few documents; only a reduction that is not stored yet needs the encoder.

    Args:
        collection: as it is now.
        encoder_of: gives its encoder.
        back: whether revisions are taken back, for which versions from before are used again.

    Attributes:
        points: how many the collection has.
    """

    def __init__(self, collection: Collection, encoder_of: EncoderOf, back: bool = False) -> None:
        self._collection = collection
        self._encoder_of = encoder_of
        self._back = back
        self.points = collection.passages()

    def kept(self, shape: Shape) -> str | None:
        """A version of this shape that is there from before and would be used again."""
        return shape.kept(self._collection, model=shape.model) if self._back else None

    @cached_property
    def _pairs(self) -> list[tuple[Passage, Record]]:
        first = dict(itertools.islice(scan(self._collection), _SAMPLE))
        found = read(self._collection, first, ["rows", "words", "codes", "saliency"])
        return [pair for pairs in found.values() for pair in pairs][: 2 * _SAMPLE]

    @cached_property
    def _texts(self) -> list[str]:
        return [text_of(passage) for passage, _ in self._pairs]

    def rebuilt(self, shape: Shape) -> int | None:
        """Bytes of vectors, codes and payload of all points of a collection of this shape."""
        if not self._pairs:
            return 0
        try:
            rows = self._rows(shape.recipe)
        except ConnectorError:
            return None
        recipe = shape.recipe
        sizes = {it.name: it.bytes_per_row for it in self._schema(recipe).vectors}
        each = sizes[CLS] + sizes.get(FDE, 0) + self._payload() + WORD_BYTES * self._words(recipe)
        if recipe.codec is not None:
            row = recipe.make_codec().bytes_per_token(self._collection.metadata.token_width) + (
                recipe.saliency and recipe.layout == "codes"
            )
            each += rows * row * (4 / 3 if recipe.layout == "codes" else 1)  # base64
        return round(each * self.points)

    def vector(self, shape: Shape, name: str) -> int:
        """Bytes of a named vector of all points."""
        if not self._pairs:
            return 0
        if name == LEXICAL:
            return round(self.points * WORD_BYTES * self._words(shape.recipe))
        return self.points * self._schema(shape.recipe).vector(name).bytes_per_row

    def _schema(self, recipe: Recipe) -> CollectionSchema:
        return self._collection.metadata.with_recipe(recipe).collection_schema

    def _rows(self, recipe: Recipe) -> float:
        """Mean token rows of a passage."""
        if recipe.layout == "dense":
            return 0.0
        own = self._collection.recipe
        if own.layout != "dense" and own.reduction == recipe.reduction:
            return _mean([record.payload.get("rows", 0) for _, record in self._pairs])
        return self._encoded_rows(recipe, self._encoder_of(self._collection))

    def _encoded_rows(self, recipe: Recipe, encoder: Encoder) -> float:
        recipe = recipe.for_model(encoder.fingerprint)
        reduction = recipe.make_reduction(Setting(recipe.make_codec().bytes_per_token(encoder.token_width)))
        if reduction.needs:  # what it needs is not there before the version is made: nothing is reduced here
            return _mean([len(it) for it in self._embeddings])
        return _mean([len(reduction(it)) for it in self._embeddings])

    @cached_property
    def _embeddings(self) -> list[Embedding]:
        return self._encoder_of(self._collection).encode_documents(self._texts)

    def _words(self, recipe: Recipe) -> float:
        """Mean words of a passage in its sparse vector."""
        if recipe.lexical is None:
            return 0.0
        words = BM25(recipe.lexical)
        return _mean([len(words.passage(text)) for text in self._texts])

    def _payload(self) -> float:
        """Mean bytes of text, title, metadata and what belongs to them."""
        own = ("codes", "saliency")
        payloads = [{k: v for k, v in it.payload.items() if k not in own} for _, it in self._pairs]
        return _mean([len(json.dumps(payload).encode()) for payload in payloads])


def _mean(sizes: list[int]) -> float:
    return sum(sizes) / len(sizes)
