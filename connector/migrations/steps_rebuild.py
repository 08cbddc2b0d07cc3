"""What a step of a migration is, and the steps that make another version of what is stored."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar

from pydantic import ValidationError

from connector.collection.collection import Collection
from connector.collection.recipe import Recipe, get_recipe
from connector.collection.versions import transcode
from connector.core.errors import MigrationError, RecipeError
from connector.encoders import Encoder
from connector.migrations.estimate import Estimate
from connector.migrations.rebuild import rebuild
from connector.migrations.steps import Planned, Route, Shape, Work
from connector.stores import Capabilities
from connector.stores.schema import CLS, TOKENS, Hnsw

IGNORED = "this engine ignores it"


class Step(ABC):
    """One change of a collection: planned without touching anything, and run so that it can be cut off.

    Attributes:
        route: how it is done where the engine can.
        alters: whether it changes vectors, for which some engines make another version.
    """

    route: ClassVar[Route] = "in place"
    alters: ClassVar[bool] = True

    def __str__(self) -> str:
        """The step, as a revision writes it; kept with the collection while the revision is applied."""
        name = re.sub(r"\B(?=[A-Z])", "_", type(self).__name__).lower()
        words = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is MISSING:
                words.append(_written(value))
            elif value is not None:
                words.append(f"{field.name}={_written(value)}")
        return f"{name}({', '.join(words)})"

    @abstractmethod
    def check(self, before: Shape) -> Shape:
        """What a collection of this shape is afterwards.

        Raises:
            ConnectorError: it cannot be done, whatever the collection holds.
        """

    def plan(self, before: Shape, collection: Collection, estimate: Estimate) -> Planned:
        """What it would do; nothing is written.

        Args:
            before: what the collection is when the steps before this one are done.
            collection: as it is now.
            estimate: of sizes.
        """
        after, route, points = self.check(before), self.route, estimate.points
        notes = self.notes(after, collection)
        if not self._rebuilds(collection.store.capabilities):
            points, size = self.size(after, estimate)
        elif (kept := estimate.kept(after)) is not None:
            route, size = "rebuild", 0
            notes = [f"{kept} is there from before: only what changed since then is written"]
        else:
            route, size = "rebuild", estimate.rebuilt(after)
            if self.route != "rebuild":
                why = transcode.why_not(before.recipe, after.recipe)
                made = "stored vectors are copied" if why is None else f"texts are encoded again, as {why}"
                notes = [f"this engine cannot change it in place: {made}"]
        return Planned(str(self), route, points, size, tuple(notes), after)

    def size(self, after: Shape, estimate: Estimate) -> tuple[int, int | None]:  # noqa: ARG002
        """How many points it writes where they are, and the bytes that they need more."""
        return 0, None

    def notes(self, after: Shape, collection: Collection) -> Sequence[str]:  # noqa: ARG002
        """What to know about it."""
        return ()

    def run(self, work: Work) -> None:
        """Do it; what a run that was cut off has done already is not done again.

        `work.finish` is said with the switch if another version is made, else by whoever runs it.
        """
        source = work.collection
        after = self.check(Shape.of(source))
        if self._rebuilds(work.store.capabilities):
            rebuild(work, source, after, self.encoder(work, source, after))
        else:
            self.apply(work, source, after)

    def encoder(self, work: Work, source: Collection, after: Shape) -> Encoder | None:  # noqa: ARG002
        """What encodes the texts of another version again; None makes it of what is stored."""
        return None

    def apply(self, work: Work, collection: Collection, after: Shape) -> None:
        """Do it where the points are; never called of a step whose route is "rebuild"."""
        raise NotImplementedError

    def _rebuilds(self, can: Capabilities) -> bool:
        return self.route == "rebuild" or (self.alters and not can.alters)


def _written(value: Any) -> str:
    if isinstance(value, Recipe):
        return value.name
    return str(getattr(value, "__name__", "function")) if callable(value) else repr(value)


def _found(recipe: str | Recipe | None, before: Shape) -> Recipe:
    if recipe is None:
        return before.recipe
    return recipe if isinstance(recipe, Recipe) else get_recipe(recipe)


@dataclass(frozen=True)
class Reindex(Step):
    """Encode every text again, into another version.

    Args:
        recipe: of the new version; None keeps the recipe.
        model: its encoder, a model id or folder; None keeps the encoder.
    """

    recipe: str | Recipe | None = None
    model: str | None = None

    route = "rebuild"

    def check(self, before: Shape) -> Shape:
        return replace(before, recipe=_found(self.recipe, before), model=self.model or before.model)

    def notes(self, after: Shape, collection: Collection) -> Sequence[str]:
        notes = [f"encodes {collection.passages():,} passages with {after.model}"]
        if collection.adapted:
            notes.append("the adapted scoring is not taken over; run connector adapt again")
        return notes

    def encoder(self, work: Work, source: Collection, after: Shape) -> Encoder:  # noqa: ARG002
        return work.encoder_of(source) if self.model is None else work.load(self.model)


@dataclass(frozen=True)
class Recode(Step):
    """Make another version of the vectors that are stored, without encoding.

    Args:
        codec: of the new version; the layout follows it, as Qdrant cannot score every codec.
        recipe: instead, a recipe that has the same reduction and a codec with the same projections.
    """

    codec: str | None = None
    recipe: str | Recipe | None = None

    route = "rebuild"

    def check(self, before: Shape) -> Shape:
        after = before.with_recipe(self._recipe(before))
        why = transcode.why_not(before.recipe, after.recipe)
        if why is not None:
            raise MigrationError(f"{self} cannot be made of what is stored: {why}; use reindex")
        return after

    def _recipe(self, before: Shape) -> Recipe:
        if (self.codec is None) == (self.recipe is None):
            raise MigrationError("recode takes either a codec or a recipe")
        old = before.recipe
        if self.codec is None:
            wanted = _found(self.recipe, before)
            return wanted if wanted.head != "own" else _headed(wanted, old)
        if old.layout == "dense":
            raise MigrationError(f"recipe {old.name} stores no tokens to recode; use reindex")
        head = None if "linear-" in self.codec or old.salient else "none"
        try:
            return old.varied(codec=self.codec, head=head)
        except RecipeError:  # Qdrant cannot score it
            return old.varied(codec=self.codec, head=head, layout="codes")

    def notes(self, after: Shape, collection: Collection) -> Sequence[str]:  # noqa: ARG002
        return ["of the stored vectors, without the encoder"]


def _headed(wanted: Recipe, old: Recipe) -> Recipe:
    """The recipe with the head that the tokens were projected by."""
    codec = wanted.codec or ""
    if old.head is None:  # as `Recipe.for_model` does for a model without a head
        return wanted.model_copy(update={"head": None, "codec": codec.replace("linear-", "pca-") or None})
    return wanted.model_copy(update={"head": old.head})


class _Indexing(Step):
    """A step that changes how a vector is indexed, where an engine indexes it."""

    vector: ClassVar[str]

    def notes(self, after: Shape, collection: Collection) -> Sequence[str]:  # noqa: ARG002
        return () if collection.store.capabilities.quantizes else (IGNORED,)

    def alter(self, work: Work, collection: Collection) -> None:
        """Make the vector what the collection says now."""
        if work.store.capabilities.quantizes:
            work.store.alter_vector(collection.physical, work.collection.schema.vector(self.vector))


@dataclass(frozen=True)
class SetQuantization(_Indexing):
    """Change what Qdrant scores tokens by.

    Args:
        quantization: as in recipes; None for the tokens themselves.
    """

    quantization: str | None

    vector = TOKENS

    def check(self, before: Shape) -> Shape:
        return before.with_recipe(before.recipe.varied(quantization=self.quantization or "none"))

    def apply(self, work: Work, collection: Collection, after: Shape) -> None:
        collection.write_metadata(recipe=after.recipe)
        self.alter(work, collection)


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

    @property
    def _hnsw(self) -> Hnsw:
        try:
            return Hnsw(m=self.m, ef_construct=self.ef_construct)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{first['loc'][0]} is {first['input']!r}: {first['msg']}"
            raise MigrationError(f"set_hnsw: {what}") from error

    def check(self, before: Shape) -> Shape:
        return replace(before, hnsw=self._hnsw)

    def apply(self, work: Work, collection: Collection, after: Shape) -> None:  # noqa: ARG002
        collection.write_metadata(hnsw=self._hnsw)
        self.alter(work, collection)
