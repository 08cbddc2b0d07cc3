"""Where collections live: `EdgeStore` in this process, `ServerStore` on a server or cluster."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any, TypeAlias, TypedDict

from pydantic import Field, SkipValidation
from qdrant_client import AsyncQdrantClient, QdrantClient

from connector.core.arguments import checked
from connector.core.errors import InputError
from connector.stores.base import Capabilities, Lease, Store
from connector.stores.edge.store import EdgeStore
from connector.stores.points import Fused, Nearest, Point, Query, Record
from connector.stores.schema import Copies, PayloadKind
from connector.stores.server.connection import connect
from connector.stores.server.credentials import api_key_from_environment
from connector.stores.server.store import ReadConsistency, ServerStore, WriteOrdering

logger = logging.getLogger(__name__)

__all__ = [
    "Capabilities",
    "Client",
    "EdgeStore",
    "Fused",
    "Lease",
    "Nearest",
    "NewCollectionKeywords",
    "PayloadKind",
    "Point",
    "Query",
    "Record",
    "ServerKeywords",
    "ServerStore",
    "Store",
    "api_key_from_environment",
    "open_store",
]


Client: TypeAlias = Annotated[QdrantClient | Store, SkipValidation]
"""A client, or what does as one, such as a wrapper that counts its calls; or a store."""


class ServerKeywords(TypedDict, total=False):
    """What opens a collection takes by name for a server; `open_store` says what each is."""

    prefer_grpc: bool
    grpc_port: int
    write_ordering: WriteOrdering | None
    read_consistency: ReadConsistency | None


class NewCollectionKeywords(ServerKeywords, total=False):
    """What makes a collection takes by name, too; `Connector.create` says what each is."""

    shard_number: Copies | None
    replication_factor: Copies | None
    write_consistency_factor: Copies | None
    on_disk: bool | None
    on_disk_payload: bool | None


@checked
def open_store(
    *,
    path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    api_key: str | None = None,
    client: Client | None = None,
    prefer_grpc: bool = False,
    grpc_port: Annotated[int, Field(ge=1, le=65_535)] = 6334,
    write_ordering: WriteOrdering | None = None,
    read_consistency: ReadConsistency | None = None,
) -> Store:
    """The store at a folder, at an address, or behind a client: exactly one of the three.

    Args:
        path, url, api_key: where.
        client: instead, a client; or a store that is open, which is given back.
        prefer_grpc, grpc_port: whether a server is asked over gRPC, not REST, and where; a client of your own
            decides that by itself.
        write_ordering: on a cluster, of writes to points: "weak" (Qdrant's own choice), "medium" or "strong".
        read_consistency: on a cluster, how many copies of a shard are read and compared: a number,
            "majority", "quorum" or "all"; by default one.

    Raises:
        InputError: none or several places are given, or the client is an asynchronous one.
        StoreLocked: another process has the folder open.
        StoreUnavailable: no server answers.
    """
    given = [name for name, value in (("path", path), ("url", url), ("client", client)) if value is not None]
    if len(given) != 1:
        raise InputError(f"give one of path, url and client, got {' and '.join(given) or 'none'}")
    consistency: Any = {"write_ordering": write_ordering, "read_consistency": read_consistency}
    in_vain = {} if url is not None else {"prefer_grpc": prefer_grpc}
    if path is not None or isinstance(client, Store):
        in_vain |= consistency
    if names := ", ".join(name for name, value in in_vain.items() if value):
        logger.warning("with %s, %s has no effect; give the url of a server", given[0], names)
    if path is not None:
        if not str(path):
            raise InputError("path is empty; give a folder, such as ./qdrant")
        return EdgeStore(path)
    if isinstance(client, Store):
        return client
    if isinstance(client, AsyncQdrantClient):
        raise InputError(
            "client is an AsyncQdrantClient; give a QdrantClient, or the url: AsyncConnector waits for "
            "answers in threads of its own, and stops no event loop"
        )
    if client is not None:
        return ServerStore(client, "the given client", **consistency)
    return connect(str(url), api_key, prefer_grpc=prefer_grpc, grpc_port=grpc_port, **consistency)
