"""What points would take, estimated from what is stored; nothing is written."""

from __future__ import annotations

import itertools
import json
from functools import cached_property

from connector.collection.aliases import versions
from connector.collection.collection import Collection
from connector.collection.documents.document_state import read, scan
from connector.collection.documents.passages import Passage
from connector.collection.documents.points import text_of
from connector.collection.documents.writer import WORD_BYTES, EncoderOf
from connector.collection.metadata import schema_of
from connector.collection.recipe import Recipe, load_recipe
from connector.compression.reduction import Setting
from connector.core.errors import ConnectorError
from connector.core.types import Embedding, passage_text
from connector.encoders import Encoder
from connector.migrations.steps import Shape
from connector.stores import Record
from connector.stores.schema import CLS, FDE, LEXICAL

_SAMPLE = 64
"""Documents that are looked at."""


class Sampled:
    """Estimates by a few documents; only a reduction that is not stored yet needs the encoder.

    Args:
        collection: as it is now.
        encoder_of: gives its encoder.
        back: whether revisions are taken back, for which versions from before are used again.
    """

    def __init__(self, collection: Collection, encoder_of: EncoderOf, back: bool = False) -> None:
        self._collection = collection
        self._encoder_of = encoder_of
        self._back = back
        self.points = collection.passages()

    def kept(self, shape: Shape) -> str | None:
        """A version of this shape that is there from before and would be used again."""
        store, own = self._collection.store, self._collection
        others = [it for it in versions(store, own.name) if it != own.physical] if self._back else []
        for physical in reversed(others):
            said = store.info(physical)
            if said.get("building") or said.get("model") != shape.model or "recipe" not in said:
                continue
            hnsw = "" if shape.hnsw is None else shape.hnsw.model_dump_json()
            recipe = shape.recipe.for_model(said["encoder"])
            if load_recipe(said["recipe"]).same_as(recipe) and said.get("hnsw", "") == hnsw:
                return physical
        return None

    @cached_property
    def _pairs(self) -> list[tuple[Passage, Record]]:
        first = dict(itertools.islice(scan(self._collection), _SAMPLE))
        found = read(self._collection, first, ["rows", "words", "codes", "saliency"])
        return [pair for pairs in found.values() for pair in pairs][: 2 * _SAMPLE]

    def rebuilt(self, shape: Shape) -> int | None:
        """Bytes of vectors, codes and payload of all points of a collection of this shape."""
        if not self._pairs:
            return 0
        try:
            rows = self._rows(shape.recipe)
        except ConnectorError:
            return None
        recipe, said = shape.recipe, self._collection.said()
        sizes = {
            it.name: it.bytes_per_row
            for it in schema_of({**said, "recipe": recipe.model_dump_json()}).vectors
        }
        each = float(sizes[CLS] + sizes.get(FDE, 0) + self._payload())
        if recipe.codec is not None:
            row = recipe.make_codec().bytes_per_token(int(said["token_width"])) + (
                recipe.saliency and recipe.layout == "codes"
            )
            each += rows * row * (4 / 3 if recipe.layout == "codes" else 1)  # base64
        if recipe.lexical is not None:
            each += WORD_BYTES * self._words(recipe)
        return round(each * self.points)

    def vector(self, shape: Shape, name: str) -> int | None:
        """Bytes of a named vector of all points."""
        if not self._pairs:
            return 0
        if name == LEXICAL:
            return round(self.points * WORD_BYTES * self._words(shape.recipe))
        said = {**self._collection.said(), "recipe": shape.recipe.model_dump_json()}
        return self.points * schema_of(said).vector(name).bytes_per_row

    def _rows(self, recipe: Recipe) -> float:
        """Mean token rows of a passage."""
        if recipe.layout == "dense":
            return 0.0
        own = self._collection.recipe
        if own.layout != "dense" and own.reduction == recipe.reduction:
            rows = [record.payload.get("rows", 0) for _, record in self._pairs]
            return float(sum(rows) / len(rows))
        return self._encoded_rows(recipe, self._encoder_of(self._collection))

    def _encoded_rows(self, recipe: Recipe, encoder: Encoder) -> float:
        recipe = recipe.for_model(encoder.fingerprint)
        reduction = recipe.make_reduction(Setting(recipe.make_codec().bytes_per_token(encoder.token_width)))
        if reduction.needs:  # what it needs is not there before the version is made: nothing is reduced here
            return float(sum(map(len, self._embeddings)) / len(self._embeddings))
        return float(sum(len(reduction(it)) for it in self._embeddings) / len(self._embeddings))

    @cached_property
    def _embeddings(self) -> list[Embedding]:
        texts = [text_of(passage) for passage, _ in self._pairs]
        return self._encoder_of(self._collection).encode_documents(texts)

    def _words(self, recipe: Recipe) -> float:
        from connector.scoring.bm25 import BM25

        if recipe.lexical is None:
            return 0.0
        words = BM25(recipe.lexical)
        texts = [passage_text(passage.document.title, passage.text) for passage, _ in self._pairs]
        return sum(len(words.passage(text)) for text in texts) / len(texts)

    def _payload(self) -> float:
        """Mean bytes of text, title, metadata and what belongs to them."""
        own = ("codes", "saliency")
        sizes = [
            len(json.dumps({k: v for k, v in record.payload.items() if k not in own}).encode())
            for _, record in self._pairs
        ]
        return sum(sizes) / len(sizes)
