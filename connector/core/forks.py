"""What a process has of its parent when it was forked off: all of its memory, and none of its threads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar

from connector.core.errors import StoreError


def in_child(call: Callable[[], None]) -> None:
    """Call in every process that is forked off this one, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


class Opened:
    """Stands by what works only in the process that opened it.

    Args:
        what: it is, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._process = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the process that opened it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raises StoreError in a process that was forked off the one that opened it."""
        if not self.here:
            raise StoreError(
                f"{self._what} was opened before this process was forked off process {self._process}; open "
                "it again here, a folder when that process has closed it, or use a Qdrant server for both"
            )


class Mutex:
    """A re-entrant lock, which is free in a process that is forked off, whoever held it in the parent."""

    _all: ClassVar[weakref.WeakSet[Mutex]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._all.add(self)

    def acquire(self, blocking: bool = True) -> bool:
        """Take it, and say whether it was taken."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @classmethod
    def free_all(cls) -> None:
        """Make every lock anew."""
        for mutex in list(cls._all):
            mutex._lock = threading.RLock()


in_child(Mutex.free_all)
