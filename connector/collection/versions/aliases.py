"""What a collection is called, and what stands behind the name.

Users name `docs`. In the store that is an alias of `docs__v0001`, and after a migration of `docs__v0002`;
older versions stay until they are collected.
"""

from __future__ import annotations

import re

from connector.core.errors import CollectionExists, CollectionNotFound, InputError
from connector.stores import Store

_DROPPED = "dropped"


_VERSION = re.compile(r"(.+)__v(\d{4,})")


def check_name(name: str) -> None:
    """Raises InputError unless every engine takes this collection name."""
    taken = name.endswith("__artifacts") or name == "connector__leases" or _VERSION.fullmatch(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", name) or taken:
        raise InputError(
            f"collection name {name!r} cannot be used; take up to 120 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit and not ending like '__v0001' or '__artifacts'"
        )


def names(store: Store) -> list[str]:
    """What users call the collections of a store, sorted."""
    whole = [name for name in store.names() if not _VERSION.fullmatch(name)]
    return sorted({*whole, *store.aliases()})


def versions(store: Store, name: str) -> list[str]:
    """All physical collections of a name, oldest first, those that are being made or left over, too."""
    found = [(match, it) for it in store.names() if (match := _VERSION.fullmatch(it))]
    return [it for _, it in sorted((int(match[2]), it) for match, it in found if match[1] == name)]


def next_version(store: Store, name: str) -> str:
    """A physical name that is free."""
    numbers = [int(it.rpartition("__v")[2]) for it in versions(store, name)]
    return f"{name}__v{max(numbers, default=0) + 1:04d}"


def check_free(store: Store, name: str) -> None:
    """Look whether a collection can be made of this name.

    Raises:
        InputError: the name cannot be used.
        CollectionExists: it is taken.
    """
    check_name(name)
    if name in names(store):
        raise CollectionExists(
            f"collection {name!r} exists in {store.location}; open it, give another name (to an import with "
            "--as NAME), or drop it first (connector drop)"
        )


def first_version(store: Store, name: str) -> str:
    """The physical name of a collection that is to be made.

    What a creation that was killed has left, without a point and without a name, is removed, and so is what a
    drop that was killed has left.

    Raises:
        InputError: the name cannot be used.
        CollectionExists: it is taken.
    """
    check_free(store, name)
    for left in versions(store, name):
        building = store.info(left).get("building")
        if building == _DROPPED or (not building and store.count(left) == 0):
            store.drop(left)
    return next_version(store, name)


def drop_all(store: Store, name: str) -> None:
    """Delete a collection with all its versions.

    Raises:
        CollectionNotFound: there is none.
    """
    physical = store.aliases().get(name)
    if physical is None:
        store.drop(name)
        return
    store.switch(name, None)  # first, so that nobody finds half of it
    for version in {*versions(store, name), physical}:
        try:
            store.set_info(version, {"building": _DROPPED})
            store.drop(version)
        except CollectionNotFound:
            continue  # another one drops it, too
