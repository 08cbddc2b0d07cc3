"""Where collections live: `EdgeStore` in this process, `ServerStore` on a server or cluster."""

from __future__ import annotations

import os

from qdrant_client import QdrantClient

from connector.errors import InputError
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
from connector.stores.connection import connect
from connector.stores.edge import EdgeStore
from connector.stores.secrets import api_key_from_environment
from connector.stores.server import ServerStore

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
    client: QdrantClient | None = None,
) -> Store:
    """The store at a folder, at an address, or behind a client: exactly one of the three.

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
    if client is not None:
        return ServerStore(client, "the given client")
    return connect(str(url), api_key)
