"""A Qdrant server or cluster, through qdrant-client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import Annotated, Any, Literal, ParamSpec, TypeAlias, TypeVar

from pydantic import Field
from qdrant_client import QdrantClient, models

from connector.core.deadline import seconds_left
from connector.core.errors import AccessDenied, CollectionExists, IndexMissing, StoreError, StoreUnavailable
from connector.stores.base import Capabilities, Lease, Store, missing
from connector.stores.filters import Where
from connector.stores.points import (
    Answer,
    Keys,
    Point,
    Query,
    Record,
    Refusal,
    amend_there,
    batches,
    paged,
    wanted_payload,
    write_in_order,
)
from connector.stores.schema import CollectionSchema, PayloadKind, VectorSchema
from connector.stores.server import convert
from connector.stores.server.cluster import ailing
from connector.stores.server.leases import hold
from connector.stores.server.retry import Requests
from connector.stores.server.shared import ARTIFACTS, LOCKS, Artifacts, is_shared, make
from connector.stores.server.versions import supported

P = ParamSpec("P")


T = TypeVar("T")


WriteOrdering: TypeAlias = Literal["weak", "medium", "strong"]
"""What puts writes in one order: nothing, a leader that may change, or one that must be there."""


ReadConsistency: TypeAlias = Literal["majority", "quorum", "all"] | Annotated[int, Field(ge=1)]
"""How many copies of a shard are read: what some of them answer counts, or only what all of them do."""


MAX_REQUEST_BYTES = 16 * 2**20
"""Batches are cut here; a server refuses requests over 32 MiB."""


_PAGE = 256


_FLAT = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=0), on_disk=True)
"""Of token vectors: Qdrant scores candidates by them, and makes no graph of them."""


_TURBO_SINCE = (1, 19)
"""Earlier servers know the names of the types, and answer 500 when a collection is made with one."""


class ServerStore(Store):
    """Collections on a server.

    Artifacts and locks stand in collections of their own (`connector.stores.server.shared`). Every request is
    made again while its failures may pass, so each one is such that a second time changes nothing.

    Args:
        client: any `QdrantClient`; `QdrantClient(":memory:")` does for tests.
        location: its address, for messages, which leave a password in it out.
        owned: whether `close` closes the client too.
        write_ordering, read_consistency: of points, as `open_store` has them.
    """

    shared = (ARTIFACTS, LOCKS)

    _prefix = ""
    """Before the names of vectors."""

    def __init__(
        self,
        client: QdrantClient,
        location: str,
        owned: bool = False,
        write_ordering: WriteOrdering | None = None,
        read_consistency: ReadConsistency | None = None,
    ) -> None:
        self._client, self._owned = client, owned
        self._written: dict[str, Any] = {
            "wait": True,
            "ordering": write_ordering and models.WriteOrdering(write_ordering),
        }
        named = isinstance(read_consistency, str)
        copies = models.ReadConsistencyType(read_consistency) if named else read_consistency
        self._read: dict[str, Any] = {"consistency": copies}
        self._call = Requests(client, location)
        self._artifacts = Artifacts(self._call)

    @cached_property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        """What the server can do, by its version, which it is asked once."""
        there = self._call.indexes
        return Capabilities(
            aliases=True,
            quantizes=there,
            alters=True,
            indexes=there,
            copies=there,
            turbo=supported(self._call) >= _TURBO_SINCE,
        )

    @property
    def location(self) -> str:
        return self._call.location

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    # Collections

    def names(self) -> list[str]:
        found = self._call(self._client.get_collections).collections
        return sorted(it.name for it in found if not is_shared(it.name))

    def aliases(self) -> dict[str, str]:
        found = self._call(self._client.get_aliases).aliases
        return {it.alias_name: it.collection_name for it in found}

    def switch(self, alias: str, name: str | None) -> None:
        operations: list[models.AliasOperations] = []
        if alias in self.aliases():
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        elif self._there(alias):
            raise CollectionExists(f"{alias!r} is a collection at {self.location}, and can be no alias")
        if name is not None:
            made = models.CreateAlias(collection_name=self._physical(name), alias_name=alias)
            operations.append(models.CreateAliasOperation(create_alias=made))
        if operations:
            self._call(self._client.update_collection_aliases, operations)

    def lease(self, key: str) -> AbstractContextManager[Lease]:
        make(self._call, LOCKS, ["token", "mark"])
        return hold(self._call, LOCKS, key)

    def _physical(self, name: str) -> str:
        """The collection that a name leads to; descriptions and artifacts are written under it."""
        name = self.aliases().get(name, name)
        self._check(name)
        return name

    def create(self, name: str, schema: CollectionSchema, info: Mapping[str, str]) -> None:
        exists = CollectionExists(f"collection {name!r} exists at {self.location}; open it or drop it")
        if self._there(name):
            raise exists
        kept = dict(schema.distribution)
        on_disk = kept.pop("on_disk")
        try:  # creation is what one of two creators wins
            self._call(
                self._client.create_collection,
                name,
                vectors_config={it.name: convert.vector_params(it, on_disk) for it in schema.vectors},
                sparse_vectors_config=dict.fromkeys(schema.sparse, convert.sparse_params(schema)) or None,
                metadata=dict(info),
                **kept,
            )
        except StoreUnavailable:
            raise
        except StoreError as error:
            if not self._there(name):
                raise
            if "uid" not in info or self.info(name).get("uid") != info["uid"]:
                raise exists from error
            # else the answer to an earlier attempt was lost
        self._artifacts.drop(name)  # of a drop that was killed
        try:
            for key, kind in {**schema.filtered, **schema.indexes}.items():
                self.create_index(name, key, kind)
        except StoreError:
            with suppress(StoreError):  # the first failure is the one to tell
                self.drop(name)
            raise

    def drop(self, name: str) -> None:
        name = self._physical(name)
        self._artifacts.drop(name)
        self._call(self._client.delete_collection, name)

    def info(self, name: str) -> dict[str, str]:
        return dict(self._on(self._client.get_collection, name).config.metadata or {})

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        self._call(self._client.update_collection, self._physical(name), metadata=dict(info))

    def put_artifact(self, name: str, key: str, data: bytes) -> None:
        self._artifacts.put(self._physical(name), key, data, models.UpdateMode.UPSERT)

    def claim_artifact(self, name: str, key: str, data: bytes) -> bytes:
        name = self._physical(name)
        self._artifacts.put(name, key, data, models.UpdateMode.INSERT_ONLY)
        return self._artifacts.get(name, key)

    def get_artifact(self, name: str, key: str) -> bytes:
        return self._artifacts.get(self._physical(name), key)

    def drop_artifact(self, name: str, key: str) -> None:
        self._artifacts.drop(self._physical(name), key)

    # Points

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        def write(batch: list[Point]) -> None:
            self._on(
                self._client.upsert, name, [convert.point_struct(point) for point in batch], **self._written
            )

        write_in_order(points, MAX_REQUEST_BYTES, write)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        if ids:  # none are refused by the engine
            self._on(self._client.delete, name, models.PointIdsList(points=list(ids)), **self._written)

    def amend(self, name: str, points: Sequence[Point]) -> None:
        def write(some: list[Point]) -> None:
            for batch in batches(some, MAX_REQUEST_BYTES):
                operations = convert.amendments(batch, self._prefix)
                self._on(self._client.batch_update_points, name, operations, **self._written)

        amend_there(points, lambda ids: self.retrieve(name, ids, []), write)

    def retrieve(
        self, name: str, ids: Sequence[str], payload: Keys, vectors: Sequence[str] = ()
    ) -> dict[str, Record]:
        found = self._on(
            self._client.retrieve, name, [convert.native(it) for it in ids], **self._wanted(payload, vectors)
        )
        return {str(point.id): Record.of(point) for point in found}

    def search_many(
        self,
        name: str,
        searches: Sequence[Sequence[Query]],
        *,
        payload: Keys,
        vectors: Sequence[str] = (),
        filter: Where = None,
    ) -> list[Answer]:
        requests = [
            self._query(query, [] if number else payload, () if number else vectors, filter)
            for queries in searches
            for number, query in enumerate(queries)
        ]
        answers = iter(self._on(self._client.query_batch_points, name, requests, **self._read))
        return [_answer([next(answers).points for _ in queries]) for queries in searches]

    def _query(
        self, query: Query, payload: Keys, vectors: Sequence[str], filter: Where
    ) -> models.QueryRequest:
        return models.QueryRequest(
            **convert.asked(query, filter, prefix=self._prefix),
            params=query.search_params(models) if self.capabilities.quantizes else None,
            with_payload=wanted_payload(payload),
            with_vector=[self._prefix + it for it in vectors] or False,
        )

    def scroll(
        self, name: str, payload: Keys, vectors: Sequence[str] = (), filter: Where = None
    ) -> Iterator[Record]:
        wanted = {"scroll_filter": filter, "limit": _PAGE, **self._wanted(payload, vectors)}
        return paged(lambda offset: self._on(self._client.scroll, name, offset=offset, **wanted))

    def count(self, name: str, filter: Where = None) -> int:
        return int(self._on(self._client.count, name, count_filter=filter, exact=True).count)

    def add_vector(self, name: str, vector: VectorSchema | str) -> None:
        name, key = self._physical(name), self._prefix + (vector if isinstance(vector, str) else vector.name)
        self._call(self._client.create_vector_name, name, key, convert.added_vector(vector))
        if isinstance(vector, VectorSchema) and vector.multivector:
            self._call(self._client.update_collection, name, vectors_config={key: _FLAT})

    def drop_vector(self, name: str, vector: str) -> None:
        self._call(self._client.delete_vector_name, self._physical(name), self._prefix + vector)

    def alter_vector(self, name: str, vector: VectorSchema) -> None:
        diff = models.VectorParamsDiff(
            hnsw_config=convert.hnsw(vector),
            quantization_config=convert.quantization(vector) or models.Disabled.DISABLED,
        )
        key = self._prefix + vector.name
        self._call(self._client.update_collection, self._physical(name), vectors_config={key: diff})

    def create_index(self, name: str, key: str, kind: PayloadKind) -> None:
        if self.capabilities.indexes:
            self._on(self._client.create_payload_index, name, key, convert.index_params(kind), wait=True)

    def refused(self, name: str, keys: Iterable[str]) -> list[str]:
        there = self._on(self._client.get_collection, name)
        strict = there.config.strict_mode_config
        return [] if strict is None or not strict.enabled else sorted({*keys} - {*there.payload_schema})

    def drop_index(self, name: str, key: str) -> None:
        if self.capabilities.indexes:
            self._on(self._client.delete_payload_index, name, key, wait=True)

    def finish(self, name: str) -> None:
        """A server optimizes by itself."""

    def disk_bytes(self, name: str, log: bool = True) -> int | None:  # noqa: ARG002  (no API tells it)
        return None

    def close(self) -> None:
        if self._owned:
            self._client.close()

    def _there(self, name: str) -> bool:
        return bool(self._call(self._client.collection_exists, name))

    def _check(self, name: str) -> None:
        if not self._there(name):
            raise missing(name, self.location, self.names(), self.aliases())

    def _on(self, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Call the client; only when it fails, ask whether the collection, the first argument, is there.

        Who waits for a search is told which nodes do not answer.
        """
        name = str(args[0])
        try:
            return self._call(method, *args, **options)
        except StoreError as error:
            waited = seconds_left() is not None and not isinstance(
                error, Refusal | IndexMissing | AccessDenied
            )
            if waited and (why := ailing(self._call, name)):
                raise type(error)(f"{error}; {why}") from error
            if isinstance(error, StoreUnavailable):
                raise
            with suppress(StoreError):  # the server fails, of which the first failure says more
                if not self._call.once(self._client.collection_exists, name):
                    self._check(name)
            raise

    def _wanted(self, payload: Keys, vectors: Sequence[str]) -> dict[str, Any]:
        """The parts of points that are asked for, and from how many copies."""
        named = [self._prefix + it for it in vectors]
        wanted = {"with_payload": wanted_payload(payload), "with_vectors": named or False}
        return wanted | self._read


def _answer(found: list[list[Any]]) -> Answer:
    """What a search's queries have found: the points of the first one, and the scores of the others."""
    first, *others = found
    return [Record.of(it) for it in first], [{it.id: it.score for it in points} for points in others]
