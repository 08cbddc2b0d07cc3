"""Versions of a collection that are kept: what there is, how it compares, and how it goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from connector.collection.aliases import versions
from connector.collection.collection import Collection
from connector.connector import Connector
from connector.migrate.verify import Verification, inspect


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


def versions_of(collection: Collection) -> Iterable[Version]:
    """All versions of a collection, oldest first."""
    store = collection.store
    for physical in {**dict.fromkeys(versions(store, collection.name)), collection.physical: None}:
        said = store.info(physical)
        version = Collection(store, physical)
        yield Version(
            physical=physical,
            current=physical == collection.physical,
            building=bool(said.get("building")),
            recipe=version.recipe.name,
            documents=version.documents(),
            bytes=store.disk_bytes(physical),
        )


def compare(connector: Connector) -> Verification:
    """Look whether a collection is whole, and compare its hits with those of its version of before."""
    collection = connector.collection
    others = [it for it in versions_of(collection) if not it.current and not it.building]
    before = Collection(collection.store, others[-1].physical) if others else None
    return inspect(collection, before, connector.encoder_of)


def collect(connector: Connector) -> list[Version]:
    """Drop all versions of a collection but the current one, and give what was dropped.

    There is no way back to them then. One that is being made by a migration that was cut off is dropped, too;
    the migration begins anew.

    Raises:
        StoreLocked: a migration of the collection runs.
    """
    store = connector.collection.store
    with store.lease(connector.name):
        collection = Collection(store, connector.name)
        dropped = [version for version in versions_of(collection) if not version.current]
        collection.say(rebuild="")
        for version in dropped:
            store.drop(version.physical)
        return dropped
