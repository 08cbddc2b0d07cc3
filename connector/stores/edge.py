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

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from connector.errors import CollectionExists, StoreError, StoreLocked
from connector.recipes import Quantization
from connector.schema import CollectionSchema, VectorSchema
from connector.stores.base import (
    Capabilities,
    Fused,
    Lease,
    Nearest,
    PayloadKind,
    Point,
    Query,
    Record,
    batches,
)
from connector.stores.filters import to_edge
from connector.stores.folder import shared_folder, write_atomically
from connector.types import Float32, Sparse

T = TypeVar("T")

_BATCH_BYTES = 64 * 2**20
"""One update of the engine is applied whole or not at all, so a window of passages should fit."""

_PAGE = 1000
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
    "turbo4": edge.VectorStorageDatatype.Turbo4,  # type: ignore[attr-defined]  # not in its stubs
}
_MEMORY = edge.Memory.Pinned
_QUANTIZATIONS: dict[Quantization, Any] = {
    "scalar": edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=_MEMORY),
    "product": edge.ProductQuantizationConfig(edge.CompressionRatio.X16, memory=_MEMORY),
    "turbo-4": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=_MEMORY),
    "turbo-2": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits2, memory=_MEMORY),
    "turbo-1.5": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits1_5, memory=_MEMORY),
    "turbo-1": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits1, memory=_MEMORY),
    "binary-2": edge.BinaryQuantizationConfig(
        encoding=edge.BinaryQuantizationEncoding.TwoBits, memory=_MEMORY
    ),
    "binary-1.5": edge.BinaryQuantizationConfig(
        encoding=edge.BinaryQuantizationEncoding.OneAndHalfBits, memory=_MEMORY
    ),
    "binary": edge.BinaryQuantizationConfig(encoding=edge.BinaryQuantizationEncoding.OneBit, memory=_MEMORY),
}


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

    capabilities = Capabilities(aliases=False, quantizes=True, alters=False, copies=False)

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
        write_atomically(self._folder.home(name) / "artifacts" / key, data)

    def claim_artifact(self, name: str, key: str, data: bytes) -> bytes:
        with self._folder.mutex:
            if not (self._folder.home(name) / "artifacts" / key).exists():
                self.put_artifact(name, key, data)
            return self.get_artifact(name, key)

    def get_artifact(self, name: str, key: str) -> bytes:
        path = self._folder.home(name) / "artifacts" / key
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"artifact {path} cannot be read ({error}); restore the folder") from error

    # Points

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        shard = self._shard(name)
        for batch in batches(points, _BATCH_BYTES):
            rows = [edge.Point(point.id, _lists(point.vectors), dict(point.payload)) for point in batch]
            _engine(lambda rows=rows: shard.update(edge.UpdateOperation.upsert_points(rows)))  # type: ignore[misc]

    def delete(self, name: str, ids: Sequence[str]) -> None:
        shard = self._shard(name)
        _engine(lambda: shard.update(edge.UpdateOperation.delete_points(list(ids))))

    def amend(self, name: str, points: Sequence[Point]) -> None:
        shard, update = self._shard(name), edge.UpdateOperation
        there = self.retrieve(name, [point.id for point in points], [])
        points = [point for point in points if point.id in there]
        rows = [edge.PointVectors(point.id, _lists(point.vectors)) for point in points if point.vectors]
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
        return {str(point.id): _record(point) for point in found}

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
            wanted["params"] = _params_of(query)
            if query.prefetch is None:  # the engine plans nothing for a plain search, a third less time
                plain = edge.SearchRequest(query=_query(query), limit=query.limit, filter=where, **wanted)
                return [_record(point, point.score) for point in _engine(lambda: shard.search(plain))]
        staged = edge.QueryRequest(
            limit=query.limit,
            query=_query(query),
            prefetches=_prefetches(query, where),
            filter=where,
            **wanted,
        )
        return [_record(point, point.score) for point in _engine(lambda: shard.query(staged))]

    def scroll(
        self,
        name: str,
        payload: Sequence[str],
        vectors: Sequence[str] = (),
        filter: models.Filter | None = None,
    ) -> Iterator[Record]:
        shard, where = self._shard(name), to_edge(filter)
        wanted: dict[str, Any] = {"with_payload": list(payload), "with_vector": list(vectors) or False}
        offset: Any = None
        while True:
            request = edge.ScrollRequest(offset=offset, limit=_PAGE, filter=where, **wanted)
            points, offset = _engine(lambda request=request: shard.scroll(request))  # type: ignore[misc]
            yield from (_record(point) for point in points)
            if offset is None:
                return

    def count(self, name: str, filter: models.Filter | None = None) -> int:
        shard = self._shard(name)
        return int(_engine(lambda: shard.count(edge.CountRequest(exact=True, filter=to_edge(filter)))))

    def add_vector(self, name: str, vector: VectorSchema | str) -> None:
        shard, update = self._shard(name), edge.UpdateOperation
        if isinstance(vector, str):
            operation = update.create_sparse_vector(vector, edge.Modifier.Idf)
        else:
            operation = update.create_dense_vector(
                vector.name, vector.size, edge.Distance.Dot, None, _DATATYPES[vector.datatype]
            )
        _engine(lambda: shard.update(operation))

    def drop_vector(self, name: str, vector: str) -> None:
        shard = self._shard(name)
        _engine(lambda: shard.update(edge.UpdateOperation.delete_vector_name(vector)))

    def alter_vector(self, name: str, vector: VectorSchema) -> None:
        raise StoreError(f"Qdrant Edge cannot alter vector {vector.name!r} of {name!r}; copy the collection")

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
        return _engine(lambda: edge.EdgeShard.create(str(home / "shard"), _config(schema)))
    except OSError as error:
        shutil.rmtree(home, ignore_errors=True)
        raise StoreError(f"{home} cannot be made: {error}; make room, or allow writing") from error
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _config(schema: CollectionSchema) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={vector.name: _params(vector) for vector in schema.vectors},
        sparse_vectors={
            name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for name in schema.sparse
        },
        wal_enabled=True,
    )


