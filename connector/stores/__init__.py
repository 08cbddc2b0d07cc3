"""Where collections live: `EdgeStore` in this process, `ServerStore` on a server or cluster."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

from qdrant_client import AsyncQdrantClient, QdrantClient

from connector.core.errors import InputError
from connector.stores.base import (
    Capabilities,
    Fused,
    Lease,
    Nearest,
    PayloadKind,
    Point,
    Query,
    Record,
    Store,
)
from connector.stores.edge.store import EdgeStore
from connector.stores.external import AttachedStore
from connector.stores.server.connection import Awaited, connect
from connector.stores.server.credentials import api_key_from_environment
from connector.stores.server.store import ServerStore

__all__ = [
    "Capabilities",
    "EdgeStore",
    "Fused",
    "Lease",
    "Nearest",
    "PayloadKind",
    "Point",
    "Query",
    "Record",
    "ServerStore",
    "Store",
    "api_key_from_environment",
    "open_store",
]


def open_store(
    *,
    path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    api_key: str | None = None,
    client: QdrantClient | AsyncQdrantClient | Store | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Store:
    """The store at a folder, at an address, or behind a client: exactly one of the three.

    Args:
        path, url, api_key: where.
        client: instead, a client; or a store that is open, which is given back.
        loop: of an asynchronous application, whose worker threads use the store: requests are made there.

    Raises:
        InputError: none or several places are given.
        StoreLocked: another process has the folder open.
        StoreUnavailable: no server answers.
    """
    given = [name for name, value in (("path", path), ("url", url), ("client", client)) if value is not None]
    if len(given) != 1:
        raise InputError(f"give one of path, url and client, got {' and '.join(given) or 'none'}")
    if path is not None:
        if not str(path):
            raise InputError("path is empty; give a folder, such as ./qdrant")
        return EdgeStore(path)
    if isinstance(client, EdgeStore | ServerStore | AttachedStore):
        return cast(Store, client)
    if client is not None:
        return ServerStore(_usable(client, loop), "the given client")
    return connect(str(url), api_key, loop)


def _usable(client: Any, loop: asyncio.AbstractEventLoop | None) -> Any:
    if not isinstance(client, AsyncQdrantClient):
        return client
    if loop is None:
        raise InputError("client is an AsyncQdrantClient; give it to AsyncConnector, or give a QdrantClient")
    return Awaited(client, loop)
