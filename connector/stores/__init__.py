"""Where collections live: `EdgeStore` in this process, `ServerStore` on a server or cluster."""

from __future__ import annotations

import os
from typing import Annotated, TypeAlias

from pydantic import SkipValidation
from qdrant_client import AsyncQdrantClient, QdrantClient

from connector.core.errors import InputError
from connector.stores.base import Capabilities, Lease, Store
from connector.stores.edge.store import EdgeStore
from connector.stores.points import Fused, Nearest, Point, Query, Record
from connector.stores.schema import PayloadKind
from connector.stores.server.connection import connect
from connector.stores.server.credentials import api_key_from_environment
from connector.stores.server.store import ServerStore

__all__ = [
    "Capabilities",
    "Client",
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


Client: TypeAlias = Annotated[QdrantClient | Store, SkipValidation]
"""A client, or what does as one, such as a wrapper that counts its calls; or a store."""


def open_store(
    *,
    path: str | os.PathLike[str] | None = None,
    url: str | None = None,
    api_key: str | None = None,
    client: Client | None = None,
) -> Store:
    """The store at a folder, at an address, or behind a client: exactly one of the three.

    Args:
        path, url, api_key: where.
        client: instead, a client; or a store that is open, which is given back.

    Raises:
        InputError: none or several places are given, or the client is an asynchronous one.
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
    if isinstance(client, Store):
        return client
    if isinstance(client, AsyncQdrantClient):
        raise InputError(
            "client is an AsyncQdrantClient; give a QdrantClient, or the url: AsyncConnector waits for "
            "answers in threads of its own, and stops no event loop"
        )
    return connect(str(url), api_key) if client is None else ServerStore(client, "the given client")
