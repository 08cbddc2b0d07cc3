"""The one interface to Qdrant, whichever engine runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from connector.core.errors import CollectionNotFound
from connector.stores.filters import Where
from connector.stores.points import Answer, Keys, Point, Query, Record
from connector.stores.schema import CollectionSchema, PayloadKind, VectorSchema


def missing(name: str, location: str, names: Iterable[str], aliases: Mapping[str, str]) -> CollectionNotFound:
    """The error for a collection that is not at a location, which names those that are."""
    there = ", ".join(sorted({*names, *aliases} - {*aliases.values()})) or "none"
    return CollectionNotFound(f"no collection {name!r} at {location}; there: {there}")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do that another one cannot.

    Args:
        aliases: it has aliases of its own; else this library keeps the names in a file.
        quantizes: it keeps quantized copies of vectors; else a recipe's quantization has no effect.
        alters: it adds and drops vectors of a collection that is there, and changes their quantization and
            graphs, so that being killed in the meantime does no harm; else the collection is copied.
        indexes: it keeps indexes of payload values.
        copies: it keeps several copies of a collection on several machines.
        turbo: it stores vectors of Qdrant's turbo types, as servers do from 1.19 on; else float16 is stored.
    """

    aliases: bool
    quantizes: bool
    alters: bool
    indexes: bool
    copies: bool
    turbo: bool


class Lease(Protocol):
    """What the holder of a key has."""

    def check(self) -> None:
        """Raises StoreLocked if the lease ran out and another one has taken the key."""


@runtime_checkable
class Store(Protocol):
    """Collections in one place: a folder, a server or a cluster.

    A collection may have aliases, names that lead to it; every method takes either. Every method that takes
    a collection's name raises `CollectionNotFound` when there is none, and `StoreError` when the engine
    refuses. Writes are durable against the end of the process when the call returns.
    """

    capabilities: Capabilities

    shared: tuple[str, ...] = ()
    """Collections for all of its collections, which no user has made: the last one is only for writing."""

    @property
    def location(self) -> str:
        """The folder or address, for messages."""

    def names(self) -> list[str]:
        """The names of the collections, sorted; aliases are not among them."""

    def aliases(self) -> dict[str, str]:
        """Each alias and the collection that it leads to."""

    def switch(self, alias: str, name: str | None) -> None:
        """Let an alias lead to a collection from now on, at once for all who ask; None removes the alias."""

    def lease(self, key: str) -> AbstractContextManager[Lease]:
        """Hold a key that one holder at a time can hold, here or in another process.

        Raises:
            StoreLocked: another one holds it.
        """

    def create(self, name: str, schema: CollectionSchema, info: Mapping[str, str]) -> None:
        """Make an empty collection, or nothing at all.

        Raises:
            CollectionExists: the name is taken.
        """

    def drop(self, name: str) -> None:
        """Delete a collection with its artifacts and aliases."""

    def info(self, name: str) -> dict[str, str]:
        """The metadata of the collection: flat keys."""

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        """Set these keys and leave the others."""

    def put_artifact(self, name: str, key: str, data: bytes) -> None:
        """Keep bytes with the collection under a key, replacing what was there."""

    def claim_artifact(self, name: str, key: str, data: bytes) -> bytes:
        """Keep bytes unless some are there under the key; gives those that are. One of many callers wins."""

    def get_artifact(self, name: str, key: str) -> bytes:
        """The bytes that `put_artifact` kept; `StoreError` when there are none."""

    def drop_artifact(self, name: str, key: str) -> None:
        """Delete the bytes under a key; a missing one does no harm."""

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        """Insert or replace points, in order.

        When a later point is there, so are the earlier ones that are not refused.

        Raises:
            PointsRefused: the engine refuses some points for good; the others are written.
            StoreError: it refuses every one of several points.
        """

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Delete points; ids that are not there do no harm."""

    def amend(self, name: str, points: Sequence[Point]) -> None:
        """Set these vectors and payload keys of points that are there, and leave their others; points that
        are not there are passed over. Of one point, the payload is set after the vectors."""

    def retrieve(
        self, name: str, ids: Sequence[str], payload: Keys, vectors: Sequence[str] = ()
    ) -> dict[str, Record]:
        """The points that are there, by id, with these payload keys and vectors."""

    def search(
        self, name: str, query: Query, *, payload: Keys, vectors: Sequence[str] = (), filter: Where = None
    ) -> list[Record]:
        """The nearest points, best first, with these payload keys and vectors.

        The filter applies to every stage of the query.
        """
        found, _ = self.search_together(name, [query], payload=payload, vectors=vectors, filter=filter)
        return found

    def search_together(
        self,
        name: str,
        queries: Sequence[Query],
        *,
        payload: Keys,
        vectors: Sequence[str] = (),
        filter: Where = None,
    ) -> Answer:
        """What several queries with one filter find, in one request."""
        (answer,) = self.search_many(name, [queries], payload=payload, vectors=vectors, filter=filter)
        return answer

    def search_many(
        self,
        name: str,
        searches: Sequence[Sequence[Query]],
        *,
        payload: Keys,
        vectors: Sequence[str] = (),
        filter: Where = None,
    ) -> list[Answer]:
        """What the queries of several searches find, in one request, or side by side.

        Returns:
            Of each search the points of its first query, best first, with these payload keys and vectors; and
            of each other query the scores by the points' keys.
        """

    def scroll(
        self, name: str, payload: Keys, vectors: Sequence[str] = (), filter: Where = None
    ) -> Iterator[Record]:
        """All points that match, ordered by id, with these payload keys and vectors."""

    def count(self, name: str, filter: Where = None) -> int:
        """How many points match, exactly."""

    def add_vector(self, name: str, vector: VectorSchema | str) -> None:
        """A new named vector that no point has yet, where the engine `alters`; a text names a sparse one."""

    def drop_vector(self, name: str, vector: str) -> None:
        """Delete a named vector of all points, where the engine `alters`; a missing one does no harm."""

    def alter_vector(self, name: str, vector: VectorSchema) -> None:
        """Change quantization and HNSW graph of a vector, where the engine `alters`."""

    def create_index(self, name: str, key: str, kind: PayloadKind) -> None:
        """Index the values of a payload key, for filters; one that is there stays."""

    def drop_index(self, name: str, key: str) -> None:
        """Drop the index of a payload key; a missing one does no harm."""

    def refused(self, name: str, keys: Iterable[str]) -> list[str]:  # noqa: ARG002
        """Those of the payload keys by which a filter is refused, as they have no index."""
        return []

    def indexed_by_others(self, name: str, keys: Iterable[str]) -> list[str]:  # noqa: ARG002
        """Those of the payload keys that another program, whose collection it is, has indexed."""
        return []

    def finish(self, name: str) -> None:
        """Called after many writes: build indexes and cut logs, where the engine does not by itself."""

    def disk_bytes(self, name: str, log: bool = True) -> int | None:
        """What the collection takes on disk, or None where that cannot be seen.

        Args:
            name: the collection.
            log: whether to count the write-ahead log, which does not grow with the collection.
        """

    def close(self) -> None:
        """Release the folder or connection. Calling it twice is harmless."""
