"""Qdrant Edge: the Rust engine in this process, one shard a collection.

A folder looks like this; everything but the shards is ours, because Edge has no names, no metadata and
no lock across processes:

    registry.json                 {"format": 1, "collections": {name: {"folder": …, "info": {…}}}}
    lock                          held by the one process that has the folder open
    collections/<folder>/shard/   the engine's files
    collections/<folder>/artifacts/<key>
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import portalocker
import qdrant_edge as edge
from qdrant_client import models

from connector.errors import CollectionExists, CollectionNotFound, InputError, StoreError, StoreLocked
from connector.schema import CollectionSchema, VectorSchema
from connector.stores.base import Nearest, Point, Record
from connector.stores.filters import to_edge
from connector.types import Float32

T = TypeVar("T")

MAX_MULTIVECTOR_FLOATS = 1_048_576
"""Rows × width of one multivector that Qdrant takes; Edge does not check, so we do."""

_FORMAT = 1
_PAGE = 1000
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "turbo4": edge.VectorStorageDatatype.Turbo4,  # type: ignore[attr-defined]  # not in its stubs
}


class EdgeStore:
    """Collections in a folder, opened by one process at a time.

    Args:
        path: the folder; made when `create` is first called. `share` takes the lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.RLock()
        self._shards: dict[str, edge.EdgeShard] = {}
        self._lock: portalocker.Lock | None = None
        self._users = 0

    @property
    def location(self) -> str:
        return str(self._path)

    # Collections

    def names(self) -> list[str]:
        return sorted(self._collections())

    def create(self, name: str, schema: CollectionSchema, info: Mapping[str, str]) -> None:
        with self._mutex:
            self._open_folder()
            registry = self._registry()
            if name in registry["collections"]:
                raise CollectionExists(
                    f"collection {name!r} exists in {self._path}; open it, or drop it first"
                )
            folder = f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{uuid.uuid4().hex[:8]}"
            home = self._path / "collections" / folder
            try:
                (home / "artifacts").mkdir(parents=True)
                (home / "shard").mkdir()
                shard = _engine(lambda: edge.EdgeShard.create(str(home / "shard"), _config(schema)))
                registry["collections"][name] = {"folder": folder, "info": dict(info)}
                self._write_registry(registry)
            except BaseException:
                shutil.rmtree(home, ignore_errors=True)
                raise
            self._shards[name] = shard

    def drop(self, name: str) -> None:
        with self._mutex:
            home = self._home(name)
            shard = self._shards.pop(name, None)
            if shard is not None:
                shard.close()
            registry = self._registry()
            del registry["collections"][name]
            self._write_registry(registry)
            shutil.rmtree(home)

    def info(self, name: str) -> dict[str, str]:
        return dict(self._entry(name)["info"])

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        with self._mutex:
            registry = self._registry()
            self._entry(name)
            registry["collections"][name]["info"].update(info)
            self._write_registry(registry)

    def put_artifact(self, name: str, key: str, data: bytes) -> None:
        _write_atomically(self._home(name) / "artifacts" / key, data)

    def get_artifact(self, name: str, key: str) -> bytes:
        path = self._home(name) / "artifacts" / key
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"artifact {path} cannot be read ({error}); restore the folder") from error

    # Points

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        shard = self._shard(name)
        batch = [
            edge.Point(
                point.id, {key: _vector(value) for key, value in point.vectors.items()}, dict(point.payload)
            )
            for point in points
        ]
        _engine(lambda: shard.update(edge.UpdateOperation.upsert_points(batch)))

    def delete(self, name: str, ids: Sequence[str]) -> None:
        shard = self._shard(name)
        _engine(lambda: shard.update(edge.UpdateOperation.delete_points(list(ids))))

    def retrieve(self, name: str, ids: Sequence[str], payload: Sequence[str]) -> dict[str, Record]:
        shard = self._shard(name)
        found = _engine(lambda: shard.retrieve(list(ids), with_payload=list(payload), with_vector=False))
        return {str(point.id): _record(point) for point in found}

    def search(
        self,
        name: str,
        query: Nearest,
        *,
        payload: Sequence[str],
        vectors: Sequence[str] = (),
        filter: models.Filter | None = None,
    ) -> list[Record]:
        shard = self._shard(name)
        where = to_edge(filter)
        wanted: dict[str, Any] = {"with_payload": list(payload), "with_vector": list(vectors) or False}
        if query.prefetch is None:  # the engine plans nothing for a plain search, a third less time
            plain = edge.SearchRequest(query=_nearest(query), limit=query.limit, filter=where, **wanted)
            return [_record(point, point.score) for point in _engine(lambda: shard.search(plain))]
        staged = edge.QueryRequest(
            limit=query.limit,
            query=_nearest(query),
            prefetches=_prefetches(query, where),
            filter=where,
            **wanted,
        )
        return [_record(point, point.score) for point in _engine(lambda: shard.query(staged))]

    def scroll(self, name: str, payload: Sequence[str], vectors: Sequence[str] = ()) -> Iterator[Record]:
        shard = self._shard(name)
        offset: Any = None
        while True:
            request = edge.ScrollRequest(
                offset=offset, limit=_PAGE, with_payload=list(payload), with_vector=list(vectors) or False
            )
            points, offset = _engine(lambda request=request: shard.scroll(request))  # type: ignore[misc]
            yield from (_record(point) for point in points)
            if offset is None:
                return

    def count(self, name: str, filter: models.Filter | None = None) -> int:
        shard = self._shard(name)
        return int(_engine(lambda: shard.count(edge.CountRequest(exact=True, filter=to_edge(filter)))))

    def finish(self, name: str) -> None:
        """Build the HNSW graph when there are enough points for one, flush, and cut the log.

        The engine cuts its write-ahead log when it flushes, down to its last two segments of 32 MiB.
        """
        shard = self._shard(name)
        _engine(shard.optimize)
        _engine(shard.flush)

    def disk_bytes(self, name: str) -> int:
        """Allocated bytes of the collection's folder; the engine's files are sparse."""
        files = (path for path in self._home(name).rglob("*") if path.is_file())
        return sum(path.stat().st_blocks * 512 for path in files)

    def share(self) -> EdgeStore:
        """One more user; the folder is released when all of them have called `close`."""
        with self._mutex:
            self._users += 1
            if self._path.exists():
                self._open_folder()
        return self

    def close(self) -> None:
        with self._mutex:
            self._users = max(self._users - 1, 0)
            if self._users == 0:
                self._release()

    def __del__(self) -> None:
        self._release()

    def _release(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # Folder

    def _open_folder(self) -> None:
        if self._lock is not None:
            return
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            lock = portalocker.Lock(self._path / "lock", "a", timeout=0, fail_when_locked=True)
            lock.acquire()
        except portalocker.exceptions.LockException as error:
            raise StoreLocked(
                f"{self._path} is open in another process; close that one, or run a Qdrant server for both"
            ) from error
        except OSError as error:
            raise StoreError(f"{self._path} cannot be used as a folder of collections: {error}") from error
        self._lock = lock

    def _registry(self) -> dict[str, Any]:
        path = self._path / "registry.json"
        if not path.exists():
            return {"format": _FORMAT, "collections": {}}
        try:
            registry = json.loads(path.read_text(encoding="utf-8"))
            if registry["format"] != _FORMAT:
                raise StoreError(
                    f"{path} has format {registry['format']}, this version reads {_FORMAT}; upgrade"
                )
            for entry in registry["collections"].values():
                if not isinstance(entry["folder"], str) or not isinstance(entry["info"], dict):
                    raise TypeError("an entry without folder and info")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is not a registry of collections ({error!r}); restore it") from error
        return dict(registry)

    def _write_registry(self, registry: Mapping[str, Any]) -> None:
        text = json.dumps(registry, indent=1, ensure_ascii=False)
        _write_atomically(self._path / "registry.json", text.encode())

    def _collections(self) -> dict[str, Any]:
        return dict(self._registry()["collections"])

    def _entry(self, name: str) -> dict[str, Any]:
        collections = self._collections()
        if name not in collections:
            known = ", ".join(sorted(collections)) or "none"
            raise CollectionNotFound(f"no collection {name!r} in {self._path}; there: {known}")
        return dict(collections[name])

    def _home(self, name: str) -> Path:
        return self._path / "collections" / str(self._entry(name)["folder"])

    def _shard(self, name: str) -> edge.EdgeShard:
        with self._mutex:
            if name not in self._shards:
                home = self._home(name)
                self._open_folder()
                self._shards[name] = _engine(lambda: edge.EdgeShard.load(str(home / "shard")))
            return self._shards[name]


_open_stores: weakref.WeakValueDictionary[Path, EdgeStore] = weakref.WeakValueDictionary()
_open_mutex = threading.Lock()


def shared_edge_store(path: str | os.PathLike[str]) -> EdgeStore:
    """The store of this folder; within one process all users of a folder share one.

    Raises:
        StoreLocked: another process has the folder open.
        StoreError: the folder cannot be used.
    """
    resolved = Path(path).expanduser().resolve()
    with _open_mutex:
        store = _open_stores.get(resolved)
        if store is None:
            store = EdgeStore(resolved)
            _open_stores[resolved] = store
        return store.share()


def _config(schema: CollectionSchema) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={vector.name: _params(vector) for vector in schema.vectors}, wal_enabled=True
    )


