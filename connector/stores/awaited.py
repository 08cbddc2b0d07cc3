"""An `AsyncQdrantClient` in the place of a `QdrantClient`: threads call it, the event loop does it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from qdrant_client import AsyncQdrantClient

from connector.core.errors import InputError


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
