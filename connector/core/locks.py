"""Locks of this process by what they are for."""

from __future__ import annotations

from collections.abc import Hashable

from connector.core.forks import Mutex


class Locks:
    """A lock for each key, made when it is first asked for; who holds one may take it again."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, Mutex] = {}

    def __getitem__(self, key: Hashable) -> Mutex:
        return self._locks.setdefault(key, Mutex())  # of two that ask at once, both get one