def _params(vector: VectorSchema) -> edge.EdgeVectorParams:
    if not vector.multivector:
        return edge.EdgeVectorParams(vector.size, edge.Distance.Dot, datatype=_DATATYPES[vector.datatype])
    return edge.EdgeVectorParams(
        vector.size,
        edge.Distance.Dot,
        datatype=_DATATYPES[vector.datatype],
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
    )


def _vector(vector: Float32) -> list[Any]:
    if vector.ndim == 2 and vector.size > MAX_MULTIVECTOR_FLOATS:
        raise InputError(
            f"a passage of {vector.shape[0]} × {vector.shape[1]} token floats is over Qdrant's limit of "
            f"{MAX_MULTIVECTOR_FLOATS}; pool its tokens, project them, or split it with chunk_tokens"
        )
    values: list[Any] = vector.tolist()
    return values


def _nearest(query: Nearest) -> edge.Query:
    return edge.Query.Nearest(query.vector.tolist(), query.using)


def _prefetches(query: Nearest, where: edge.Filter | None) -> list[edge.Prefetch]:
    inner = query.prefetch
    if inner is None:
        return []
    return [
        edge.Prefetch(
            limit=inner.limit, query=_nearest(inner), prefetches=_prefetches(inner, where), filter=where
        )
    ]


def _record(point: Any, score: float = 0.0) -> Record:
    if not point.vector:
        return Record(point.id, point.payload or {}, score)
    vectors = {name: np.asarray(value, np.float32) for name, value in point.vector.items()}
    return Record(point.id, point.payload or {}, score, vectors)


def _engine(call: Callable[[], T]) -> T:
    """Call the engine; its errors are plain `Exception`s, which become ours."""
    try:
        return call()
    except Exception as error:
        raise StoreError(f"Qdrant Edge: {error}") from error


def _write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a part."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
