"""Qdrant Edge: the Rust engine in this process, one shard a collection, one folder of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as edge
from qdrant_client import models

from connector.core.errors import CollectionExists, StoreError, StoreLocked
from connector.core.io import sealed, unsealed, write_atomically
from connector.stores.base import Capabilities, Lease, Nearest, PayloadKind, Point, Query, Record
from connector.stores.batching import Refusal, amend_there, write_in_order
from connector.stores.edge.convert import (
    Taken,
    config,
    listed,
    prefetches,
    record,
    search_params,
    searched,
    struct,
    to_edge,
)
from connector.stores.edge.folder import shared_folder
from connector.stores.schema import CollectionSchema, VectorSchema

T = TypeVar("T")


_BATCH_BYTES = 64 * 2**20
"""One update of the engine is logged as one, so a window of passages should fit."""


_PAGE = 1000


class EdgeStore:
    """Collections in a folder, which one process at a time may open.

    All stores of a folder in one process share its lock and its shards; the folder is released when the
    last of them is closed.

    Args:
        path: the folder; made when `create` is first called.

    Raises:
        StoreLocked: another process has the folder open.
        StoreError: the folder cannot be used.
    """

    capabilities = Capabilities(aliases=False, quantizes=True, alters=False, indexes=True, copies=False)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._closed = True
        self._folder = shared_folder(path)
        self._folder.enter()
        self._closed = False

    @property
    def location(self) -> str:
        return str(self._folder.path)

    # Collections

    def names(self) -> list[str]:
        return sorted(self._folder.registry()["collections"])

    def create(self, name: str, schema: CollectionSchema, info: Mapping[str, str]) -> None:
        folder = self._folder
        with folder.mutex:
            folder.lock()
            registry = folder.registry()
            if name in registry["collections"] or name in registry["aliases"]:
                raise CollectionExists(
                    f"collection {name!r} exists in {folder.path}; open it, or drop it first"
                )
            home = f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{uuid.uuid4().hex[:8]}"
            shard = _make(folder.path / "collections" / home, schema)
            try:
                registry["collections"][name] = {"folder": home, "info": dict(info)}
                folder.write_registry(registry)
            except BaseException:
                shard.close()
                shutil.rmtree(folder.path / "collections" / home, ignore_errors=True)
                raise
            folder.shards[name] = shard

    def drop(self, name: str) -> None:
        folder = self._folder
        with folder.mutex:
            folder.lock()
            registry = folder.registry()
            name = folder.resolved(registry, name)
            home = folder.home(name)
            aliases = registry["aliases"].items()
            registry["aliases"] = {alias: target for alias, target in aliases if target != name}
            del registry["collections"][name]
            folder.write_registry(registry)
            shard = folder.shards.pop(name, None)
            if shard is not None:
                shard.close()
            shutil.rmtree(home)

    def aliases(self) -> dict[str, str]:
        return dict(self._folder.registry()["aliases"])

    def switch(self, alias: str, name: str | None) -> None:
        folder = self._folder
        with folder.mutex:
            folder.lock()
            registry = folder.registry()
            if alias in registry["collections"]:
                raise CollectionExists(f"{alias!r} is a collection in {folder.path}, and can be no alias")
            if name is None:
                registry["aliases"].pop(alias, None)
            else:
                registry["aliases"][alias] = folder.resolved(registry, name)
            folder.write_registry(registry)

    @contextlib.contextmanager
    def lease(self, key: str) -> Iterator[Lease]:
        folder = self._folder
        with folder.mutex:
            folder.lock()
            if key in folder.held:
                raise StoreLocked(f"{key!r} in {folder.path} is held by another thread; wait until it ends")
            folder.held.add(key)
        try:
            yield _Held()
        finally:
            with folder.mutex:
                folder.held.discard(key)

    def info(self, name: str) -> dict[str, str]:
        return dict(self._folder.entry(name)["info"])

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        folder = self._folder
        with folder.mutex:
            registry = folder.registry()
            registry["collections"][folder.resolved(registry, name)]["info"].update(info)
            folder.write_registry(registry)

    def put_artifact(self, name: str, key: str, data: bytes) -> None:
        write_atomically(self._folder.home(name) / "artifacts" / key, sealed(data))

    def claim_artifact(self, name: str, key: str, data: bytes) -> bytes:
        with self._folder.mutex:
            if not (self._folder.home(name) / "artifacts" / key).exists():
                self.put_artifact(name, key, data)
            return self.get_artifact(name, key)

    def get_artifact(self, name: str, key: str) -> bytes:
        path = self._folder.home(name) / "artifacts" / key
        try:
            return unsealed(path.read_bytes(), str(path))
        except OSError as error:
            raise StoreError(f"artifact {path} cannot be read ({error}); restore the folder") from error

    # Points

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        shard, update = self._shard(name), edge.UpdateOperation
        taken = Taken.of(self._folder.home(name) / "shard")

        def write(batch: list[Point]) -> None:
            taken.check(batch)
            try:
                _engine(lambda: shard.update(update.upsert_points([struct(point) for point in batch])))
            except StoreError as error:
                raise Refusal(str(error)) from error

        write_in_order(points, _BATCH_BYTES, write)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        shard = self._shard(name)
        _engine(lambda: shard.update(edge.UpdateOperation.delete_points(list(ids))))

    def amend(self, name: str, points: Sequence[Point]) -> None:
        amend_there(points, lambda ids: self.retrieve(name, ids, []), lambda them: self._amend(name, them))

    def _amend(self, name: str, points: list[Point]) -> None:
        shard, update = self._shard(name), edge.UpdateOperation
        Taken.of(self._folder.home(name) / "shard").check(points)
        rows = [edge.PointVectors(point.id, listed(point.vectors)) for point in points if point.vectors]
        if rows:
            _engine(lambda: shard.update(update.update_vectors(rows)))
        for point in points:
            if point.payload:
                payload = dict(point.payload)
                _engine(lambda id=point.id, it=payload: shard.update(update.set_payload([id], it)))  # type: ignore[misc]

    def retrieve(
        self, name: str, ids: Sequence[str], payload: Sequence[str], vectors: Sequence[str] = ()
    ) -> dict[str, Record]:
        shard = self._shard(name)
        wanted: dict[str, Any] = {"with_payload": list(payload), "with_vector": list(vectors) or False}
        found = _engine(lambda: shard.retrieve(list(ids), **wanted))
        return {str(point.id): record(point) for point in found}

    def search(
        self,
        name: str,
        query: Query,
        *,
        payload: Sequence[str],
        vectors: Sequence[str] = (),
        filter: models.Filter | None = None,
    ) -> list[Record]:
        shard = self._shard(name)
        where = to_edge(filter)
        wanted: dict[str, Any] = {"with_payload": list(payload), "with_vector": list(vectors) or False}
        if isinstance(query, Nearest):
            wanted["params"] = search_params(query)
            if query.prefetch is None:  # the engine plans nothing for a plain search, a third less time
                plain = edge.SearchRequest(query=searched(query), limit=query.limit, filter=where, **wanted)
                return [record(point, point.score) for point in _engine(lambda: shard.search(plain))]
        staged = edge.QueryRequest(
            limit=query.limit,
            query=searched(query),
            prefetches=prefetches(query, where),
            filter=where,
            **wanted,
        )
        return [record(point, point.score) for point in _engine(lambda: shard.query(staged))]

    def scroll(
        self,
        name: str,
        payload: Sequence[str] | None,
        vectors: Sequence[str] = (),
        filter: models.Filter | None = None,
    ) -> Iterator[Record]:
        shard, where = self._shard(name), to_edge(filter)
        wanted: dict[str, Any] = {
            "with_payload": True if payload is None else list(payload),
            "with_vector": list(vectors) or False,
        }
        offset: Any = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=_PAGE, filter=where, **wanted)
            points, offset = _engine(lambda request=request: shard.scroll(request))  # type: ignore[misc]
            yield from (record(point) for point in points)
            if offset is None:
                return

    def count(self, name: str, filter: models.Filter | None = None) -> int:
        shard = self._shard(name)
        return int(_engine(lambda: shard.count(edge.CountRequest(exact=True, filter=to_edge(filter)))))

    def add_vector(self, name: str, vector: VectorSchema | str) -> None:
        raise self._cannot_alter(name, vector if isinstance(vector, str) else vector.name)

    def drop_vector(self, name: str, vector: str) -> None:
        raise self._cannot_alter(name, vector)

    def alter_vector(self, name: str, vector: VectorSchema) -> None:
        raise self._cannot_alter(name, vector.name)

    def _cannot_alter(self, name: str, vector: str) -> StoreError:
        """The engine adds and drops vectors file after file, and opens none when it was killed in between."""
        return StoreError(f"Qdrant Edge cannot alter vector {vector!r} of {name!r}; copy the collection")

    def create_index(self, name: str, key: str, kind: PayloadKind) -> None:
        shard, schema = self._shard(name), getattr(edge.PayloadSchemaType, kind.capitalize())
        _engine(lambda: shard.update(edge.UpdateOperation.create_field_index(key, schema)))

    def finish(self, name: str) -> None:
        """Build the HNSW graph when there are enough points for one, flush, and cut the log.

        The engine cuts its write-ahead log when it flushes, down to its last two segments of 32 MiB.
        """
        shard = self._shard(name)
        _engine(shard.optimize)
        _engine(shard.flush)

    def disk_bytes(self, name: str, log: bool = True) -> int:
        """Allocated bytes of the collection's folder; the engine's files are sparse."""
        total, home = 0, self._folder.home(name)
        for path in home.rglob("*"):
            if not log and path.is_relative_to(home / "shard" / "wal"):
                continue
            with contextlib.suppress(FileNotFoundError):  # the engine removes files as it goes
                total += path.stat().st_blocks * 512 if path.is_file() else 0
        return total

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._folder.leave()

    def __del__(self) -> None:
        self.close()

    def _shard(self, name: str) -> edge.EdgeShard:
        folder = self._folder
        with folder.mutex:
            if name not in folder.shards:  # an alias never is
                name = folder.resolved(folder.registry(), name)
            if name not in folder.shards:
                home = folder.home(name)
                folder.lock()
                folder.shards[name] = _engine(lambda: edge.EdgeShard.load(str(home / "shard")))
            return folder.shards[name]


class _Held:
    """A lease in a folder, which no other process can open."""

    def check(self) -> None:
        """It never runs out."""


def _make(home: Path, schema: CollectionSchema) -> edge.EdgeShard:
    """A new shard in a new folder, or nothing."""
    try:
        (home / "artifacts").mkdir(parents=True)
        (home / "shard").mkdir()
        return _engine(lambda: edge.EdgeShard.create(str(home / "shard"), config(schema)))
    except OSError as error:
        shutil.rmtree(home, ignore_errors=True)
        raise StoreError(f"{home} cannot be made: {error}; make room, or allow writing") from error
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _engine(call: Callable[[], T]) -> T:
    """Call the engine; its errors are plain `Exception`s, which become ours."""
    try:
        return call()
    except Exception as error:
        raise StoreError(f"Qdrant Edge: {error}") from error
