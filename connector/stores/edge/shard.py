"""A collection's shard of the engine, whose errors become ours."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import qdrant_edge as edge

from connector.core.errors import StoreError, one_line
from connector.core.forks import Opened
from connector.stores.edge import convert, disk
from connector.stores.edge.seal import seal, unseal
from connector.stores.schema import CollectionSchema

T = TypeVar("T")


class Shard:
    """An opened shard; it is called with what is to be done with the engine's.

    Args:
        home: the collection's folder.
        open_: gives the engine's shard at a path.
    """

    def __init__(self, home: Path, open_: Callable[[str], edge.EdgeShard]) -> None:
        self._home = home
        self._opened = Opened(str(home))
        self._engine = _done(home, lambda: open_(str(home / "shard")))

    @classmethod
    def make(cls, home: Path, schema: CollectionSchema) -> Shard:
        """A new one in a collection's folder, which is made."""
        try:
            (home / "artifacts").mkdir(parents=True)
            (home / "shard").mkdir()
        except OSError as error:
            raise StoreError(f"{home} cannot be made: {error}; make room, or allow writing") from error
        return cls(home, lambda path: edge.EdgeShard.create(path, convert.config(schema)))

    @classmethod
    def load(cls, home: Path) -> Shard:
        """The one in a collection's folder.

        Raises:
            StoreError: its files are damaged, or its disk has no room for what opening it writes.
        """
        disk.check_opens(home / "shard")
        unseal(home)
        return cls(home, edge.EdgeShard.load)

    def __call__(self, call: Callable[[edge.EdgeShard], T]) -> T:
        """What a function gives that is called with the engine's shard."""
        self._opened.check()
        return _done(self._home, lambda: call(self._engine))

    def close(self) -> None:
        """Write what is not yet on disk, and let the files go."""
        self(lambda engine: engine.close())
        seal(self._home)

    def abandon(self) -> None:
        """In a process that was forked off: never let the engine go, which would write to files that are the
        parent's, and close what holds its lock, which would outlast the parent."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
        with contextlib.suppress(FileNotFoundError):
            log = (self._home / "shard" / "wal").stat()
            for number in [int(it.name) for it in Path("/dev/fd").iterdir()]:
                with contextlib.suppress(OSError):  # that of the listing itself is closed
                    if os.path.samestat(os.fstat(number), log):
                        os.close(number)


def _done(home: Path, call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:
        raise StoreError(f"Qdrant Edge: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of pyo3, which has no name to import
            raise
        raise StoreError(
            f"Qdrant Edge broke off at {home / 'shard'}: {one_line(str(error), 200)}; its files may be "
            "damaged: open it again, and if that fails, restore an export"
        ) from None
