"""The connector that a store or a retriever holds, of either kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from langchain_core.runnables.config import run_in_executor

from connector.api.async_connector import AsyncConnector
from connector.api.connector import Connector

T = TypeVar("T")

Held: TypeAlias = Connector | AsyncConnector


def synchronous(held: Held) -> Connector:
    """The connector whose methods return what they find."""
    return held.connector if isinstance(held, AsyncConnector) else held


async def in_thread(held: object, call: Callable[[], T]) -> T:
    """Call in a thread: an AsyncConnector's, whose close waits for it, or else one of LangChain's."""
    if isinstance(held, AsyncConnector):
        return await held.run(call)
    return await run_in_executor(None, call)
