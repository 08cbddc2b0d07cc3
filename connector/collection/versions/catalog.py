"""All versions of a collection: the current one, one that is being made, and those kept from before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connector.collection.collection import Collection
from connector.collection.handle import OpenCollection
from connector.collection.metadata import CollectionMetadata
from connector.collection.versions.aliases import versions


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a collection.

    Attributes:
        physical: its name in Qdrant.
        current: whether the collection's name leads to it.
        building: whether it is being made.
        recipe: name of its recipe.
        documents: how many it holds.
        bytes: that it takes on disk; None where that cannot be seen.
    """

    physical: str
    current: bool
    building: bool
    recipe: str
    documents: int
    bytes: int | None


def versions_of(collection: Collection) -> Iterator[Version]:
    """All versions of a collection, oldest first."""
    store = collection.store
    for physical in {**dict.fromkeys(versions(store, collection.name)), collection.physical: None}:
        version = Collection(store, physical)
        yield Version(
            physical,
            physical == collection.physical,
            version.metadata.building is not None,
            version.recipe.name,
            version.documents(),
            store.disk_bytes(physical),
        )


def collect(connector: OpenCollection, seen: set[str] | None = None) -> list[Version]:
    """Drop all versions of a collection but the current one, and give what was dropped.

    There is no way back to them then. One that is being made by a migration that was cut off is dropped, too;
    the migration begins again.

    Args:
        connector: of the collection.
        seen: the physical names that a person agreed to; None for all.

    Raises:
        StoreLocked: a migration of the collection runs.
    """
    store = connector.collection.store
    with store.lease(connector.name):
        collection = Collection(store, connector.name)
        old = [version for version in versions_of(collection) if not version.current]
        dropped = [version for version in old if seen is None or version.physical in seen]
        collection.write_metadata(rebuild=None)
        for version in dropped:
            store.drop(version.physical)
        return dropped


def matches(version: CollectionMetadata, wanted: CollectionMetadata) -> bool:
    """Whether a version is whole, and has the recipe and the graph that are wanted, for its own encoder."""
    recipe = wanted.recipe.for_model(version.encoder, version.late_interaction)
    return version.building is None and version.recipe.same_as(recipe) and version.hnsw == wanted.hnsw


def kept(collection: Collection, wanted: CollectionMetadata, encoder: str | None = None) -> str | None:
    """The newest other version of a collection that matches what is wanted.

    Args:
        collection: as it is now.
        wanted: recipe, graph and model.
        encoder: its encoder's fingerprint; if that is not known, the model's name decides.
    """
    for physical in reversed(versions(collection.store, collection.name)):
        version = CollectionMetadata.read(physical, collection.store.info(physical))
        same = version.model == wanted.model if encoder is None else version.encoder == encoder
        if physical != collection.physical and same and matches(version, wanted):
            return physical
    return None
