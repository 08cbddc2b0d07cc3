"""Steps that change a collection where it is, if the engine can: its vectors, its indexes, its payloads."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, read, scan
from connector.collection.pipeline import WINDOW
from connector.collection.recipe import Recipe
from connector.collection.versions import transcode
from connector.collection.versions.backfill import fill
from connector.core.errors import ConnectorError, MigrationError, StoreLocked, one_line
from connector.core.io import batched
from connector.core.types import Document
from connector.migrations.rebuild import rebuild
from connector.migrations.steps import Measure, Planned, Progress, Shape, Work
from connector.migrations.steps_rebuild import rebuilt
from connector.stores import PayloadKind, Point
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS

_ADDED = (LEXICAL, FDE)


def _varied(recipe: Recipe, vector: str, value: str) -> Recipe:
    if vector not in _ADDED:
        raise MigrationError(
            f"vector {vector!r} cannot be added or dropped alone; {' and '.join(_ADDED)} can, {CLS} and "
            f"{TOKENS} change with reindex"
        )
    return recipe.varied(**{vector: value})


def _how(before: Shape, after: Shape) -> list[str]:
    """How an engine that cannot change vectors in place comes to the other recipe."""
    why = transcode.why_not(before.recipe, after.recipe)
    made = "stored vectors are copied" if why is None else f"texts are encoded again, as {why}"
    return [f"this engine cannot change it in place: {made}"]


def _copy(work: Work, step: str, source: Collection, recipe: Recipe) -> None:
    """Make another version with another recipe, of what is stored if that is enough."""
    enough = transcode.why_not(source.recipe, recipe) is None
    encoder = None if enough else work.encoder_of(source)
    rebuild(work, step, recipe, encoder=encoder, hnsw=source.schema.vector(CLS).hnsw)


@dataclass(frozen=True, slots=True)
class AddVector:
    """Add a vector by which candidates may come, and give it to every point.

    Args:
        vector: "lexical" or "fde".
        value: as in recipes: a language such as "english", or "muvera".
    """

    vector: str
    value: str

    def __str__(self) -> str:
        return f"add_vector({self.vector!r}, {self.value!r})"

    def check(self, before: Shape) -> Shape:
        if getattr(before.recipe, self.vector, None) not in (None, self.value):
            raise MigrationError(f"there is a vector {self.vector!r} already; drop it before {self}")
        return before.with_recipe(_varied(before.recipe, self.vector, self.value))

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        after = self.check(before)
        if not collection.store.capabilities.alters:
            return rebuilt(self, after, measure, *_how(before, after))
        notes = ("searches cannot use it until it is there",)
        return Planned(
            str(self), "backfill", measure.points, measure.vector(after, self.vector), notes, after
        )

    def run(self, work: Work) -> None:
        before = work.collection
        if not work.store.capabilities.alters:
            _copy(work, str(self), before, self.check(Shape(before.recipe, before.model)).recipe)
            return
        if before.filling is None:
            recipe = self.check(Shape(before.recipe, before.model)).recipe
            new = before.schema_with(recipe)
            work.store.add_vector(
                before.physical, LEXICAL if self.vector == LEXICAL else new.vector(self.vector)
            )
            before.say(recipe=recipe.model_dump_json(), filling=self.vector)
        collection = work.collection
        total, done = collection.documents(), 0
        # Twice: a writer that does not know the vector may be killed when it has written, before it looks.
        for window in itertools.chain.from_iterable(
            batched(scan(collection, _without(self.vector)), WINDOW) for _ in range(2)
        ):
            work.lease.check()
            fill(collection, [id_ for id_, _ in window], work.encoder_of, self.vector)
            done += len(window)
            work.report(Progress(str(self), "filling", done, max(done, total)))
        work.store.finish(collection.physical)
        collection.say(filling="")


def _without(vector: str) -> models.Filter:
    """Points that have no such vector yet; a text without words has an empty one, so its number tells."""
    if vector == LEXICAL:
        return models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="words"))])
    return models.Filter(must_not=[models.HasVectorCondition(has_vector=vector)])


@dataclass(frozen=True, slots=True)
class DropVector:
    """Drop a vector by which candidates came.

    Args:
        vector: "lexical" or "fde".
    """

    vector: str

    def __str__(self) -> str:
        return f"drop_vector({self.vector!r})"

    def check(self, before: Shape) -> Shape:
        return before.with_recipe(_varied(before.recipe, self.vector, "none"))

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        after = self.check(before)
        if not collection.store.capabilities.alters:
            return rebuilt(self, after, measure, *_how(before, after))
        return Planned(str(self), "in place", measure.points, 0, (), after)

    def run(self, work: Work) -> None:
        collection = work.collection
        recipe = self.check(Shape(collection.recipe, collection.model)).recipe
        if not work.store.capabilities.alters:
            _copy(work, str(self), collection, recipe)
            return
        collection.say(recipe=recipe.model_dump_json(), filling="")
        work.store.drop_vector(collection.physical, self.vector)
        if self.vector == LEXICAL:
            for window in batched(scan(collection), WINDOW):
                read_back = read(collection, dict(window), ["words"])
                points = [
                    Point(record.id, {}, {"words": None}) for them in read_back.values() for _, record in them
                ]
                work.store.amend(collection.physical, points)


@dataclass(frozen=True, slots=True)
class CreatePayloadIndex:
    """Index the values of a metadata key, so that filters on it are quick.

    Args:
        key: a metadata key, such as "year" or "author.name".
        kind: of its values.
    """

    key: str
    kind: str

    def __str__(self) -> str:
        return f"create_payload_index({self.key!r}, {self.kind!r})"

    def check(self, before: Shape) -> Shape:
        if self.kind not in get_args(PayloadKind):
            raise MigrationError(
                f"{self}: there is no such kind; give one of {', '.join(get_args(PayloadKind))}"
            )
        return replace(before, indexes={**before.indexes, self._path: self.kind})

    @property
    def _path(self) -> str:
        return self.key if self.key.startswith("metadata.") else f"metadata.{self.key}"

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:  # noqa: ARG002
        ignored = () if collection.store.capabilities.indexes else ("this engine ignores it",)
        return Planned(str(self), "in place", 0, None, ignored, self.check(before))

    def run(self, work: Work) -> None:
        collection = work.collection
        kind: Any = self.kind
        work.store.create_index(collection.physical, self._path, kind)
        collection.say_indexes({**collection.indexes, self._path: kind})


@dataclass(frozen=True, slots=True)
class MapPayload:
    """Change the metadata of every document.

    Each document is changed once, also when the step is cut off and run again: its points say which step
    changed them last. Writers wait meanwhile.

    Args:
        change: gives the new metadata of a document for its metadata.
    """

    change: Callable[[dict[str, Any]], Mapping[str, Any]]

    def __str__(self) -> str:
        return f"map_payload({getattr(self.change, '__name__', 'function')})"

    def check(self, before: Shape) -> Shape:
        if not callable(self.change):
            raise MigrationError(
                f"map_payload takes a function of a document's metadata, got {self.change!r:.80}"
            )
        return before

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        notes = []
        for id_, old in self._first(collection):
            notes.append(f"document {id_!r}: {old} becomes {self._changed(id_, old)}"[:300])
        return Planned(str(self), "backfill", measure.points, 0, tuple(notes), self.check(before))

    def _first(self, collection: Collection) -> list[tuple[str, dict[str, Any]]]:
        for window in batched(scan(collection), 1):
            for id_, pairs in read(collection, dict(window)).items():
                return [(id_, dict(pairs[0][0].document.metadata))]
        return []

    def run(self, work: Work) -> None:
        collection = work.collection
        for _ in self._points(work, collection, "checking"):  # nothing is written if it fails for one
            continue
        collection.say(frozen=work.id)
        try:
            for points in self._points(work, collection, "writing"):
                work.store.amend(collection.physical, points)
        except StoreLocked:  # who has taken over goes on with it
            raise
        except BaseException:
            collection.say(frozen="")
            raise
        collection.say(frozen="")

    def _points(self, work: Work, collection: Collection, doing: str) -> Iterator[list[Point]]:
        total, done = collection.documents(), 0
        for window in batched(scan(collection), WINDOW):
            work.lease.check()
            for _, state in window:
                self._check_begun(work, state)
            yield self._window(work, collection, {id_: it for id_, it in window if it.revised != work.id})
            done += len(window)
            work.report(Progress(str(self), doing, done, max(done, total)))

    def _check_begun(self, work: Work, state: State) -> None:
        """Raises MigrationError if the step was begun by what its file said before."""
        revised = state.revised or ""
        if revised != work.id and revised.rpartition(".")[0] == work.id.rpartition(".")[0]:
            raise MigrationError(
                f"the file of {self} was changed after some documents were changed by it; restore it and run "
                "the command again"
            )

    def _window(self, work: Work, collection: Collection, found: Mapping[str, State]) -> list[Point]:
        points = []
        for id_, pairs in read(collection, found).items():
            for passage, record in pairs:  # the first passage, which says that all are done, comes last
                metadata = self._changed(id_, dict(passage.document.metadata))
                points.append(Point(record.id, {}, {"metadata": metadata, "revised": work.id}))
        return points

    def _changed(self, id_: str, old: dict[str, Any]) -> dict[str, Any]:
        try:
            new = self.change(copy.deepcopy(old))
            return dict(Document(id=id_, text="-", metadata=new).metadata)
        except ConnectorError as error:
            raise MigrationError(f"{self}: {error}; return a dictionary that is JSON") from error
        except (Exception, SystemExit) as error:
            raise MigrationError(
                one_line(
                    f"{self} fails for document {id_!r}: {type(error).__name__}: {error}; it changed nothing"
                )
            ) from error
