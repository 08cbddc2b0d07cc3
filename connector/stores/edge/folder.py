"""What Qdrant Edge lacks and a folder of collections needs: names, descriptions, and a lock.

A folder looks like this:

    registry.json                 {"format": 1, "collections": {name: {"folder": …, "info": {…}}},
                                  "aliases": {alias: name}}
    lock                          held by the one process that has the folder open
    collections/<folder>/shard/   the engine's files
    collections/<folder>/sealed.json      their sizes, while the collection is closed
    collections/<folder>/collection.json  what the registry has of it, to make a lost one again
    collections/<folder>/artifacts/<key>

What was opened is of no use in a process that is forked off: the engine's threads are not there, and its
files would be written by two.
"""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import portalocker
from pydantic import BaseModel, ValidationError

from connector.core.errors import InputError, StoreError, StoreLocked, first_problem, one_line
from connector.core.forks import Mutex, Opened, in_child
from connector.core.io import write_atomically
from connector.stores.base import missing
from connector.stores.edge import disk
from connector.stores.edge.registry import SAID_FILE, Entry, Registry, found, kept, rebuilt
from connector.stores.edge.shard import Shard


class Folder:
    """A folder of collections, one object a folder and process; its users share the opened shards.

    Args:
        path: the folder, resolved; made when it is first locked for writing.

    Attributes:
        mutex: held while the registry or the opened shards change.
        shards: the opened shards by collection.
        held: keys that someone in this process holds; no other process can.
        opened: by which process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mutex = Mutex()
        self.shards: dict[str, Shard] = {}
        self.held: set[str] = set()
        self.opened = Opened(str(path))
        self._lock: portalocker.Lock | None = None
        self._users = 0
        self._read: tuple[tuple[int, int, int], Registry] | None = None

    def enter(self) -> None:
        """One more user.

        Raises:
            StoreLocked: another process has the folder open.
        """
        with self.mutex:
            if any((self.path / it).exists() for it in ("registry.json", "collections")):  # a folder of ours
                self.lock()
                with contextlib.suppress(StoreError, OSError):  # of damage is told when it is needed
                    self._describe(self.registry(), self.registry())
            elif self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is not a folder; give another path")
            self._users += 1

    def leave(self) -> None:
        """One user less; the last one releases the folder."""
        if not self.opened.here:
            return
        with self.mutex:
            self._users -= 1
            if self._users:
                return
            with contextlib.ExitStack() as closing:  # also what comes after one that cannot be closed
                if self._lock is not None:
                    closing.callback(self._lock.release)
                for shard in self.shards.values():
                    closing.callback(shard.close)
                self.shards, self._lock = {}, None

    def abandon(self) -> None:
        """Leave the folder to the process that this one was forked off."""
        for shard in self.shards.values():
            shard.abandon()
        if self._lock is not None and self._lock.fh is not None:
            self._lock.fh.close()  # and not released, which would release the parent's

    def lock(self) -> None:
        """Take the folder for this process, making it if it is missing.

        Raises:
            StoreLocked: another process has it.
            StoreError: it cannot be used.
        """
        if self._lock is not None:
            return
        disk.check_writable(self.path)
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
            there = [said.name if said else home.name for home, said in found(self.path / "collections")]
            if not there:
                return Registry(format=1, collections={})
            raise StoreError(
                f"{path} is gone, and these collections are there: {', '.join(there)}; restore it, or make "
                f"it again of what they say: connector repair --path {self.path}"
            ) from None
        except ValidationError as error:
            reason = first_problem(error)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error}; allow it") from error
        remedy = f"restore it, or make it again: connector repair --path {self.path}"
        if kept(path):
            remedy = "upgrade this library"
        raise StoreError(f"{path} is not a registry of this version ({one_line(reason, 300)}); {remedy}")

    @contextlib.contextmanager
    def changing(self) -> Iterator[Registry]:
        """A registry to change in the body, at whose end it replaces `registry.json`.

        Raises:
            StoreLocked: another process has the folder.
            StoreError: the file is damaged, or cannot be written.
        """
        with self.mutex:
            self.lock()
            before = self.registry()
            if not before.collections:  # from now on, collections without a registry have lost it
                self._write(before, before)
            after = before.model_copy(deep=True)
            yield after
            self._write(after, before)

    def repair(self) -> tuple[list[str], list[Path]]:
        """Make `registry.json` again of what the collections say of themselves.

        Returns:
            Their names, and the folders that do not say what they are, which are left alone.

        Raises:
            InputError: there is no folder, or its registry is whole.
            StoreError: no collection says what it is, or the registry is a later version's.
        """
        path = self.path / "registry.json"
        if not self.path.is_dir():
            raise InputError(f"there is no folder {self.path}; give that of an embedded Qdrant")
        with self.mutex:
            with contextlib.suppress(StoreError):
                self.registry()
                raise InputError(
                    f"{self.path} needs no repair: its registry.json is whole, or nothing is there"
                )
            if kept(path):
                self.registry()  # raises what is wrong with it, which no repair mends
            self.lock()
            registry, unknown = rebuilt(self.path / "collections")
            if path.exists():
                path.replace(path.with_name("registry.json.damaged"))
            self._write(registry, registry)
            behind = {*registry.aliases.values()}
            return sorted({*registry.collections, *registry.aliases} - behind), unknown

    def _write(self, registry: Registry, before: Registry) -> None:
        _write(self.path / "registry.json", registry)
        self._read = None
        self._describe(registry, before)

    def _describe(self, registry: Registry, before: Registry) -> None:
        """Let collections say of themselves what is new, or what an earlier version did not write."""
        for name, entry in registry.collections.items():
            path = self.path / "collections" / entry.folder / SAID_FILE
            said = registry.said_by(name)
            if name not in before.collections or said != before.said_by(name) or not path.exists():
                _write(path, said)

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


_folders_mutex = Mutex()


def shared_folder(path: str | os.PathLike[str]) -> Folder:
    """The one object of this folder in this process."""
    resolved = Path(path).expanduser().resolve()
    with _folders_mutex:
        return _folders.setdefault(resolved, Folder(resolved))


def _forget() -> None:
    """Leave to the parent what it has open."""
    for folder in list(_folders.values()):
        folder.abandon()
    _folders.clear()


in_child(_forget)


def _write(path: Path, model: BaseModel) -> None:
    write_atomically(path, json.dumps(model.model_dump(), indent=1, ensure_ascii=False).encode())
