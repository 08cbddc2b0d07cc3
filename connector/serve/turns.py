"""Work in threads, so much at a time, so that the event loop goes on and the processor is not fought over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import HTTPException

T = TypeVar("T")


class Turns:
    """So many threads, and so many calls at most that wait for one; first come, first served.

    Args:
        threads: that work.
        waiting: calls that may wait.
        name: of the threads.
    """

    def __init__(self, threads: int, waiting: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name, initializer=_compute_alone)
        self._free = asyncio.Semaphore(2 * threads)  # the next ones lie ready: no thread waits for the loop
        self._most = threads + waiting
        self._inside = 0

    async def __call__(self, call: Callable[[], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """What the call gives.

        Args:
            call: is made in a thread.
            gone: whether nobody waits for the answer any more; then the call is not made.

        Raises:
            HTTPException: 503, as too many wait.
        """
        if self._inside >= self._most:
            raise HTTPException(
                503, f"{self._inside} requests are waiting; come again later", {"Retry-After": "1"}
            )
        self._inside += 1
        try:
            async with self._free:
                if await gone():
                    raise HTTPException(503, "the client has left")
                return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self._inside -= 1

    def close(self) -> None:
        """Wait for what is running; what waits is not begun."""
        self._pool.shutdown(cancel_futures=True)


def _compute_alone() -> None:
    """Let this thread compute by itself: threads of threads wait for one another."""
    import torch

    torch.set_num_threads(1)
