"""Qdrant Edge: the Rust engine in this process, one shard a collection, one folder of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from connector.core.errors import CollectionExists, StoreError, StoreLocked
from connector.core.io import sealed, unsealed, write_atomically
from connector.stores.base import Capabilities, Lease, Store
from connector.stores.edge import convert, disk
from connector.stores.edge.folder import Folder, shared_folder
from connector.stores.edge.registry import Entry
from connector.stores.edge.shard import Shard
from connector.stores.filters import Where
from connector.stores.points import (
    Answer,
    Keys,
    Point,
    Query,
    Record,
    Refusal,
    amend_there,
    paged,
    wanted_payload,
    weight,
    write_in_order,
)
from connector.stores.schema import CollectionSchema, PayloadKind, VectorSchema

_BATCH_BYTES = 64 * 2**20
"""One update of the engine is logged as one, so a window of passages should fit."""


_PAGE = 1000


class EdgeStore(Store):
    """Collections in a folder, which one process at a time may open.

    All stores of a folder in one process share its lock and its shards; the folder is released when the
    last of them is closed.

    Args:
        path: the folder; made when `create` is first called.

    Raises:
        StoreLocked: another process has the folder open.
        StoreError: the folder cannot be used.
    """

    capabilities = Capabilities(
        aliases=False, quantizes=True, alters=False, indexes=True, copies=False, turbo=True
    )

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._shared = shared_folder(path)
        self._shared.enter()
        self._leave = weakref.finalize(self, self._shared.leave)
        self._leave.atexit = False

    @property
    def location(self) -> str:
        return str(self._shared.path)

    @property
    def _folder(self) -> Folder:
        self._shared.opened.check()
        return self._shared

    # Collections

    def names(self) -> list[str]:
        return sorted(self._folder.registry().collections)

    def create(self, name: str, schema: CollectionSchema, info: Mapping[str, str]) -> None:
        folder = self._folder
        home = f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}-{uuid.uuid4().hex[:8]}"
        path = folder.path / "collections" / home
        with folder.mutex, contextlib.ExitStack() as undo:
            with folder.changing() as registry:
                if name in registry.collections or name in registry.aliases:
                    raise CollectionExists(
                        f"collection {name!r} exists in {folder.path}; open it, or drop it first"
                    )
                disk.check_writes(folder.path)
                undo.callback(shutil.rmtree, path, ignore_errors=True)
                shard = Shard.make(path, schema)
                undo.callback(shard.close)
                registry.collections[name] = Entry(folder=home, info=dict(info))
            undo.pop_all()
            folder.shards[name] = shard
        for key, kind in schema.indexes.items():
            self.create_index(name, key, kind)

    def drop(self, name: str) -> None:
        folder = self._folder
        with folder.mutex:
            with folder.changing() as registry:
                name = folder.resolved(name)
                home = folder.home(name)
                registry.aliases = {alias: it for alias, it in registry.aliases.items() if it != name}
                del registry.collections[name]
            shard = folder.shards.pop(name, None)
            if shard is not None:
                shard.close()
            shutil.rmtree(home)

    def aliases(self) -> dict[str, str]:
        return dict(self._folder.registry().aliases)

    def switch(self, alias: str, name: str | None) -> None:
        folder = self._folder
        with folder.changing() as registry:
            if alias in registry.collections:
                raise CollectionExists(f"{alias!r} is a collection in {folder.path}, and can be no alias")
            if name is None:
                registry.aliases.pop(alias, None)
            else:
                registry.aliases[alias] = folder.resolved(name)

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
        return dict(self._folder.entry(name).info)

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        with self._folder.mutex:
            name = self._folder.resolved(name)
            with self._folder.changing() as registry:
                registry.collections[name].info.update(info)

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

    def drop_artifact(self, name: str, key: str) -> None:
        (self._folder.home(name) / "artifacts" / key).unlink(missing_ok=True)

    # Points

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        shard, home = self._shard(name), self._folder.home(name) / "shard"
        check = convert.checker(home)

        def upsert(engine: edge.EdgeShard, batch: list[Point]) -> None:
            rows = [edge.Point(it.id, convert.vectors_of(it), dict(it.payload)) for it in batch]
            engine.update(edge.UpdateOperation.upsert_points(rows))

        def write(batch: list[Point]) -> None:
            check(batch)
            disk.check_writes(home, _written(batch))
            try:
                shard(lambda engine: upsert(engine, batch))
            except StoreError as error:
                raise Refusal(str(error)) from error

        write_in_order(points, _BATCH_BYTES, write)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        operation = edge.UpdateOperation.delete_points(list(ids))
        self._writable(name)(lambda engine: engine.update(operation))

    def amend(self, name: str, points: Sequence[Point]) -> None:
        shard, home = self._shard(name), self._folder.home(name) / "shard"
        check = convert.checker(home)

        def write(engine: edge.EdgeShard, some: list[Point]) -> None:
            if rows := [
                edge.PointVectors(point.id, convert.vectors_of(point)) for point in some if point.vectors
            ]:
                engine.update(edge.UpdateOperation.update_vectors(rows))
            for point in some:
                if point.payload:
                    engine.update(edge.UpdateOperation.set_payload([point.id], dict(point.payload)))

        def amend(some: list[Point]) -> None:
            check(some)
            disk.check_writes(home, _written(some))
            shard(lambda engine: write(engine, some))

        amend_there(points, lambda ids: self.retrieve(name, ids, []), amend)

    def retrieve(
        self, name: str, ids: Sequence[str], payload: Keys, vectors: Sequence[str] = ()
    ) -> dict[str, Record]:
        wanted = _wanted(payload, vectors)
        found = self._shard(name)(lambda engine: engine.retrieve(list(ids), **wanted))
        return {str(point.id): Record.of(point) for point in found}

    def _scores(self, name: str, query: Query, filter: Where) -> dict[Any, float]:
        return {point.id: point.score for point in self._found(name, query, [], (), filter)}

    def _found(
        self, name: str, query: Query, payload: Keys, vectors: Sequence[str], filter: Where
    ) -> Iterable[Any]:
        shard, where, wanted = self._shard(name), convert.to_edge(filter), _wanted(payload, vectors)
        scored = {"query": convert.scored_by(query), "params": query.search_params(edge)}
        request = {**scored, "limit": query.limit, "filter": where, **wanted}
        if query.stages:
            staged = edge.QueryRequest(prefetches=convert.prefetches(query, where), **request)
            found: Iterable[Any] = shard(lambda engine: engine.query(staged))
        else:  # the engine plans nothing for a plain search, a third less time
            found = shard(lambda engine: engine.search(edge.SearchRequest(**request)))
        return found

    def search_many(
        self,
        name: str,
        searches: Sequence[Sequence[Query]],
        *,
        payload: Keys,
        vectors: Sequence[str] = (),
        filter: Where = None,
    ) -> list[Answer]:
        def search(queries: Sequence[Query], payload: Keys, vectors: Sequence[str]) -> Answer:
            first, *others = queries
            found = [Record.of(it) for it in self._found(name, first, payload, vectors, filter)]
            return found, [self._scores(name, query, filter) for query in others]

        if len(searches) == 1:
            return [search(searches[0], payload, vectors)]
        with ThreadPoolExecutor(min(len(searches), os.cpu_count() or 1)) as threads:
            answers = list(threads.map(lambda queries: search(queries, [], ()), searches))
        keys = list({record.key for found, _ in answers for record in found})
        return self._read(name, answers, keys, _wanted(payload, vectors)) if keys else answers

    def _read(
        self, name: str, answers: list[Answer], keys: list[Any], wanted: dict[str, Any]
    ) -> list[Answer]:
        """The same with what is read of points, each once; it takes longer than to find them."""
        points = self._shard(name)(lambda engine: engine.retrieve(keys, **wanted))
        there = {point.id: Record.of(point) for point in points}

        def read(found: Record) -> Record:
            whole = there[found.key]
            return Record(found.key, whole.payload, found.score, whole.vectors)

        return [([read(it) for it in found if it.key in there], scores) for found, scores in answers]

    def scroll(
        self, name: str, payload: Keys, vectors: Sequence[str] = (), filter: Where = None
    ) -> Iterator[Record]:
        shard, wanted = self._shard(name), {"filter": convert.to_edge(filter), **_wanted(payload, vectors)}

        def page(offset: Any) -> Any:
            request = edge.ScrollRequest(offset=offset, limit=_PAGE, **wanted)
            return shard(lambda engine: engine.scroll(request))

        return paged(page)

    def count(self, name: str, filter: Where = None) -> int:
        request = edge.CountRequest(exact=True, filter=convert.to_edge(filter))
        return int(self._shard(name)(lambda engine: engine.count(request)))

    def add_vector(self, name: str, vector: VectorSchema | str) -> None:
        """The engine adds and drops vectors file after file, and opens none when it was killed in between."""
        named = vector if isinstance(vector, str) else vector.name
        raise StoreError(f"Qdrant Edge cannot alter vector {named!r} of {name!r}; copy the collection")

    drop_vector = alter_vector = add_vector

    def create_index(self, name: str, key: str, kind: PayloadKind) -> None:
        operation = edge.UpdateOperation.create_field_index(key, convert.index_params(kind))
        shard = self._writable(name, self.disk_bytes(name, log=False))  # it is no larger than the data
        shard(lambda engine: engine.update(operation))

    def drop_index(self, name: str, key: str) -> None:
        operation = edge.UpdateOperation.delete_field_index(key)
        self._shard(name)(lambda engine: engine.update(operation))

    def finish(self, name: str) -> None:
        """Build the HNSW graph when there are enough points for one, flush, and cut the log.

        The engine cuts its write-ahead log when it flushes, down to its last two segments of 32 MiB. That
        makes room for the graph, with which the engine writes the points again beside those that are there.
        """
        self._writable(name)(lambda engine: engine.flush())
        self._writable(name, self.disk_bytes(name, log=False))(lambda engine: engine.optimize())
        self._shard(name)(lambda engine: engine.flush())

    def disk_bytes(self, name: str, log: bool = True) -> int:
        """Allocated bytes of the collection's folder; the engine's files are sparse."""
        home = self._folder.home(name)
        wal = home / "shard" / "wal"
        return sum(taken for path, _, taken in disk.files(home) if log or path.parent != wal)

    def repair(self) -> tuple[list[str], list[Path]]:
        """Make a registry that is lost or damaged again of what the collections say.

        Returns:
            Their names, and the folders that do not say what they are, which are left alone.

        Raises:
            InputError: it is whole, or there is no folder.
            StoreError: no collection says what it is, or the registry is a later version's.
        """
        return self._folder.repair()

    def close(self) -> None:
        self._leave()

    def _shard(self, name: str) -> Shard:
        folder = self._folder
        with folder.mutex:
            if name not in folder.shards:  # an alias never is
                name = folder.resolved(name)
            if name not in folder.shards:
                folder.lock()
                folder.shards[name] = Shard.load(folder.home(name))
            return folder.shards[name]

    def _writable(self, name: str, size: int = 0) -> Shard:
        """The shard, if its disk has room for some bytes more; `StoreError` if not."""
        shard = self._shard(name)
        disk.check_writes(self._folder.home(name) / "shard", size)
        return shard


class _Held:
    """A lease in a folder, which no other process can open."""

    def check(self) -> None:
        """It never runs out."""


def _written(points: Sequence[Point]) -> int:
    """Bytes that points take at most, each in the log and in a segment."""
    return 2 * sum(map(weight, points))


def _wanted(payload: Keys, vectors: Sequence[str]) -> dict[str, Any]:
    """The parts of points that are asked for."""
    return {"with_payload": wanted_payload(payload), "with_vector": list(vectors) or False}
