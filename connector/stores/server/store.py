"""A Qdrant server or cluster, through qdrant-client."""

from __future__ import annotations

import base64
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal
from qdrant_client.local.qdrant_local import QdrantLocal

from connector.core.errors import (
    CollectionError,
    CollectionExists,
    CollectionNotFound,
    StoreError,
    StoreUnavailable,
)
from connector.core.ids import point_id
from connector.core.io import sealed, unsealed
from connector.stores.base import Capabilities, Lease, PayloadKind, Point, Query, Record
from connector.stores.batching import amend_there, batches, write_in_order
from connector.stores.schema import CollectionSchema, VectorSchema
from connector.stores.server.convert import (
    QUANTIZATIONS,
    hnsw,
    native,
    parts,
    point_struct,
    point_vectors,
    prefetches,
    record,
    search_params,
    vector_params,
)
from connector.stores.server.credentials import Secrets, redacted
from connector.stores.server.leases import hold
from connector.stores.server.retry import answered

T = TypeVar("T")


MAX_REQUEST_BYTES = 16 * 2**20
"""Batches are cut here; a server refuses requests over 32 MiB."""


_PAGE = 256


_ARTIFACTS = "__artifacts"


_LEASES = "connector__leases"


_turns: weakref.WeakKeyDictionary[QdrantClient, threading.RLock] = weakref.WeakKeyDictionary()


_turns_mutex = threading.Lock()


_FLAT = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=0), on_disk=True)
"""Of token vectors: Qdrant scores candidates by them, and makes no graph of them."""


def _wanted(payload: Sequence[str] | None) -> list[str] | bool:
    return True if payload is None else list(payload)


def _turn(client: QdrantClient) -> threading.RLock:
    """Held for each call of a client without a server, which is not made for several threads."""
    with _turns_mutex:
        return _turns.setdefault(client, threading.RLock())


