"""Indexes of metadata that users filter by: declared with a collection, or added and dropped later.

A server in strict mode, as a managed cluster is, refuses a filter on a key without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from connector.collection.collection import Collection
from connector.core.errors import InputError
from connector.stores.filters import on_key
from connector.stores.schema import PayloadKind


def declared(indexes: Mapping[str, str]) -> dict[str, PayloadKind]:
    """Kinds by payload keys, from kinds by metadata keys.

    Raises:
        InputError: a key is empty, or there is no such kind.
    """
    kinds = get_args(PayloadKind)
    for key, kind in indexes.items():
        if kind not in kinds or not key:
            raise InputError(
                f"index {key!r}: {kind!r} cannot be used; give a metadata key and its values' kind, one of "
                + ", ".join(kinds)
            )
    return {on_key(key): kind for key, kind in indexes.items()}  # type: ignore[misc]


def add(collection: Collection, indexes: Mapping[str, str]) -> None:
    """Index metadata of a collection that is there; an index that it has already does no harm.

    What the library itself filters by is indexed, too, which collections of earlier versions lack.

    Raises:
        InputError: a key is empty, there is no such kind, or the key has an index of another kind.
        StoreLocked: a migration runs.
    """
    wanted, store = declared(indexes), collection.store
    with store.lease(collection.name):
        there = collection.read_metadata().indexes
        for key, kind in wanted.items():
            if there.get(key, kind) != kind:
                raise InputError(f"the index of {key!r} is of kind {there[key]}, not {kind}; drop it first")
        for key, kind in {**collection.schema.filtered, **wanted}.items():
            store.create_index(collection.physical, key, kind)
        collection.write_metadata(indexes={**there, **wanted})


def drop(collection: Collection, key: str) -> None:
    """Drop the index of a metadata key.

    Raises:
        InputError: there is none; those that are there are named.
        StoreLocked: a migration runs.
    """
    store, path = collection.store, on_key(key)
    with store.lease(collection.name):
        there = dict(collection.read_metadata().indexes)
        if there.pop(path, None) is None:
            raise InputError(f"{key!r} has no index; there: {', '.join(sorted(there)) or 'none'}")
        collection.write_metadata(indexes=there or None)
        store.drop_index(collection.physical, path)
