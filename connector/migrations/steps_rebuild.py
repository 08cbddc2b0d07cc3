"""Steps that change what is stored of each text: by another version of the collection, or in place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from connector.collection.collection import Collection
from connector.collection.recipe import Recipe, get_recipe
from connector.collection.versions import transcode
from connector.core.errors import MigrationError, RecipeError
from connector.migrations.rebuild import rebuild
from connector.migrations.steps import Measure, Planned, Shape, Work
from connector.stores.schema import CLS, TOKENS, Hnsw


def _found(recipe: str | Recipe | None, before: Shape) -> Recipe:
    if recipe is None:
        return before.recipe
    return recipe if isinstance(recipe, Recipe) else get_recipe(recipe)


def _written(call: str, **given: Any) -> str:
    parts = [
        f"{key}={value.name if isinstance(value, Recipe) else repr(value)}"
        for key, value in given.items()
        if value is not None
    ]
    return f"{call}({', '.join(parts)})"


def rebuilt(step: object, after: Shape, measure: Measure, *notes: str) -> Planned:
    kept = measure.kept(after)
    if kept is not None:
        note = f"{kept} is there from before: only what changed since then is written"
        return Planned(str(step), "rebuild", measure.points, 0, (note,), after)
    return Planned(str(step), "rebuild", measure.points, measure.rebuilt(after), notes, after)


@dataclass(frozen=True, slots=True)
class Reindex:
    """Encode every text again, into another version.

    Args:
        recipe: of the new version; None keeps the recipe.
        model: its encoder, a model id or folder; None keeps the encoder.
    """

    recipe: str | Recipe | None = None
    model: str | None = None

    def __str__(self) -> str:
        return _written("reindex", recipe=self.recipe, model=self.model)

    def check(self, before: Shape) -> Shape:
        return replace(before, recipe=_found(self.recipe, before), model=self.model or before.model)

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        after = self.check(before)
        notes = [f"encodes {measure.points:,} passages with {after.model}"]
        if collection.adapted:
            notes.append("the adapted scoring is not taken over; run connector adapt again")
        return rebuilt(self, after, measure, *notes)

    def run(self, work: Work) -> None:
        source = work.collection
        recipe = _found(self.recipe, Shape(source.recipe, source.model))
        encoder = work.encoder_of(source) if self.model is None else work.load(self.model)
        resolved = recipe.for_model(encoder.fingerprint)
        rebuild(work, str(self), resolved, encoder=encoder, hnsw=source.schema.vector(CLS).hnsw)


@dataclass(frozen=True, slots=True)
class Recode:
    """Make another version of the vectors that are stored, without encoding.

    Args:
        codec: of the new version; the layout follows it, as Qdrant cannot score every codec.
        recipe: instead, a recipe that has the same reduction and a codec with the same projections.
    """

    codec: str | None = None
    recipe: str | Recipe | None = None

    def __str__(self) -> str:
        return _written("recode", codec=self.codec, recipe=self.recipe)

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

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:  # noqa: ARG002
        return rebuilt(self, self.check(before), measure, "of the stored vectors, without the encoder")

    def run(self, work: Work) -> None:
        source = work.collection
        hnsw = source.schema.vector(CLS).hnsw
        after = self.check(Shape(source.recipe, source.model, hnsw, source.indexes))
        rebuild(work, str(self), after.recipe, hnsw=hnsw)


def _headed(wanted: Recipe, old: Recipe) -> Recipe:
    """The recipe with the head that the tokens were projected by."""
    codec = wanted.codec or ""
    if old.head is None:  # as `Recipe.for_model` does for a model without a head
        return wanted.model_copy(update={"head": None, "codec": codec.replace("linear-", "pca-") or None})
    return wanted.model_copy(update={"head": old.head})


@dataclass(frozen=True, slots=True)
class SetQuantization:
    """Change what Qdrant scores tokens by.

    Args:
        quantization: as in recipes; None for the tokens themselves.
    """

    quantization: str | None

    def __str__(self) -> str:
        return f"set_quantization({self.quantization!r})"

    def check(self, before: Shape) -> Shape:
        return before.with_recipe(before.recipe.varied(quantization=self.quantization or "none"))

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        return _altered(self, self.check(before), collection, measure)

    def run(self, work: Work) -> None:
        source = work.collection
        hnsw = source.schema.vector(CLS).hnsw
        after = self.check(Shape(source.recipe, source.model))
        if not source.store.capabilities.alters:
            rebuild(work, str(self), after.recipe, hnsw=hnsw)
            return
        source.say(recipe=after.recipe.model_dump_json())
        if source.store.capabilities.quantizes:
            source.store.alter_vector(source.physical, work.collection.schema.vector(TOKENS))


@dataclass(frozen=True, slots=True)
class SetHnsw:
    """Change the graph by which CLS vectors are found.

    Args:
        hnsw: the new one.
    """

    hnsw: Hnsw

    def __str__(self) -> str:
        return f"set_hnsw(m={self.hnsw.m}, ef_construct={self.hnsw.ef_construct})"

    def check(self, before: Shape) -> Shape:
        return replace(before, hnsw=self.hnsw)

    def plan(self, before: Shape, collection: Collection, measure: Measure) -> Planned:
        return _altered(self, self.check(before), collection, measure)

    def run(self, work: Work) -> None:
        source = work.collection
        if not source.store.capabilities.alters:
            rebuild(work, str(self), source.recipe, hnsw=self.hnsw)
            return
        source.say(hnsw=self.hnsw.model_dump_json())
        if source.store.capabilities.quantizes:
            source.store.alter_vector(source.physical, work.collection.schema.vector(CLS))


def _altered(step: object, after: Shape, collection: Collection, measure: Measure) -> Planned:
    if not collection.store.capabilities.alters:
        return rebuilt(
            step, after, measure, "this engine cannot change it in place: stored vectors are copied"
        )
    ignored = () if collection.store.capabilities.quantizes else ("this engine ignores it",)
    return Planned(str(step), "in place", 0, None, ignored, after)
