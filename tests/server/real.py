"""The servers that `QDRANT_URL` and `QDRANT_URLS` name; without them, what needs one is skipped."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from qdrant_client import QdrantClient

SERVER = pytest.param("server", marks=pytest.mark.server)
"""Of a fixture's parameters, the one that stands for a real server."""


def nodes() -> list[str]:
    """The addresses of all nodes of one cluster, in `QDRANT_URLS`, with commas between."""
    urls = [url.strip() for url in os.environ.get("QDRANT_URLS", "").split(",") if url.strip()]
    if len(urls) < 2:
        pytest.skip("QDRANT_URLS names no nodes; see tests/server/README.md")
    return urls


@contextmanager
def server(name: str) -> Iterator[dict[str, Any]]:
    """The place of the server; at the end, collections whose names begin so are dropped there."""
    url = os.environ.get("QDRANT_URL") or os.environ.get("QDRANT_URLS", "").partition(",")[0]
    if not url:
        pytest.skip("QDRANT_URL is not set; set it to test against a server, see tests/server/README.md")
    place = {"url": url, "api_key": os.environ.get("QDRANT_API_KEY")}
    yield place
    clean(url, name)


def client(url: str) -> QdrantClient:
    """Of that server, with the key that all of them have."""
    key = os.environ.get("QDRANT_API_KEY")
    headers = {"api-key": key} if key else {}  # given as a key, the client warns of http
    return QdrantClient(url, headers=headers, timeout=60, check_compatibility=False)


def clean(url: str, name: str) -> None:
    """Drop what a test leaves, as a managed cluster takes no more than 1,000 collections."""
    there = client(url)
    for collection in there.get_collections().collections:
        if collection.name.startswith(name):
            there.delete_collection(collection.name)
    there.close()


def grpc_port(url: str) -> int:
    """Where the server is asked over gRPC: the next port, as with Qdrant's own two."""
    parts = urlsplit(url)
    port = (parts.port or 6333) + 1
    try:
        socket.create_connection((parts.hostname, port), timeout=2).close()
    except OSError as error:
        pytest.skip(f"nothing takes gRPC at {parts.hostname}:{port}: {error}")
    return port
