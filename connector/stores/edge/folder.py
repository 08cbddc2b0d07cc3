"""What Qdrant Edge lacks and a folder of collections needs: names, descriptions, and a lock.

A folder looks like this:

    registry.json                 {"format": 1, "collections": {name: {"folder": …, "info": {…}}},
                                  "aliases": {alias: name}}
    lock                          held by the one process that has the folder open
    collections/<folder>/shard/   the engine's files
    collections/<folder>/artifacts/<key>
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import portalocker
import qdrant_edge as edge
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connector.core.errors import StoreError, StoreLocked, first_problem, one_line
from connector.core.io import write_atomically
from connector.stores.base import missing


class Entry(BaseModel):
    """A collection: the name of its folder, which lies in "collections", and its metadata."""

    model_config = ConfigDict(extra="allow")

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
    info: dict[str, str]


class Registry(BaseModel):
    """What `registry.json` says."""

    model_config = ConfigDict(extra="allow")

    format: Literal[1]
    collections: dict[str, Entry]
    aliases: dict[str, str] = {}

    @model_validator(mode="after")
    def _check(self) -> Registry:
        homes = [it.folder for it in self.collections.values()]
        if len(set(homes)) < len(homes):
            raise ValueError("two collections in one folder")
        if astray := set(self.aliases.values()) - set(self.collections):
            raise ValueError(f"an alias leads to {min(astray)!r:.80}, which is not there")
        return self


class Folder:
    """A folder of collections, one object a folder and process; its users share the opened shards.

    Args:
        path: the folder, resolved; made when it is first locked for writing.

    Attributes:
        mutex: held while the registry or the opened shards change.
        shards: the opened shards by collection.
        held: keys that someone in this process holds; no other process can.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mutex = threading.RLock()
        self.shards: dict[str, edge.EdgeShard] = {}
        self.held: set[str] = set()
        self._lock: portalocker.Lock | None = None
        self._users = 0
        self._read: tuple[tuple[int, int, int], Registry] | None = None

    def enter(self) -> None:
        """One more user.

        Raises:
            StoreLocked: another process has the folder open.
        """
        with self.mutex:
            if (self.path / "registry.json").exists():  # else nothing to protect, or no folder of ours
                self.lock()
            elif self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is not a folder; give another path")
            self._users += 1

    def leave(self) -> None:
        """One user less; the last one releases the folder."""
        with self.mutex:
            self._users -= 1
            if self._users == 0:
                for shard in self.shards.values():
                    shard.close()
                self.shards.clear()
                if self._lock is not None:
                    self._lock.release()
                    self._lock = None

    def lock(self) -> None:
        """Take the folder for this process, making it if it is missing.

        Raises:
            StoreLocked: another process has it.
            StoreError: it cannot be used.
        """
        if self._lock is not None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = portalocker.Lock(self.path / "lock", "a", timeout=0, fail_when_locked=True)
            lock.acquire()
        except portalocker.exceptions.LockException as error:
            raise StoreLocked(
                f"{self.path} is open in another process; close that one, or run a Qdrant server for both"
            ) from error
        except OSError as error:
            raise StoreError(f"{self.path} cannot be used as a folder of collections: {error}") from error
        self._lock = lock

    def registry(self) -> Registry:
        """What `registry.json` says, read again only when the file is another one; not to be changed.

        Raises:
            StoreError: the file is damaged or of another version.
        """
        path = self.path / "registry.json"
        try:
            with self.mutex:
                status = path.stat()
                file = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self._read is None or self._read[0] != file:
                    self._read = file, Registry.model_validate_json(path.read_bytes())
                return self._read[1]
        except FileNotFoundError:
            return Registry(format=1, collections={})
        except ValidationError as error:
            reason = first_problem(error)
        except OSError as error:
            reason = str(error)
        raise StoreError(
            f"{path} is not a registry of this version ({one_line(reason, 300)}); restore it, or upgrade"
        )

    @contextlib.contextmanager
    def changing(self) -> Iterator[Registry]:
        """A registry to change in the body, at whose end it replaces `registry.json`.

        Raises:
            StoreLocked: another process has the folder.
            StoreError: the file is damaged, or cannot be written.
        """
        with self.mutex:
            self.lock()
            registry = self.registry().model_copy(deep=True)
            yield registry
            text = json.dumps(registry.model_dump(), indent=1, ensure_ascii=False)
            write_atomically(self.path / "registry.json", text.encode())
            self._read = None

    def resolved(self, name: str) -> str:
        """The collection that a name, or an alias, leads to.

        Raises:
            CollectionNotFound: there is none; those that are there are named.
        """
        collections, aliases = self.registry().collections, self.registry().aliases
        if name in aliases:
            return aliases[name]
        if name not in collections:
            raise missing(name, str(self.path), collections, aliases)
        return name

    def entry(self, name: str) -> Entry:
        """What the registry has of a collection; `CollectionNotFound` when there is none."""
        return self.registry().collections[self.resolved(name)]

    def home(self, name: str) -> Path:
        """The folder of a collection; `CollectionNotFound` when there is none."""
        return self.path / "collections" / self.entry(name).folder


_folders: weakref.WeakValueDictionary[Path, Folder] = weakref.WeakValueDictionary()


_folders_mutex = threading.Lock()


def shared_folder(path: str | os.PathLike[str]) -> Folder:
    """The one object of this folder in this process."""
    resolved = Path(path).expanduser().resolve()
    with _folders_mutex:
        return _folders.setdefault(resolved, Folder(resolved))