class ServerStore:
    """Collections on a server.

    Artifacts stand in a second collection beside each one, `NAME__artifacts`. Every request is made again
    while its failures may pass, so each one is such that a second time changes nothing.

    Args:
        client: any `QdrantClient`; `QdrantClient(":memory:")` does for tests.
        location: its address, for messages, which leave a password in it out.
        owned: whether `close` closes the client too.
        patient: whether a request that fails is made again.
    """

    def __init__(
        self, client: QdrantClient, location: str, owned: bool = False, patient: bool = True
    ) -> None:
        self._client = client
        self._location = redacted(location)
        self._secrets = Secrets.of(client, location)
        self._owned = owned
        self._patient = patient
        local = isinstance(client._client, QdrantLocal | AsyncQdrantLocal)
        self._local = local
        self._turn: AbstractContextManager[object] = _turn(client) if local else nullcontext()
        self.capabilities = Capabilities(
            aliases=True, quantizes=not local, alters=True, indexes=not local, copies=not local
        )

    @property
    def location(self) -> str:
        return self._location

    def __repr__(self) -> str:
        return f"ServerStore({self._location!r})"

    # Collections

    def names(self) -> list[str]:
        found = self._call(self._client.get_collections).collections
        return sorted(it.name for it in found if not it.name.endswith(_ARTIFACTS) and it.name != _LEASES)

    def aliases(self) -> dict[str, str]:
        found = self._call(self._client.get_aliases).aliases
        return {it.alias_name: it.collection_name for it in found}

    def switch(self, alias: str, name: str | None) -> None:
        operations: list[models.AliasOperations] = []
        if alias in self.aliases():
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        elif self._there(alias):
            raise CollectionExists(f"{alias!r} is a collection at {self._location}, and can be no alias")
        if name is not None:
            made = models.CreateAlias(collection_name=self._physical(name), alias_name=alias)
            operations.append(models.CreateAliasOperation(create_alias=made))
        if operations:
            self._call(lambda: self._client.update_collection_aliases(operations))

    def lease(self, key: str) -> AbstractContextManager[Lease]:
        if not self._there(_LEASES):
            self._make_payloads(_LEASES)
        return hold(self._client, self._call, self._once, _LEASES, key, self._location)

    def _physical(self, name: str) -> str:
        """The collection that a name leads to; descriptions and artifacts are written under it."""
        name = self.aliases().get(name, name)
        self._check(name)
        return name

    def _make_payloads(self, name: str) -> None:
        """A collection without vectors."""
        try:
            self._call(lambda: self._client.create_collection(name, vectors_config={}))
        except StoreError:
            if not self._there(name):  # else another one has just made it
                raise

    def create(self, name: str, schema: CollectionSchema, info: Mapping[str, str]) -> None:
        exists = CollectionExists(f"collection {name!r} exists at {self._location}; open it or drop it")
        if self._there(name):
            raise exists
        vectors = {vector.name: vector_params(vector) for vector in schema.vectors}
        sparse = {name: models.SparseVectorParams(modifier=models.Modifier.IDF) for name in schema.sparse}
        try:  # creation is what one of two creators wins
            self._call(
                lambda: self._client.create_collection(
                    name,
                    vectors_config=vectors,
                    sparse_vectors_config=sparse or None,
                    metadata=dict(info),
                    shard_number=schema.copies.shards,
                    replication_factor=schema.copies.replicas,
                    write_consistency_factor=schema.copies.acknowledged,
                )
            )
        except StoreUnavailable:
            raise
        except StoreError as error:
            if not self._there(name):
                raise
            if not self._is_ours(name, info):  # else the answer to an earlier attempt was lost
                raise exists from error
        self._call(lambda: self._client.delete_collection(name + _ARTIFACTS))  # of a drop that was killed

    def _is_ours(self, name: str, info: Mapping[str, str]) -> bool:
        """Whether a collection is the one that this caller makes, by what it drew for it."""
        return "uid" in info and self.info(name).get("uid") == info["uid"]

    def drop(self, name: str) -> None:
        name = self._physical(name)
        self._call(lambda: self._client.delete_collection(name + _ARTIFACTS))
        self._call(lambda: self._client.delete_collection(name))

    def info(self, name: str) -> dict[str, str]:
        self._check(name)
        return dict(self._call(lambda: self._client.get_collection(name)).config.metadata or {})

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        name = self._physical(name)
        self._call(lambda: self._client.update_collection(name, metadata=dict(info)))

    def put_artifact(self, name: str, key: str, data: bytes) -> None:
        self._put_artifact(name, key, data, models.UpdateMode.UPSERT)

    def claim_artifact(self, name: str, key: str, data: bytes) -> bytes:
        self._put_artifact(name, key, data, models.UpdateMode.INSERT_ONLY)
        return self.get_artifact(name, key)

    def _put_artifact(self, name: str, key: str, data: bytes, mode: models.UpdateMode) -> None:
        home = self._physical(name) + _ARTIFACTS
        if not self._there(home):
            self._make_payloads(home)
        payload = {"key": key, "data": base64.b64encode(sealed(data)).decode()}
        point = models.PointStruct(id=point_id(key, 0), vector={}, payload=payload)
        self._call(lambda: self._client.upsert(home, [point], wait=True, update_mode=mode))

    def get_artifact(self, name: str, key: str) -> bytes:
        home, id_ = self._physical(name) + _ARTIFACTS, point_id(key, 0)
        found = self._call(lambda: self._client.retrieve(home, [id_])) if self._there(home) else []
        if not found or not found[0].payload:
            raise StoreError(f"collection {name!r} at {self._location} has lost its {key}; restore a backup")
        return unsealed(base64.b64decode(found[0].payload["data"]), f"{key} of {name!r} at {self._location}")

    # Points

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        def write(batch: list[Point]) -> None:
            rows = [point_struct(point) for point in batch]
            self._on(name, lambda: self._client.upsert(name, rows, wait=True))

        write_in_order(points, MAX_REQUEST_BYTES, write)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        if not ids:  # refused by the engine
            return
        selector = models.PointIdsList(points=list(ids))
        self._on(name, lambda: self._client.delete(name, selector, wait=True))

    def amend(self, name: str, points: Sequence[Point]) -> None:
        amend_there(points, lambda ids: self.retrieve(name, ids, []), lambda them: self._amend(name, them))

    def _amend(self, name: str, points: list[Point]) -> None:
        for batch in batches(points, MAX_REQUEST_BYTES):
            operations: list[models.UpdateOperation] = []
            if rows := [point_vectors(point) for point in batch if point.vectors]:
                vectors = models.UpdateVectors(points=rows)
                operations.append(models.UpdateVectorsOperation(update_vectors=vectors))
            operations += [
                models.SetPayloadOperation(
                    set_payload=models.SetPayload(payload=dict(point.payload), points=[native(point.id)])
                )
                for point in batch
                if point.payload
            ]
            self._on(name, lambda it=operations: self._client.batch_update_points(name, it, wait=True))  # type: ignore[misc]

    def retrieve(
        self, name: str, ids: Sequence[str], payload: Sequence[str] | None, vectors: Sequence[str] = ()
    ) -> dict[str, Record]:
        wanted: dict[str, Any] = {"with_payload": _wanted(payload), "with_vectors": list(vectors) or False}
        found = self._on(name, lambda: self._client.retrieve(name, [native(it) for it in ids], **wanted))
        return {str(point.id): record(point) for point in found}

    def search(
        self,
        name: str,
        query: Query,
        *,
        payload: Sequence[str] | None,
        vectors: Sequence[str] = (),
        filter: models.Filter | None = None,
    ) -> list[Record]:
        response = self._on(
            name,
            lambda: self._client.query_points(
                name,
                **parts(query),
                prefetch=prefetches(query, filter),
                query_filter=filter,
                search_params=search_params(query) if self.capabilities.quantizes else None,
                with_payload=_wanted(payload),
                with_vectors=list(vectors) or False,
            ),
        )
        return [record(point, point.score) for point in response.points]

    def scroll(
        self,
        name: str,
        payload: Sequence[str] | None,
        vectors: Sequence[str] = (),
        filter: models.Filter | None = None,
    ) -> Iterator[Record]:
        offset: Any = None
        while True:
            points, offset = self._on(
                name,
                lambda offset=offset: self._client.scroll(  # type: ignore[misc]
                    name,
                    scroll_filter=filter,
                    limit=_PAGE,
                    offset=offset,
                    with_payload=_wanted(payload),
                    with_vectors=list(vectors) or False,
                ),
            )
            yield from (record(point) for point in points)
            if offset is None:
                return

    def count(self, name: str, filter: models.Filter | None = None) -> int:
        return int(self._on(name, lambda: self._client.count(name, count_filter=filter, exact=True)).count)

    def check_room(self, name: str, vectors: Collection[str]) -> None:
        """Raises CollectionError unless another program's collection can have these vectors beside its own.

        Args:
            name: the collection.
            vectors: the names of those that will be added.
        """
        params = self._call(lambda: self._client.get_collection(name)).config.params
        named = params.vectors if isinstance(params.vectors, dict) else {}
        if taken := {*named, *(params.sparse_vectors or {})} & {*vectors}:
            raise CollectionError(
                f"collection {name!r} has a vector {min(taken)!r} of its own, which attaching would add; it "
                "has to have another name"
            )
        if self._local and isinstance(params.vectors, models.VectorParams):
            raise CollectionError(
                f"collection {name!r} has an unnamed vector, which a client without a server takes no "
                "more when others are beside it; use a server, or let its program give the vector a name"
            )

    def forget(self, name: str, keys: Sequence[str]) -> None:
        """Take these payload keys away from every point."""
        self._on(name, lambda: self._client.delete_payload(name, list(keys), models.Filter(), wait=True))

    def drop_artifacts(self, name: str) -> None:
        """Delete what was kept with a collection; there may be nothing."""
        home = self._physical(name) + _ARTIFACTS
        self._call(lambda: self._client.delete_collection(home))

    def add_vector(self, name: str, vector: VectorSchema | str) -> None:
        if isinstance(vector, str):
            config: models.VectorNameConfig = models.SparseVectorNameConfig(
                sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF)
            )
            vector_name = vector
        else:
            config = models.DenseVectorNameConfig(
                dense=models.DenseVectorConfig(
                    size=vector.size,
                    distance=models.Distance.DOT,
                    datatype=models.VectorStorageDatatype(vector.datatype),
                    multivector_config=vector_params(vector).multivector_config,
                )
            )
            vector_name = vector.name
        name = self._physical(name)
        self._call(lambda: self._client.create_vector_name(name, vector_name, config))
        if isinstance(vector, VectorSchema) and vector.multivector:
            self._call(lambda: self._client.update_collection(name, vectors_config={vector_name: _FLAT}))

    def drop_vector(self, name: str, vector: str) -> None:
        name = self._physical(name)
        self._call(lambda: self._client.delete_vector_name(name, vector))

    def alter_vector(self, name: str, vector: VectorSchema) -> None:
        name = self._physical(name)
        quantization: Any = models.Disabled.DISABLED
        if vector.quantization is not None:
            quantization = QUANTIZATIONS[vector.quantization]
        diff = models.VectorParamsDiff(hnsw_config=hnsw(vector), quantization_config=quantization)
        self._call(lambda: self._client.update_collection(name, vectors_config={vector.name: diff}))

    def create_index(self, name: str, key: str, kind: PayloadKind) -> None:
        if not self.capabilities.indexes:
            return
        schema = models.PayloadSchemaType(kind)
        self._on(name, lambda: self._client.create_payload_index(name, key, schema, wait=True))

    def finish(self, name: str) -> None:
        """A server optimizes by itself."""

    def disk_bytes(self, name: str, log: bool = True) -> int | None:  # noqa: ARG002  (no API tells it)
        return None

    def close(self) -> None:
        if self._owned:
            self._client.close()

    def _there(self, name: str, patient: bool = True) -> bool:
        call = self._call if patient else self._once
        return bool(call(lambda: self._client.collection_exists(name)))

    def _check(self, name: str) -> None:
        if not self._there(name):
            aliases = self.aliases()
            known = ", ".join(sorted({*self.names(), *aliases} - {*aliases.values()})) or "none"
            raise CollectionNotFound(f"no collection {name!r} at {self._location}; there: {known}")

    def _on(self, name: str, call: Callable[[], T]) -> T:
        """Call the client; ask whether the collection is there only when it has failed."""
        try:
            return self._call(call)
        except StoreUnavailable:
            raise
        except StoreError:
            with suppress(StoreError):  # the server fails, of which the first failure says more
                if not self._there(name, patient=False):
                    self._check(name)
            raise

    def _call(self, call: Callable[[], T]) -> T:
        """Call the client, again while its failures may pass; its errors become ours."""
        return answered(lambda: self._in_turn(call), self._location, self._secrets, patient=self._patient)

    def _once(self, call: Callable[[], T]) -> T:
        """Call the client once; its errors become ours."""
        return answered(lambda: self._in_turn(call), self._location, self._secrets, patient=False)

    def _in_turn(self, call: Callable[[], T]) -> T:
        with self._turn:
            return call()
