"""What stands before the application: keys, hosts, sizes, and errors as answers."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
from collections.abc import Collection, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector.core.errors import CollectionError, CollectionNotFound, ConnectorError, InputError, one_line
from connector.integrations.http.schemas import Limits, Problem
from connector.stores.batching import Refusal

KEY_VARIABLE = "CONNECTOR_API_KEY"


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


logger = logging.getLogger(__name__)


_WHAT = {
    400: "The body is no JSON.",
    401: "The API key is missing or wrong.",
    403: "The server answers to localhost alone.",
    404: "The collection holds no such document.",
    408: "The body did not come in time.",
    409: "The collection cannot do what is asked, as it is now.",
    413: "The body is too long.",
    415: "The body is not called JSON.",
    422: "A value cannot be used.",
    503: "The store does not answer, or too many requests wait.",
}


SENT = (400, 401, 403, 408, 409, 413, 415, 422, 503)
"""What every request with a body may be answered."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers for `/openapi.json`."""
    return {status: {"model": Problem, "description": _WHAT[status]} for status in statuses}


def answer_errors(app: FastAPI) -> None:
    """Have an application answer errors as `Problem`s."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ConnectorError, _of_library)
    app.add_exception_handler(Exception, _unforeseen)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    first: dict[str, Any] = dict(error.errors()[0]) if isinstance(error, RequestValidationError) else {}
    if first.get("type") == "json_invalid":
        return _problem(400, f"the body is no JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    return _problem(422, _told(first))


def _told(error: dict[str, Any]) -> str:
    """Where a value cannot be used and why, without the value."""
    place: Sequence[Any] = error["loc"][1:]
    if place and place[0] == "filter":  # what a filter may be is a tree of alternatives
        place = ["filter"]
        if error["type"] != "value_error":
            example = '{"must": [{"key": "year", "match": {"value": 2021}}]}'
            return f"filter: is no filter of Qdrant; give one such as {example}"
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{'.'.join(map(str, place)) or 'body'}: {reason}"


async def _of_library(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, InputError):
        return _problem(422, str(error))
    if isinstance(error, Refusal):
        logger.info("refused: %s", error)
        return _problem(422, "the store does not take the request; look at its filter")
    if isinstance(error, CollectionError) and not isinstance(error, CollectionNotFound):
        return _problem(409, str(error))
    logger.error("%s", error)
    return _problem(503, "the collection cannot be used now; the server's log says why")


async def _unforeseen(_: Request, error: Exception) -> JSONResponse:
    del error  # the server logs it
    return _problem(500, "something is wrong with the server; its log says what")


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": one_line(detail)}, status)


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
