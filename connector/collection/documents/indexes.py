"""Indexes of metadata that users filter by: declared with a collection, or added and dropped later.

A server in strict mode, as a managed cluster is, refuses a filter on a key without one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, get_args

from connector.collection.collection import Collection
from connector.core.errors import InputError
from connector.stores.filters import off_key, on_key
from connector.stores.schema import PayloadKind

logger = logging.getLogger(__name__)


_KEY = r'(?:[\w-]+|"[^"]+")(?:\[\d*\])*'
_PATH = re.compile(rf"{_KEY}(?:\.{_KEY})*")
"""A metadata key as Qdrant reads it, such as `author.name`, `parts[].name` or `"my key"`."""


def declared(indexes: Mapping[str, str]) -> dict[str, PayloadKind]:
    """Kinds by payload keys, from kinds by metadata keys.

    Raises:
        InputError: a key cannot be one, or there is no such kind.
    """
    kinds, paths = get_args(PayloadKind), dict[str, Any]()
    for key, kind in indexes.items():
        if not _PATH.fullmatch(key):
            raise InputError(
                f"index of {key!r}: that is no key; give one such as year or author.name, and write one with "
                'other characters than letters, digits, "_" and "-" in quotes: \'"my key"\''
            )
        if kind not in kinds:
            raise InputError(f"index of {key!r}: {kind!r} is no kind; give one of {', '.join(kinds)}")
        if paths.setdefault(on_key(key), kind) != kind:
            raise InputError(f"index of {key!r}: it is declared twice; give one kind")
    return paths


def add(collection: Collection, indexes: Mapping[str, str]) -> None:
    """Index metadata of a collection that is there; an index that it has already does no harm.

    What the library itself filters by is indexed, too, which collections of earlier versions lack.

    Raises:
        InputError: a key cannot be one, there is no such kind, or the key has an index of another kind.
        StoreLocked: a migration runs.
    """
    wanted, store = declared(indexes), collection.store
    lacks = store.refused(collection.physical, collection.schema.filtered)
    if not lacks and wanted.items() <= collection.metadata.indexes.items():
        return
    with store.lease(collection.name):
        there = collection.read_metadata().indexes
        for key, kind in wanted.items():
            if there.get(key, kind) != kind:
                raise InputError(
                    f"the index of {off_key(key)!r} is of kind {there[key]}, not {kind}; drop it first"
                )
        add_own(collection)
        for key in store.indexed_by_others(collection.physical, wanted.keys() - there.keys()):
            logger.warning("%r has an index of its program's, which stays as it is", off_key(key))
            del wanted[key]
        for key, kind in wanted.items():
            store.create_index(collection.physical, key, kind)
        collection.write_metadata(indexes={**there, **wanted})


def add_own(collection: Collection) -> None:
    """Index what the library itself filters by; whoever calls holds the lease."""
    for key, kind in collection.schema.filtered.items():
        collection.store.create_index(collection.physical, key, kind)


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
            others = ", ".join(sorted(map(off_key, there))) or "none"
            raise InputError(f"{key!r} has no index; there: {others}")
        collection.write_metadata(indexes=there or None)
        store.drop_index(collection.physical, path)
