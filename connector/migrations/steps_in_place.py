"""Steps that change a collection where it is, if the engine can: its vectors, its indexes, its payloads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from pydantic import ValidationError
from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, read
from connector.collection.metadata import UNCOUNTED, CollectionMetadata
from connector.collection.versions import transcode
from connector.collection.versions.transcode import fill
from connector.core.errors import ConnectorError, MigrationError, StoreLocked, one_line
from connector.core.types import Document
from connector.encoders import Encoder
from connector.migrations.steps import Estimate, Outlook, Step, Work, with_recipe
from connector.stores import PayloadKind, Point
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS, Hnsw

_ADDED = (LEXICAL, FDE)


_IGNORED = "this engine ignores it"


@dataclass(frozen=True)
class _VectorStep(Step):
    """A step that adds or drops a vector by which candidates come."""

    vector: str

    def varied(self, before: CollectionMetadata, value: str) -> CollectionMetadata:
        """The shape with another value of the vector's field in recipes."""
        if self.vector not in _ADDED:
            raise MigrationError(
                f"vector {self.vector!r} cannot be added or dropped alone; {' and '.join(_ADDED)} can, {CLS} "
                f"and {TOKENS} change with reindex"
            )
        return with_recipe(before, before.recipe.varied(**{self.vector: value}))

    def encoder(self, work: Work, source: Collection, after: CollectionMetadata) -> Encoder | None:
        enough = transcode.why_not(source.recipe, after.recipe) is None
        return None if enough else work.encoder_of(source)


@dataclass(frozen=True)
class AddVector(_VectorStep):
    """Add a vector by which candidates may come, and give it to every point.

    Args:
        vector: "lexical" or "fde".
        value: as in recipes: a language such as "english", or "muvera".
    """

    value: str

    route = "backfill"

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        if getattr(before.recipe, self.vector, None) not in (None, self.value):
            raise MigrationError(f"there is a vector {self.vector!r} already; drop it before {self}")
        return self.varied(before, self.value)

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:
        size = estimate.vector(after, self.vector)
        return estimate.points, size, ["searches cannot use it until it is there"]

    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:
        if collection.metadata.filling is None:
            new = LEXICAL if self.vector == LEXICAL else after.collection_schema.vector(self.vector)
            work.store.add_vector(collection.physical, new)
            words: dict[str, Any] = {}
            if after.words is not None and after.average_words == UNCOUNTED:  # with what a writer cannot know
                words = {"average_words": after.words.mean_length(work.texts(collection))}
            collection.write_metadata(recipe=after.recipe, filling=self.vector, **words)
        collection = work.collection
        for _ in range(2):  # a writer that does not know the vector may be killed before it looks
            for window in work.windows(collection, "backfilling", _without(self.vector)):
                fill(collection, [id_ for id_, _ in window], work.encoder_of, self.vector)
        work.store.finish(collection.physical)
        collection.write_metadata(filling=None)


def _without(vector: str) -> models.Filter:
    """Points that have no such vector yet; a text without words has an empty one, so its number tells."""
    if vector == LEXICAL:
        return models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="words"))])
    return models.Filter(must_not=[models.HasVectorCondition(has_vector=vector)])


@dataclass(frozen=True)
class DropVector(_VectorStep):
    """Drop a vector by which candidates came.

    Args:
        vector: "lexical" or "fde".
    """

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        return self.varied(before, "none")

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:  # noqa: ARG002
        return estimate.points, 0, ()

    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:
        words = {"average_words": None} if self.vector == LEXICAL else {}
        collection.write_metadata(recipe=after.recipe, filling=None, **words)
        work.store.drop_vector(collection.physical, self.vector)
        for window in work.windows(collection, "dropping") if self.vector == LEXICAL else ():
            pairs = [pair for them in read(collection, dict(window), ["words"]).values() for pair in them]
            points = [Point(record.id, {}, {"words": None}) for _, record in pairs]
            work.store.amend(collection.physical, points)


@dataclass(frozen=True)
class CreatePayloadIndex(Step):
    """Index the values of a metadata key, so that filters on it are quick.

    Args:
        key: a metadata key, such as "year" or "author.name".
        kind: of its values.
    """

    key: str
    kind: str

    alters = False

    @property
    def _path(self) -> str:
        return self.key if self.key.startswith("metadata.") else f"metadata.{self.key}"

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        if self.kind not in get_args(PayloadKind):
            kinds = ", ".join(get_args(PayloadKind))
            raise MigrationError(f"{self}: there is no such kind; give one of {kinds}")
        return before.model_copy(update={"indexes": {**before.indexes, self._path: self.kind}})

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:  # noqa: ARG002
        return 0, None, () if estimate.collection.store.capabilities.indexes else (_IGNORED,)

    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:
        work.store.create_index(collection.physical, self._path, after.indexes[self._path])
        collection.write_metadata(indexes=after.indexes)


