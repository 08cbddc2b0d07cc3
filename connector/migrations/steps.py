"""What a step of a migration is: planned without touching anything, and run so that it can be cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from connector.collection.collection import Collection
from connector.collection.documents.writer import EncoderOf
from connector.collection.recipe import RECIPES, Recipe
from connector.encoders import Encoder
from connector.stores import Lease, Store
from connector.stores.schema import Hnsw

Route = Literal["nothing", "in place", "backfill", "rebuild"]
"""How a step is done: not at all, by changing the collection, its points, or by making another version."""


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

    def with_recipe(self, recipe: Recipe) -> Shape:
        """The same with another recipe, called by the shortest name that it has."""
        if recipe.same_as(self.recipe):
            return self
        for known in RECIPES.values():
            if known.model_copy(update={"head": recipe.head}).same_as(recipe):
                words = {"name": known.name, "summary": known.summary, "source": known.source}
                recipe = recipe.model_copy(update=words)
        return replace(self, recipe=recipe)


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
        encoder_of: gives the encoder of a version.
        load: gives an encoder by its name.
        lease: held while the migration runs.
        id: of the step; another one each time that a revision is applied or taken back.
        direction: "upgrade" or "downgrade".
        finish: what the collection says when the step is done.
        min_overlap: least mean overlap of the first ten hits of canary queries.
        report: is told how far the step has come.
        say: is told what a person should know.
    """

    store: Store
    name: str
    encoder_of: EncoderOf
    load: Callable[[str], Encoder]
    lease: Lease
    id: str
    direction: str
    finish: Mapping[str, str]
    min_overlap: float
    report: Callable[[Progress], None]
    say: Callable[[str], None]

    @property
    def collection(self) -> Collection:
        """The collection as it is now."""
        return Collection(self.store, self.name)


class Step(Protocol):
    """One change of a collection."""

    def __str__(self) -> str:
        """The step, as a revision writes it."""
        ...

    def check(self, before: Shape) -> Shape:
        """What a collection of this shape is afterwards.

        Raises:
            ConnectorError: it cannot be done, whatever the collection holds.
        """
        ...

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        """What it would do; nothing is written.

        Args:
            before: what the collection is when the steps before this one are done.
            collection: as it is now.
            measure: estimates sizes.
        """
        ...

    def run(self, work: Work) -> None:
        """Do it; what a run that was cut off has done already is not done again.

        `work.finish` is said by the step if it makes another version, else by whoever runs it.
        """
        ...


class Measure(Protocol):
    """Estimates what points take."""

    points: int

    def kept(self, shape: Shape) -> str | None:
        """A version of this shape that is there from before and would be used again."""
        ...

    def rebuilt(self, shape: Shape) -> int | None:
        """Bytes of all points of a collection of this shape."""
        ...

    def vector(self, shape: Shape, name: str) -> int | None:
        """Bytes of a named vector of all points."""
        ...
