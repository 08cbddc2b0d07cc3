"""What a request has to be before anything reads it: from whom, for which host, of which kind and size."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Collection

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector.serve.limits import Limits

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names by which a machine calls itself."""

TRUSTED = "connector.trusted"
"""The key of a request's scope that says whether its sender may see all."""

_OPEN = ("/", "/health")
"""Paths that need no key: the page, which asks for it, and whether the server is well."""

_INGEST = "/documents"


class Guard:
    """Middleware that turns requests away, with a reason.

    Without a key it answers only to the given hosts: a site that a browser visits can make its own name
    lead to this machine, but not change what the browser says that it calls. And as bodies have to be called
    JSON, a browser asks before it sends one from another site, and is not allowed to.

    Args:
        app: what it guards.
        key: what requests have to show as `Authorization: Bearer KEY`; None if anybody may ask.
        hosts: without a key, the names in `Host` that are answered, at any port; None for all.
        limits: the sizes of bodies.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Collection[str] | None, limits: Limits) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._hosts = None if key is not None or hosts is None else {host.lower() for host in hosts}
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[TRUSTED] = self._knows(Headers(scope=scope).get("authorization", ""))
            refusal = self._refusal(scope)
            if refusal is None and scope["method"] == "POST":
                body = await self._body(scope, receive)
                if isinstance(body, bytes):
                    receive = _given(body, receive)
                else:
                    refusal = body
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _knows(self, shown: str) -> bool:
        scheme, _, key = shown.partition(" ")
        if self._key is None:
            return True
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            return _refused(
                403, "this server answers to localhost alone; call it so, or start it with an API key"
            )
        if not scope[TRUSTED] and _path(scope) not in _OPEN:
            return _refused(
                401, "the API key is missing or wrong; send Authorization: Bearer KEY", "WWW-Authenticate"
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json" and _path(scope) not in _OPEN:
            return _refused(415, "the body must be JSON; send it with Content-Type: application/json")
        return None

    async def _body(self, scope: Scope, receive: Receive) -> bytes | JSONResponse:
        """All of the body, or why not; it is counted as it comes, whatever it says that it will be."""
        most = self._limits.documents if _path(scope) == _INGEST else self._limits.others
        too_long = _refused(413, f"the body is longer than {most:,} bytes; send less at a time", "Connection")
        said = Headers(scope=scope).get("content-length", "0")
        if not said.isdecimal() or len(said) > 15 or int(said) > most:
            return too_long
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > most:
                        return too_long
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            return _refused(
                408, f"the body did not come within {self._limits.seconds:g} seconds", "Connection"
            )


_HEADERS = {"WWW-Authenticate": "Bearer", "Connection": "close"}


def _refused(status: int, why: str, header: str | None = None) -> JSONResponse:
    headers = None if header is None else {header: _HEADERS[header]}
    return JSONResponse({"detail": why}, status, headers)


def _given(body: bytes, receive: Receive) -> Receive:
    """What receives a body that was read already, and then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _path(scope: Scope) -> str:
    """The path in this application, wherever it is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def _name(host: str) -> str:
    """A host without its port."""
    return re.sub(r":[0-9]*$", "", host).lower()
