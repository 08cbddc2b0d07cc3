"""An address becomes a store when something that speaks Qdrant has answered there."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, QdrantClient

from connector.core.errors import InputError, StoreError, StoreUnavailable
from connector.stores.server.credentials import Secrets, check_key, redacted
from connector.stores.server.store import ServerStore

logger = logging.getLogger(__name__)


CONNECT_SECONDS = 2
"""How long to wait for a server's connection, and as long again for its first answer."""


REQUEST_SECONDS = 60


def connect(
    url: str, api_key: str | None = None, loop: asyncio.AbstractEventLoop | None = None
) -> ServerStore:
    """The store at this address, after it has answered once.

    Args:
        url, api_key: the server.
        loop: where its requests are made, if worker threads of an asynchronous application call it.

    Raises:
        StoreUnavailable: nothing that speaks Qdrant answers within twice `CONNECT_SECONDS`.
        InputError: the address or the key cannot be used.
    """
    options: dict[str, Any] = {"url": url, "check_compatibility": False}
    if api_key:  # as a header: given as a key, the client raises a Python warning for each use of http
        options |= {"headers": {"api-key": check_key(api_key, "api_key")}, "https": True}
    location, secrets = redacted(url), Secrets.given(url, api_key)
    try:
        probe = QdrantClient(**options, timeout=CONNECT_SECONDS)
        client = _client(loop, **options, timeout=REQUEST_SECONDS)
    except ValueError as error:
        said = str(error)
        raise InputError(
            f"url {location!r} is not an address: {secrets.hide(said)}; give one such as http://localhost:6333"
        ) from (None if secrets.in_(said) else error)
    if api_key and _can_be_read_on_the_way(str(getattr(client._client, "rest_uri", ""))):
        logger.warning("the API key goes to %s unencrypted, for all on the way to read; use https", location)
    try:
        ServerStore(probe, url, patient=False).names()
    except StoreUnavailable:
        client.close()
        raise
    except StoreError as error:
        client.close()
        raise StoreUnavailable(f"what answers at {location} is no Qdrant server: {error}") from error
    finally:
        probe.close()
    return ServerStore(client, url, owned=True)


def _client(loop: asyncio.AbstractEventLoop | None, **options: Any) -> Any:
    return QdrantClient(**options) if loop is None else Awaited(AsyncQdrantClient(**options), loop)


def _can_be_read_on_the_way(url: str) -> bool:
    """Whether an address is one of plain http on another machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not here


class Awaited:
    """Runs each call of an asynchronous client on its event loop, and waits for it in the calling thread.

    Args:
        client: whose methods have the names and arguments of `QdrantClient`'s.
        loop: where it runs; calls come from other threads.
    """

    def __init__(self, client: AsyncQdrantClient, loop: asyncio.AbstractEventLoop) -> None:
        self._awaiting = client
        self._client = client._client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._awaiting, name)

        def call(*args: Any, **options: Any) -> Any:
            return self._wait(method, args, options)

        return call

    def _wait(self, method: Callable[..., Coroutine[Any, Any, Any]], args: Any, options: Any) -> Any:
        if self._loop.is_closed():
            raise InputError("the event loop of this connection is closed; open the collection again")
        if _running() is self._loop:
            raise InputError("the event loop would wait for itself; await the methods of AsyncConnector")
        return asyncio.run_coroutine_threadsafe(method(*args, **options), self._loop).result()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