@dataclass(frozen=True)
class MapPayload(Step):
    """Change the metadata of every document.

    Each document is changed once, also when the step is cut off and run again: its points say which step
    changed them last. Writers wait in the meantime.

    Args:
        change: gives the new metadata of a document for its metadata.
    """

    change: Callable[[dict[str, Any]], Mapping[str, Any]]

    route = "backfill"
    alters = False

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        if not callable(self.change):
            raise MigrationError(
                f"map_payload takes a function of a document's metadata, got {self.change!r:.80}"
            )
        return before

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:  # noqa: ARG002
        notes = []
        for passage, _ in estimate.pairs[:1]:
            id_, old = passage.document.id, dict(passage.document.metadata)
            notes = [f"document {id_!r}: {old} becomes {self._changed(id_, old)}"[:300]]
        return estimate.points, 0, notes

    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:  # noqa: ARG002
        for _ in self._points(work, collection, "checking"):  # nothing is written if it fails for one
            continue
        collection.write_metadata(frozen=work.id)
        try:
            for points in self._points(work, collection, "writing"):
                work.store.amend(collection.physical, points)
        except StoreLocked:  # who has taken over goes on with it
            raise
        except BaseException:
            collection.write_metadata(frozen=None)
            raise
        collection.write_metadata(frozen=None)

    def _points(self, work: Work, collection: Collection, doing: str) -> Iterator[list[Point]]:
        for window in work.windows(collection, doing):
            if any(_begun_otherwise(work, state) for _, state in window):
                raise MigrationError(
                    f"the file of {self} was changed after some documents were changed by it; restore it and "
                    "run the command again"
                )
            yield self._window(work, collection, {id_: it for id_, it in window if it.revised != work.id})

    def _window(self, work: Work, collection: Collection, found: Mapping[str, State]) -> list[Point]:
        return [  # of a document, the first passage, which says that all are done, comes last
            Point(
                record.id, {}, {"metadata": self._changed(id_, passage.document.metadata), "revised": work.id}
            )
            for id_, pairs in read(collection, found).items()
            for passage, record in pairs
        ]

    def _changed(self, id_: str, old: Mapping[str, Any]) -> dict[str, Any]:
        try:
            new = self.change(copy.deepcopy(dict(old)))
            return dict(Document(id=id_, text="-", metadata=new).metadata)
        except ConnectorError as error:
            raise MigrationError(f"{self}: {error}; return a dictionary that is JSON") from error
        except (Exception, SystemExit) as error:
            why = f"{self} fails for document {id_!r}: {type(error).__name__}: {error}; it changed nothing"
            raise MigrationError(one_line(why)) from error


def _begun_otherwise(work: Work, state: State) -> bool:
    """Whether a document was changed by the same step, of which its file said something else then."""
    revised = state.revised or ""
    return revised != work.id and revised.rpartition(".")[0] == work.id.rpartition(".")[0]


class _Indexing(Step):
    """A step that changes how a vector is indexed, where an engine indexes it."""

    vector: ClassVar[str]

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:  # noqa: ARG002
        return 0, None, () if estimate.collection.store.capabilities.quantizes else (_IGNORED,)

    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:
        collection.write_metadata(recipe=after.recipe, hnsw=after.hnsw)
        if work.store.capabilities.quantizes:
            work.store.alter_vector(collection.physical, after.collection_schema.vector(self.vector))


@dataclass(frozen=True)
class SetQuantization(_Indexing):
    """Change what Qdrant scores tokens by.

    Args:
        quantization: as in recipes; None for the tokens themselves.
    """

    quantization: str | None

    vector = TOKENS

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        return with_recipe(before, before.recipe.varied(quantization=self.quantization or "none"))


@dataclass(frozen=True)
class SetHnsw(_Indexing):
    """Change the graph by which CLS vectors are found.

    Args:
        m: edges of a node.
        ef_construct: neighbours looked at to build it.
    """

    m: int = 16
    ef_construct: int = 100

    vector = CLS

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        try:
            hnsw = Hnsw(m=self.m, ef_construct=self.ef_construct)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{first['loc'][0]} is {first['input']!r}: {first['msg']}"
            raise MigrationError(f"set_hnsw: {what}") from error
        return before.model_copy(update={"hnsw": hnsw})
