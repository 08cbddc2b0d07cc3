"""The server of `connector serve`, and threads that are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import anyio
import uvicorn
from fastapi import FastAPI, HTTPException, Request

from connector.core.errors import InputError
from connector.scoring.maxsim import compute_alone

T = TypeVar("T")

KEY_VARIABLE = "CONNECTOR_API_KEY"

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names by which a machine calls itself."""


class Workers:
    """So many threads, and so many calls at most that wait for one; first come, first served.

    Args:
        threads: that work.
        waiting: calls that may wait.
    """

    def __init__(self, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, initializer=compute_alone)
        self._limiter = anyio.CapacityLimiter(2 * threads)  # the next lie ready: no thread waits for the loop
        self._most = threads + waiting

    async def __call__(self, request: Request, call: Callable[[], T]) -> T:
        """What the call gives.

        Args:
            request: for which it is made; if its client has left in the meantime, the call is not made.
            call: is made in a thread.

        Raises:
            HTTPException: 503, as too many wait.
        """
        calls = self._limiter.statistics()
        if (inside := calls.borrowed_tokens + calls.tasks_waiting) >= self._most:
            raise HTTPException(503, f"{inside} requests are waiting; come again later", {"Retry-After": "1"})
        async with self._limiter:
            if await request.is_disconnected():
                raise HTTPException(503, "the client has left")
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def check_open_to(host: str, key: str | None) -> None:
    """Raises InputError unless others than this machine need a key to be answered at this address."""
    if key is None and not is_loopback(host):
        raise InputError(
            f"--host {host} is open to other machines, and there is no API key to ask them for; set "
            f"{KEY_VARIABLE}, or {KEY_VARIABLE}_FILE to a file that holds it, or leave --host out"
        )


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


_BACKLOG = 2048
"""Connections that wait to be taken."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, on a socket that is its own already.

    Args:
        taken: the socket.
        host: as it was asked for.
    """

    taken: socket.socket
    host: str

    @classmethod
    @contextlib.contextmanager
    def take(cls, host: str, port: int) -> Iterator[Address]:
        """An address for as long as it is needed.

        Args:
            host: a name or an address.
            port: 0 for any that is free.

        Raises:
            InputError: it cannot be had.
        """
        try:
            family, _, _, _, place = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"--host {host} is not an address of this machine ({error}); give another"
            ) from error
        try:  # from now on nobody else can have it; who calls already is kept waiting
            dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
            taken = socket.create_server(place, family=family, backlog=_BACKLOG, dualstack_ipv6=dual)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise InputError(
                f"{host} port {port} cannot be listened at ({why}); choose another --port"
            ) from error
        with taken:
            yield cls(taken, host)

    @property
    def name(self) -> str:
        """The host, as requests name it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        """What to call it by."""
        return f"http://{self.name}:{self.taken.getsockname()[1]}"


def run(app: FastAPI, address: Address, ready: Callable[[], None]) -> None:
    """Serve an application until the process is told to end, by Ctrl-C or by SIGTERM.

    It has then answered what it had begun. SIGTERM goes on to whatever handled it before.

    Args:
        app: which.
        address: where.
        ready: called when requests are answered.
    """
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", server_header=False)
    with contextlib.suppress(KeyboardInterrupt):  # raised again by uvicorn when it has obeyed
        _Server(config, ready, app.state.stopping).run(sockets=[address.taken])


class _Server(uvicorn.Server):
    """Says when it is ready. Told to end, it answers what it has begun; told so again, it ends at once."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stopping: threading.Event) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping.is_set():
            os._exit(128 + sig)  # threads are not waited for; what was acknowledged is in the store's log
        self._stopping.set()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
