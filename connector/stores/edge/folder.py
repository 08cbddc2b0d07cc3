"""What Qdrant Edge lacks and a folder of collections needs: names, descriptions, and a lock.

A folder looks like this:

    registry.json                 {"format": 1, "collections": {name: {"folder": …, "info": {…}}},
                                  "aliases": {alias: name}}
    lock                          held by the one process that has the folder open
    collections/<folder>/shard/   the engine's files
    collections/<folder>/artifacts/<key>
"""

from __future__ import annotations

import json
import os
import re
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import portalocker
import qdrant_edge as edge

from connector.core.errors import CollectionNotFound, StoreError, StoreLocked
from connector.core.io import write_atomically

_FORMAT = 1


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

    def enter(self) -> None:
        """One more user.

        Raises:
            StoreLocked: another process has the folder open.
        """
        with self.mutex:
            if (
                self.path / "registry.json"
            ).exists():  # else there is nothing to protect, or no folder of ours
                self.lock()
            elif self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is not a folder; give another path")
            self._users += 1

    def leave(self) -> None:
        """One user less; the last one releases the folder."""
        with self.mutex:
            self._users -= 1
            if self._users == 0:
                self._release()

    def __del__(self) -> None:
        self._release()

    def _release(self) -> None:
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

    def registry(self) -> dict[str, Any]:
        """What `registry.json` says: "format", "collections" and "aliases".

        Raises:
            StoreError: the file is damaged or of another version.
        """
        path = self.path / "registry.json"
        if not path.exists():
            return {"format": _FORMAT, "collections": {}, "aliases": {}}
        try:
            registry = json.loads(path.read_text(encoding="utf-8"))
            if registry["format"] != _FORMAT:
                raise StoreError(
                    f"{path} has format {registry['format']!r:.80}, this version reads {_FORMAT}; upgrade"
                )
            for entry in registry["collections"].values():
                _check_entry(entry)
            homes = [entry["folder"] for entry in registry["collections"].values()]
            if len(set(homes)) < len(homes):
                raise ValueError("two collections in one folder")
            for alias, name in registry.setdefault("aliases", {}).items():
                if name not in registry["collections"]:
                    raise ValueError(f"alias {alias!r} leads to {name!r}, which is not there")
            for text in (*registry["collections"], *registry["aliases"]):
                text.encode()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{path} is not a registry of collections ({error!r:.300}); restore it"
            ) from error
        return dict(registry)

    def write_registry(self, registry: Mapping[str, Any]) -> None:
        """Replace `registry.json`."""
        text = json.dumps(registry, indent=1, ensure_ascii=False)
        write_atomically(self.path / "registry.json", text.encode())

    def entry(self, name: str) -> dict[str, Any]:
        """The registry's entry of a collection.

        Raises:
            CollectionNotFound: there is none; those that are there are named.
        """
        registry = self.registry()
        return dict(registry["collections"][self.resolved(registry, name)])

    def resolved(self, registry: Mapping[str, Any], name: str) -> str:
        """The collection that a name, or an alias, leads to.

        Raises:
            CollectionNotFound: there is none; those that are there are named.
        """
        collections, aliases = registry["collections"], registry["aliases"]
        if name in aliases:
            return str(aliases[name])
        if name not in collections:
            known = ", ".join(sorted({*collections, *aliases} - {*aliases.values()})) or "none"
            raise CollectionNotFound(f"no collection {name!r} in {self.path}; there: {known}")
        return name

    def home(self, name: str) -> Path:
        """The folder of a collection."""
        return self.path / "collections" / str(self.entry(name)["folder"])


def _check_entry(entry: Any) -> None:
    """Refuse what we never write: a folder elsewhere, which `drop` would remove, or no texts as info."""
    home, info = entry["folder"], entry["info"]
    if not re.fullmatch(r"[A-Za-z0-9._-]+", home) or not home.strip("."):
        raise ValueError(f"the folder {home!r:.80} of a collection")
    for text in (it for pair in info.items() for it in pair):
        if not isinstance(text, str):
            raise TypeError(f"{text!r:.80} in the info of a collection")
        text.encode()  # no lone surrogates, which could not be written again


_folders: weakref.WeakValueDictionary[Path, Folder] = weakref.WeakValueDictionary()


_folders_mutex = threading.Lock()


def shared_folder(path: str | os.PathLike[str]) -> Folder:
    """The one object of this folder in this process."""
    resolved = Path(path).expanduser().resolve()
    with _folders_mutex:
        folder = _folders.get(resolved)
        if folder is None:
            folder = _folders[resolved] = Folder(resolved)
        return folder
