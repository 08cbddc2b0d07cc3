"""What the frameworks' stores and retrievers share: a connector, given or opened; writing; awaiting."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar

from connector.api.async_connector import AsyncConnector
from connector.api.bulk_ingest import count_checked
from connector.api.connector import Connector
from connector.core.errors import InputError, PointsRefused
from connector.core.types import Document, Hit
from connector.encoders.chunking import Chunking

T = TypeVar("T")
Held: TypeAlias = Connector | AsyncConnector


def taken_or_opened(collection: str | Held, **arguments: Any) -> Held:
    """A connector that is given, or one to the collection of this name, which is made if it is missing.

    Args:
        collection: which.
        arguments: those of `Connector.open_or_create`, for a name alone; None counts as not given.

    Raises:
        InputError: the arguments do not go together, or the collection that is there has another recipe.
        EncoderMismatch: it was made by another model.
        StoreError: the folder is locked, or no server answers.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    if isinstance(collection, str):
        return Connector.open_or_create(collection, **given)
    if not isinstance(collection, Held):
        raise InputError(f"collection is {collection!r:.80}; give a collection's name, or a connector")
    if given:
        raise InputError(f"collection is {collection!r}, which is open; give it alone")
    return collection


def synchronous(held: Held) -> Connector:
    """The connector whose methods return what they find."""
    return held.connector if isinstance(held, AsyncConnector) else held


async def in_thread(held: object, call: Callable[[], T]) -> T:
    """Call in a thread: an AsyncConnector's, whose close waits for it, or else one of the event loop's."""
    return await (held.run(call) if isinstance(held, AsyncConnector) else asyncio.to_thread(call))


def awaited(method: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """A method to be awaited, which calls this one `in_thread`, of what the object has as `_held`, if any."""

    @functools.wraps(method)
    async def call(self: Any, *args: Any, **options: Any) -> T:
        blocking = getattr(self, method.__name__)  # a subclass may have another
        return await in_thread(getattr(self, "_held", None), functools.partial(blocking, *args, **options))

    return call


def check(documents: Sequence[Document]) -> None:
    """Raises DocumentError unless all of the documents can be taken, whole."""
    count_checked(documents, Chunking(), skip_bad=False)


def write(connector: Connector, documents: Sequence[Document]) -> None:
    """Write documents, all of which are checked before the first is written.

    Raises:
        DocumentError: a document cannot be taken; none was written.
        PointsRefused: Qdrant refuses some of them; the others are written.
    """
    check(documents)
    report = connector.ingest(documents)
    if report.refused:
        raise PointsRefused(report.refused)


def titled(found: Document | Hit) -> dict[str, Any]:
    """The metadata; a title, for which the frameworks have no place, is its "title", unless it has one."""
    return ({} if found.title is None else {"title": found.title}) | dict(found.metadata)
