"""What a revision is given: it says its steps here, and they are planned or run afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from connector.collection.metadata import CollectionMetadata
from connector.collection.recipe import Recipe
from connector.core.errors import MigrationError
from connector.migrations.rebuild import Recode, Reindex
from connector.migrations.revisions import Direction, Revision, failure
from connector.migrations.steps import Step
from connector.migrations.steps_in_place import (
    AddVector,
    CreatePayloadIndex,
    DropVector,
    MapPayload,
    SetHnsw,
    SetQuantization,
)


class Context:
    """Collects the steps of a revision, in the order in which they will run.

    A revision must say the same steps each time, as one that was cut off goes on with the next of them. A
    step that cannot be done to what the steps before it leave is refused when it is said.

    Args:
        name: of the collection.
        now: what the collection says of itself.
        done: how many of the first steps are done already, and not looked at again.

    Attributes:
        steps: what was said.
    """

    def __init__(self, name: str, now: CollectionMetadata, done: int = 0) -> None:
        self.name = name
        self.steps: list[Step] = []
        self._after = now
        self._done = done

    @property
    def recipe(self) -> Recipe:
        """The recipe of the collection after the steps that were said so far."""
        return self._after.recipe

    @property
    def model(self) -> str:
        """The name of its encoder then."""
        return self._after.model

    def reindex(
        self, recipe: str | Recipe | None = None, model: str | os.PathLike[str] | None = None
    ) -> None:
        """Encode every text again: another encoder, reduction, codec or width.

        The new version is made beside the old one, resumable, and verified before the name is switched.

        Args:
            recipe: its name, or one of your own (`get_recipe("default").varied(reduction="ward-6")`).
            model: a model id or folder.
        """
        self._add(Reindex(recipe, None if model is None else os.fspath(model)))

    def recode(self, codec: str | None = None, recipe: str | Recipe | None = None) -> None:
        """Store the tokens by another codec, made of the vectors that are stored, without the encoder.

        Args:
            codec: such as "linear-128+binary"; it must begin with the projections of the codec that is there,
                and that one must keep vectors ("float32" or "float16").
            recipe: instead, a recipe with such a codec and the same reduction.
        """
        self._add(Recode(codec, recipe))

    def add_vector(self, vector: str, value: str) -> None:
        """Add what candidates may come by: ("lexical", "english") or ("fde", "muvera")."""
        self._add(AddVector(vector, value))

    def drop_vector(self, vector: str) -> None:
        """Drop "lexical" or "fde"."""
        self._add(DropVector(vector))

    def set_quantization(self, quantization: str | None) -> None:
        """Change what Qdrant scores tokens by, such as "turbo-2"; None for the tokens themselves."""
        self._add(SetQuantization(quantization))

    def set_hnsw(self, m: int = 16, ef_construct: int = 100) -> None:
        """Change the graph of the CLS vectors: edges of a node, and neighbours looked at to build it."""
        self._add(SetHnsw(m, ef_construct))

    def create_payload_index(self, key: str, kind: str) -> None:
        """Index a metadata key for filters: "keyword", "integer", "float", "bool", "datetime", …"""
        self._add(CreatePayloadIndex(key, kind))

    def map_payload(self, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Change the metadata of every document by a function of it; each document is changed once."""
        self._add(MapPayload(change))

    def _add(self, step: Step) -> None:
        if len(self.steps) >= self._done:
            self._after = step.check(self._after)
        self.steps.append(step)


def steps_of(revision: Revision, direction: Direction, context: Context) -> None:
    """Let a revision say its steps to a context.

    Raises:
        MigrationError: it has no way back, or fails.
    """
    call = revision.function(direction)
    try:
        call(context)
    except MigrationError:
        raise
    except (Exception, SystemExit) as error:
        raise failure(f"{direction} of {revision.path.name} fails", error, revision.path) from error
