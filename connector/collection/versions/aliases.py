"""What a collection is called, and what stands behind the name.

Users name `docs`. In the store that is an alias of `docs__v0001`, and after a migration of `docs__v0002`;
older versions stay until they are collected.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator

from connector.core.errors import CollectionExists, CollectionNotFound, InputError, StoreLocked
from connector.stores import Store
from connector.stores.server.shared import is_shared

_DROPPED = "dropped"


_MAKING_SECONDS = 5.0
"""How long a name that another one is making, or dropping, a collection of is waited for."""


_POLL_SECONDS = 0.05


_VERSION = re.compile(r"(.+)__v(\d{4,})")


def check_name(name: str) -> None:
    """Raises InputError unless every engine takes this collection name."""
    taken = is_shared(name) or _VERSION.fullmatch(name)
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


@contextlib.contextmanager
def making(store: Store, name: str) -> Iterator[str]:
    """Hold a name of which a collection is made in the body; gives its physical name.

    What a creation that was killed has left, without a point and without a name, is removed, and so is what a
    drop that was killed has left.

    Raises:
        InputError: the name cannot be used.
        CollectionExists: it is taken.
        StoreLocked: another one imports a collection of this name.
    """
    ends = time.monotonic() + _MAKING_SECONDS
    with contextlib.ExitStack() as held:
        while True:
            check_free(store, name)  # before anything is written, such as a lease
            try:
                held.enter_context(store.lease(name))
                break
            except StoreLocked:
                if time.monotonic() > ends:
                    raise
                time.sleep(_POLL_SECONDS)
        check_free(store, name)
        _clear(store, name)
        yield next_version(store, name)


def _clear(store: Store, name: str) -> None:
    for left in versions(store, name):
        building = store.info(left).get("building")
        if building == _DROPPED or (not building and store.count(left) == 0):
            store.drop(left)


def drop_all(store: Store, name: str, unless: Callable[[], bool] = lambda: False) -> None:
    """Delete a collection with all its versions.

    Args:
        store, name: which.
        unless: asked when no write can be acknowledged any more; if it says so, the collection stays.

    Raises:
        CollectionNotFound: there is none.
        StoreLocked: it is being migrated.
    """
    with store.lease(name):
        physical = store.aliases().get(name)
        if physical is None:
            store.drop(name)
            return
        dropped = {*versions(store, name), physical}  # before another one can make its own of this name
        store.switch(name, None)  # so that nobody finds half of it, or is told that a write to it is done
        kept = True
        try:
            kept = unless()
        finally:
            if kept:
                store.switch(name, physical)
        if kept:
            return
        for version in dropped:
            with contextlib.suppress(CollectionNotFound):  # one that was killed before has dropped it
                store.set_info(version, {"building": _DROPPED})
                store.drop(version)
