"""A collection that describes itself: everything needed to use it is stored with it.

The description is what `connector.collection.metadata` tells. Beside it, as artifacts, are the codec's
arrays and the token frequencies.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from qdrant_client import models

from connector.collection.documents.frequencies import StoredFrequencies
from connector.collection.metadata import (
    DECISIVE,
    SCORING,
    STRATEGY,
    UNCOUNTED,
    CollectionMetadata,
    new_metadata,
    stored_form,
)
from connector.collection.pipeline import PassagePipeline, QueryPipeline
from connector.collection.recipe import Recipe
from connector.collection.versions.aliases import making
from connector.compression.codecs import Codec
from connector.core.errors import CollectionError, EncoderMismatch, RecipeError
from connector.core.types import Float32, point_id
from connector.encoders import Encoder
from connector.scoring.bm25 import BM25
from connector.scoring.muvera import Muvera
from connector.scoring.strategy import Strategy, weighted
from connector.stores import Record, Store
from connector.stores.external import seen_through
from connector.stores.schema import CollectionSchema, Distribution, PayloadKind

CODEC_FILE = "codec.safetensors"


WORDS_FILE = "words.json"
"""Of the average length of passages, so that the first of several writers decides it."""


CANARIES_FILE = "canaries.json"


def _numbered(lte: float | None = None) -> models.Filter:
    """Points that are passages of these numbers; the marks of unfinished documents are none."""
    bounds = models.Range(gte=0, lte=lte)
    return models.Filter(must=[models.FieldCondition(key="passage", range=bounds)])


class Collection:
    """One collection in a store, as it was when this object was made.

    Args:
        store: where it lives.
        name: what users call it, or one of its versions.

    Attributes:
        physical: the version that the name led to, which every call of the store is given.

    Raises:
        CollectionNotFound: there is none of this name.
        CollectionError: it was not made by this library, or by a later version of it.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.name = name
        self.physical = store.aliases().get(name, name)
        self.store = seen_through(store, self.physical)
        self._codec: Codec | None = None
        self._fitting = threading.Lock()
        self.read_metadata()

    @classmethod
    def create(
        cls,
        store: Store,
        name: str,
        recipe: Recipe,
        encoder: Encoder,
        spread: Distribution | None = None,
        indexes: Mapping[str, PayloadKind] | None = None,
    ) -> Collection:
        """Make an empty collection.

        Raises:
            InputError: the name cannot be used.
            CollectionExists: the name is taken.
            StoreLocked: a collection of this name is being imported.
        """
        metadata = new_metadata(recipe, encoder, copies=spread, indexes=dict(indexes or {}))
        with making(store, name) as physical:
            cls.make(store, physical, metadata)
            store.switch(name, physical)
        return cls(store, name)

    @classmethod
    def make(cls, store: Store, physical: str, metadata: CollectionMetadata) -> Collection:
        """Make an empty version of a collection, to which no name leads yet.

        Args:
            store, physical: which.
            metadata: what it says of itself.

        Raises:
            CollectionExists: there is such a version.
        """
        metadata = metadata.made_in(store, physical)
        store.create(physical, metadata.collection_schema, metadata.stored())
        return cls(store, physical)

    def current(self) -> Collection:
        """This object, or a new one if its name leads elsewhere now, or it is described otherwise."""
        now = self.store.info(self.name)
        if all(now.get(key, "") == self._info.get(key, "") for key in DECISIVE):
            if self.frequencies.needed:
                self.frequencies.seen = now.get("frequencies")
            return self
        return Collection(self.store, self.name)

    @property
    def recipe(self) -> Recipe:
        """The recipe it was made with."""
        return self.metadata.recipe

    @property
    def attached(self) -> bool:
        """Whether its points are another program's, with late interaction beside what that keeps there."""
        return self.metadata.layout is not None

    def check_own(self, what: str) -> None:
        """Raises CollectionError if its points are another program's, to which this must not be done."""
        if self.attached:
            raise CollectionError(
                f"collection {self.name!r} is attached: its points are another program's, and {what}"
            )

    def point_id(self, document_id: str, passage: int) -> str:
        """The point of a document's passage; another program's points are documents of one passage each."""
        return document_id if self.attached and passage == 0 else point_id(document_id, passage)

    def read_metadata(self) -> CollectionMetadata:
        """What it says of itself now, which `metadata` is from here on."""
        self._info = self.store.info(self.physical)
        self.metadata = CollectionMetadata.read(self.name, self._info)
        return self.metadata

    def write_metadata(self, **values: Any) -> None:
        """Change what it says of itself; None takes a value away."""
        stored = stored_form(**values)
        self.store.set_info(self.physical, stored)
        self._info = {**self._info, **stored}
        self.metadata = CollectionMetadata.read(self.name, self._info)

    @property
    def schema(self) -> CollectionSchema:
        """Its vectors."""
        return self.metadata.collection_schema

    @property
    def codec(self) -> Codec | None:
        """The codec, fitted if documents have come; None in the dense layout."""
        if self.recipe.codec is None:
            return None
        if self._codec is None or not self._codec.fitted:
            self._codec = self._stored_codec()
        return self._codec

    def _stored_codec(self) -> Codec:
        codec = self.recipe.make_codec()
        if self.metadata.codec is None:  # another connector may have written it since
            self.read_metadata()
        if self.metadata.codec is None:
            return codec
        codec.load(self.store.get_artifact(self.physical, CODEC_FILE))
        if codec.fingerprint != self.metadata.codec:
            raise CollectionError(
                f"collection {self.name!r} expects codec {self.metadata.codec} but holds "
                f"{codec.fingerprint}; restore its codec file"
            )
        return codec

    @property
    def strategy(self) -> Strategy:
        """How candidates are scored."""
        own, now = self.own_scoring, self.metadata
        if not self.adapted:
            return own
        fusion = now.fusion
        if fusion is None:
            fusion = weighted(now.adapted_weight) if now.alignment is not None else own.fusion
        alignment = own.alignment if now.alignment is None else now.alignment
        return Strategy(alignment, fusion, now.feedback)

    @property
    def adapted(self) -> bool:
        """Whether it is scored otherwise than it was made for."""
        return any(getattr(self.metadata, key) is not None for key in STRATEGY)

    @cached_property
    def own_scoring(self) -> Strategy:
        """What the collection was made for."""
        return self.recipe.strategy(self.metadata.cls_weight)

    def adapt(self, scoring: Strategy | None) -> None:
        """Score otherwise from now on.

        No point is written. Searches of this object and of those that open the collection later follow it.

        Args:
            scoring: None goes back to what the collection was made for, and forgets the queries' mean.

        Raises:
            CollectionError: the name leads to another collection or version now.
            StoreLocked: it is being migrated, and the version that is made would not be scored so.
        """
        keys = SCORING if scoring is None else STRATEGY
        self.write_scoring(**{key: getattr(scoring, key, None) for key in keys})

    def write_scoring(self, **values: Any) -> None:
        """Change what metadata say of scoring, keys of `SCORING`; raises as `adapt` does."""
        with self.store.lease(self.name):
            self.check_current()
            if self.store.aliases().get(self.name, self.name) != self.physical:
                raise CollectionError(
                    f"collection {self.name!r} was migrated in the meantime; adapt it again"
                )
            self.write_metadata(**values)

    @cached_property
    def pipeline(self) -> PassagePipeline:
        """What makes of passages what the collection stores, with the frequencies that ingest counts."""
        return PassagePipeline(self.recipe, self, self.metadata.token_bytes, self.frequencies.for_passages)

    @property
    def query_pipeline(self) -> QueryPipeline:
        """What makes of queries what it is asked with, with the frequencies that it was last seen to have."""
        if "frequencies" in self.recipe.query_needs:
            self.frequencies.refresh()
        self._queries.mean = self.metadata.query_center
        return self._queries

    @cached_property
    def _queries(self) -> QueryPipeline:
        return QueryPipeline(self.recipe, self.frequencies.for_queries)

    @cached_property
    def frequencies(self) -> StoredFrequencies:
        """The token frequencies, counted if the recipe asks for them."""
        return StoredFrequencies(self.store, self.physical, "frequencies" in self.recipe.needs)

    @cached_property
    def muvera(self) -> Muvera:
        """What makes fixed dimensional encodings.

        Raises:
            MissingExtra: the package that does it is not installed.
        """
        return Muvera(self.recipe.make_codec().width(self.metadata.token_width))

    def documents(self) -> int:
        """How many finished documents it holds."""
        return self.store.count(self.physical, _numbered(lte=0))

    def passages(self) -> int:
        """How many passages it holds."""
        return self.store.count(self.physical, _numbered())

    def scroll_passages(self, keys: Sequence[str]) -> Iterator[Record]:
        """The passages that it holds, with these payload keys."""
        return self.store.scroll(self.physical, keys, filter=_numbered())

    @cached_property
    def vector_bytes(self) -> dict[str, int]:
        """Bytes of one stored row of each named vector of Qdrant's."""
        return self.metadata.vector_bytes

    def as_if(self, recipe: Recipe, codec: Codec) -> Collection:
        """This collection as if it had another recipe and codec: to score by, in memory, and nothing else.

        Args:
            recipe: for the model of the collection.
            codec: fitted.
        """
        other = Collection.__new__(Collection)
        vars(other).update({key: vars(self)[key] for key in ("name", "physical", "store", "_info")})
        other.metadata = self.metadata.model_copy(update={"recipe": recipe, "codec": codec.fingerprint})
        other._codec, other._fitting = codec, threading.Lock()
        return other

    def check_current(self) -> None:
        """Raises CollectionError if the name means another collection now than when this one was opened."""
        if self.store.info(self.physical).get("uid") != self.metadata.uid:
            raise self.replaced()

    def replaced(self) -> CollectionError:
        """What to raise when points do not look as this collection's recipe makes them."""
        if self.attached:
            return CollectionError(f"points of {self.name!r} lack what was added to them; attach to it again")
        return CollectionError(
            f"collection {self.name!r} was dropped and made again since it was opened; open it again"
        )

    def check_encoder(self, encoder: Encoder) -> None:
        """Raises EncoderMismatch unless this encoder makes the vectors that the collection holds."""
        made = self.metadata
        former = getattr(encoder, "former_fingerprint", None) if encoder.fingerprint != made.encoder else None
        if made.encoder not in (encoder.fingerprint, former):
            raise EncoderMismatch(
                f"collection {self.name!r} was made by {made.model} ({made.encoder}), this is "
                f"{encoder.name} ({encoder.fingerprint}); use that model, or make a new collection. (Until "
                "version 0.1 a model whose checkpoint lacks a layer, such as BERT's pooler, had another "
                "fingerprint in each process: what it made has to be ingested again.)"
            )

    def fit_codec(self, tokens: Float32, saliency: Float32 | None = None) -> Codec:
        """Fit the codec on the first documents' tokens and store it before any of them.

        Args:
            tokens: (N, w) float32.
            saliency: (N,) float32 of the same tokens, if the recipe keeps it.
        """
        with self._fitting:
            stored = self.codec
            if stored is not None and stored.fitted:
                return stored
            return self.take_codec(self.recipe.make_codec().fit(tokens, saliency=saliency))

    def take_codec(self, fitted: Codec) -> Codec:
        """Store a fitted codec, unless there is one; gives the one that is stored."""
        # Of several writers that fit at the same time the first one's codec becomes that of all.
        codec = self.recipe.make_codec().load(
            self.store.claim_artifact(self.physical, CODEC_FILE, fitted.save())
        )
        self.write_metadata(codec=codec.fingerprint)
        self._codec = codec
        return codec

    @property
    def words(self) -> BM25:
        """What makes the index of words.

        Raises:
            RecipeError: the recipe has none.
        """
        if (words := self.metadata.words) is None:
            raise RecipeError(f"recipe {self.recipe.name} has no index of words")
        return words

    def count_words(self, texts: Iterable[str]) -> None:
        """Store the average length of passages before any of them, unless there is one."""
        with self._fitting:
            if self.metadata.average_words == UNCOUNTED and (counted := self.words.mean_length(texts)):
                # Of several writers the first one's becomes that of all, as with the codec.
                claim = json.dumps({"average_words": counted}).encode()
                first = json.loads(self.store.claim_artifact(self.physical, WORDS_FILE, claim))
                self.write_metadata(average_words=first["average_words"])
