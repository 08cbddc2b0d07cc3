"""What steps of a migration share: shapes of a collection, plans, progress, and what a running step has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from qdrant_client import models

from connector.collection.aliases import versions
from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, scan
from connector.collection.documents.writer import EncoderOf
from connector.collection.metadata import CollectionMetadata
from connector.collection.pipeline import WINDOW
from connector.collection.recipe import RECIPES, Recipe
from connector.core.io import batched
from connector.encoders import Encoder
from connector.stores import Lease, Store
from connector.stores.schema import CLS, Hnsw

Route = Literal["in place", "backfill", "rebuild"]
"""How a step is done: by changing the collection, its points, or by making another version."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a collection is before or after a step.

    Args:
        recipe: what it stores.
        model: name of its encoder.
        hnsw: the graph of its CLS vectors; None for the engine's own choice.
        indexes: indexed payload keys.
    """

    recipe: Recipe
    model: str
    hnsw: Hnsw | None = None
    indexes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, collection: Collection) -> Shape:
        """What a collection is now."""
        hnsw = collection.schema.vector(CLS).hnsw
        return cls(collection.recipe, collection.model, hnsw, collection.metadata.indexes)

    def with_recipe(self, recipe: Recipe) -> Shape:
        """The same with another recipe, called by the shortest name that it has."""
        if recipe.same_as(self.recipe):
            return self
        for known in RECIPES.values():
            if known.model_copy(update={"head": recipe.head}).same_as(recipe):
                words = {"name": known.name, "summary": known.summary, "source": known.source}
                recipe = recipe.model_copy(update=words)
        return replace(self, recipe=recipe)

    def matches(self, metadata: CollectionMetadata) -> bool:
        """Whether a version of this metadata is whole, and has this recipe and graph."""
        recipe = self.recipe.for_model(metadata.encoder)
        return not metadata.building and metadata.recipe.same_as(recipe) and metadata.hnsw == self.hnsw

    def kept(self, collection: Collection, **like: str) -> str | None:
        """The newest other version of a collection that matches, and whose metadata has these keys."""
        for physical in reversed(versions(collection.store, collection.name)):
            info = collection.store.info(physical)
            if physical == collection.physical or info.get("building") or not like.items() <= info.items():
                continue
            if self.matches(CollectionMetadata.read(physical, info)):
                return physical
        return None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a step would do.

    Args:
        step: the step, as a revision writes it.
        route: how it is done.
        points: how many points it writes.
        bytes: that it needs beside what is there, estimated; None if that cannot be known.
        notes: what to know about it.
        after: what the collection is then.
    """

    step: str
    route: Route
    points: int
    bytes: int | None
    notes: tuple[str, ...]
    after: Shape


@dataclass(slots=True)
class Progress:
    """How far a step has come.

    Args:
        step: the step, as a revision writes it.
        doing: what it is doing, such as "copying".
        done: documents so far.
        total: documents in all, as far as is known.
    """

    step: str
    doing: str
    done: int
    total: int


@dataclass(slots=True)
class Work:
    """What a step needs to run.

    Args:
        store, name: the collection.
        step: the step, as a revision writes it.
        id: of the step; another one each time that a revision is applied or taken back.
        direction: "upgrade" or "downgrade".
        finish: what the collection says when the step is done.
        lease: held while the migration runs.
        encoder_of: gives the encoder of a version.
        load: gives an encoder by its name.
        min_overlap: least mean overlap of the first ten hits of canary queries.
        report: is told how far the step has come.
        say: is told what a person should know.
    """

    store: Store
    name: str
    step: str
    id: str
    direction: str
    finish: Mapping[str, str]
    lease: Lease
    encoder_of: EncoderOf
    load: Callable[[str], Encoder]
    min_overlap: float
    report: Callable[[Progress], None]
    say: Callable[[str], None]

    @property
    def collection(self) -> Collection:
        """The collection as it is now."""
        return Collection(self.store, self.name)

    def progress(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Tell how far the step has come, in documents."""
        self.report(Progress(self.step, doing, done, max(done, total)))

    def windows(
        self, collection: Collection, doing: str, filter: models.Filter | None = None
    ) -> Iterator[list[tuple[str, State]]]:
        """All documents of a collection, some at a time, while the lease is held, with their progress.

        Args:
            collection: which.
            doing: what is being done to them.
            filter: on payload keys.

        Raises:
            StoreLocked: the lease is lost.
        """
        total, done = collection.documents(), 0
        for window in batched(scan(collection, filter), WINDOW):
            self.lease.check()
            yield window
            done += len(window)
            self.progress(doing, done, total)
