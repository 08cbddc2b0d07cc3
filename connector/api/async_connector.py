"""The façade for applications that await: the methods of `Connector`, none of which stops the event loop.

Work is done by worker threads: a model encodes there, tokens are scored, Qdrant Edge searches, and a
server is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, cast

from connector.api.connector import Connector
from connector.api.searcher import BatchSize
from connector.collection.recipe import Recipe
from connector.collection.search.options import SearchKeywords
from connector.core.errors import InputError
from connector.core.forks import Opened
from connector.core.types import Hits
from connector.encoders import Encoder

P = ParamSpec("P")


T = TypeVar("T")


def _awaited(
    method: Callable[Concatenate[Connector, P], T],
) -> Callable[Concatenate[AsyncConnector, P], Awaitable[T]]:
    async def call(self: AsyncConnector, *args: P.args, **options: P.kwargs) -> T:
        with _until_left(method, options) as named:
            return await self.run(lambda: method(self.connector, *args, **named))

    wrapped: Any = functools.wraps(method)(call)
    return cast("Callable[Concatenate[AsyncConnector, P], Awaitable[T]]", wrapped)


def _making(method: Callable[P, Connector]) -> classmethod[AsyncConnector, P, Awaitable[AsyncConnector]]:
    async def call(cls: type[AsyncConnector], *args: P.args, **options: P.kwargs) -> AsyncConnector:
        threads = ThreadPoolExecutor(thread_name_prefix="connector")
        with _until_left(method, options) as named:
            making = _in_thread(threads, lambda: method(*args, **named))
            try:
                return cls(await asyncio.shield(making), threads)
            except BaseException:
                making.add_done_callback(_close_unused)
                threads.shutdown(wait=False)
                raise

    bound: Any = method
    wrapped: Any = functools.wraps(bound.__func__)(call)
    return classmethod(wrapped)


class AsyncConnector:
    """Late-interaction search over one collection; make one with `await AsyncConnector.create` or `open`.

    Its methods are those of `Connector`, with the same arguments, errors and results, to be awaited; a client
    of your own is a `QdrantClient`, too. What is cancelled while it waits ends where it would report progress
    next, as an ingest does after each batch; what reports none is done to its end by the thread that has
    begun it. `async with` closes it at the end.

    Attributes:
        connector: what does the work.
    """

    def __init__(self, connector: Connector, threads: ThreadPoolExecutor) -> None:
        self.connector = connector
        self._threads = threads
        self._closed = False
        self._opened = Opened(f"collection {connector.name!r}")

    create = _making(Connector.create)
    open = _making(Connector.open)
    open_or_create = _making(Connector.open_or_create)
    restore = _making(Connector.restore)
    attach = _making(Connector.attach)

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.connector.name

    adapt = _awaited(Connector.adapt)
    adapt_to_queries = _awaited(Connector.adapt_to_queries)
    count = _awaited(Connector.count)
    create_index = _awaited(Connector.create_index)
    delete = _awaited(Connector.delete)
    detach = _awaited(Connector.detach)
    drop = _awaited(Connector.drop)
    drop_index = _awaited(Connector.drop_index)
    explain = _awaited(Connector.explain)
    export = _awaited(Connector.export)
    get = _awaited(Connector.get)
    ingest = _awaited(Connector.ingest)
    matching_ids = _awaited(Connector.matching_ids)
    recount = _awaited(Connector.recount)
    refresh = _awaited(Connector.refresh)
    search = _awaited(Connector.search)
    similarities = _awaited(Connector.similarities)
    stats = _awaited(Connector.stats)

    def search_batch(
        self,
        queries: Iterable[str],
        k: int = 10,
        *,
        batch_size: BatchSize = 64,
        **options: Unpack[SearchKeywords],
    ) -> AsyncIterator[Hits]:
        """The hits of many queries, as `Connector.search_batch` has them, for `async for`."""
        return _Coming(self, self.connector.search_batch(queries, k, batch_size=batch_size, **options))

    async def encoder(self) -> Encoder:
        """The collection's encoder, loaded when first asked for."""
        return await self.run(lambda: self.connector.encoder)

    async def indexes(self) -> dict[str, str]:
        """The metadata keys that are indexed, and the kinds of their values."""
        return await self.run(lambda: self.connector.indexes)

    async def recipe(self) -> Recipe:
        """The recipe of the collection."""
        return await self.run(lambda: self.connector.recipe)

    async def close(self) -> None:
        """Release the folder or connection, when all that has begun is done. Calling it twice is harmless."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self.connector.close)

    async def __aenter__(self) -> AsyncConnector:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncConnector({self.name!r})"

    async def run(self, call: Callable[[], T]) -> T:
        """What a function gives that may use `connector`; one of this object's threads calls it."""
        if self._closed:
            raise InputError(f"this connector of {self.name!r} is closed; open it again")
        self._opened.check()  # here, as its threads are not there after a fork
        return await _in_thread(self._threads, call)


class _Coming(AsyncIterator[Hits]):
    """Hits that come; who stops waiting for one, as after a time-out, gets it when it waits again."""

    def __init__(self, connector: AsyncConnector, found: Iterator[Hits]) -> None:
        self._connector, self._found = connector, found
        self._next: asyncio.Future[Hits | None] | None = None

    async def __anext__(self) -> Hits:
        if self._next is None:
            self._next = asyncio.ensure_future(self._connector.run(lambda: next(self._found, None)))
        coming = self._next
        try:
            hits = await asyncio.shield(coming)
        finally:
            if coming.done():
                self._next = None
        if hits is None:
            raise StopAsyncIteration
        return hits


@contextlib.contextmanager
def _until_left(method: Callable[..., Any], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The options of a call of a method that goes on, if it reports progress, while this is not left."""
    left, given = threading.Event(), options.get("progress")

    def progress(*done: Any) -> None:
        if left.is_set():
            raise asyncio.CancelledError
        if given is not None:
            given(*done)

    reports = "progress" in inspect.signature(method).parameters and (given is None or callable(given))
    try:
        yield {**options, "progress": progress} if reports else options
    finally:
        left.set()


def _in_thread(threads: ThreadPoolExecutor, call: Callable[[], T]) -> asyncio.Future[T]:
    context = contextvars.copy_context()
    return asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(call))


def _close_unused(making: asyncio.Future[Connector]) -> None:
    """Close what was made for a caller that did not wait for it."""
    if not making.cancelled() and making.exception() is None:
        threading.Thread(target=making.result().close).start()