def _params(vector: VectorSchema) -> edge.EdgeVectorParams:
    if not vector.multivector:
        return edge.EdgeVectorParams(
            vector.size, edge.Distance.Dot, datatype=_DATATYPES[vector.datatype], hnsw_config=_hnsw(vector)
        )
    return edge.EdgeVectorParams(
        vector.size,
        edge.Distance.Dot,
        datatype=_DATATYPES[vector.datatype],
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        quantization_config=None if vector.quantization is None else _QUANTIZATIONS[vector.quantization],
        memory=None if vector.quantization is None else edge.Memory.Cold,
    )


def _hnsw(vector: VectorSchema) -> edge.HnswIndexConfig | None:
    if vector.hnsw is None:
        return None
    return edge.HnswIndexConfig(
        m=vector.hnsw.m, ef_construct=vector.hnsw.ef_construct, full_scan_threshold=10_000
    )


def _lists(vectors: Mapping[str, Float32 | Sparse]) -> dict[str, Any]:
    return {name: _list(vector) for name, vector in vectors.items()}


def _list(vector: Float32 | Sparse) -> Any:
    """The engine takes lists in half the time that it takes arrays."""
    if isinstance(vector, Sparse):
        return edge.SparseVector(vector.indices.tolist(), vector.values.tolist())
    return vector.tolist()


def _query(query: Query) -> Any:
    if isinstance(query, Nearest):
        return edge.Query.Nearest(_list(query.vector), query.using)
    return edge.Fusion.Rrf(k=_RRF_K) if query.method == "rrf" else edge.Fusion.Dbsf()


_RRF_K = 2
"""What servers take when nothing is said."""


def _params_of(query: Nearest) -> edge.SearchParams | None:
    if query.oversampling is None:
        return None
    return edge.SearchParams(
        quantization=edge.QuantizationSearchParams(rescore=True, oversampling=query.oversampling)
    )


def _prefetches(query: Query, where: edge.Filter | None) -> list[edge.Prefetch]:
    inner = query.queries if isinstance(query, Fused) else (query.prefetch,)
    return [
        edge.Prefetch(limit=it.limit, query=_query(it), prefetches=_prefetches(it, where), filter=where)
        for it in inner
        if it is not None
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
