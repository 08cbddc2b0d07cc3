"""What stands before the application: keys, hosts, sizes, and errors as answers."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Collection, Sequence
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connector.core.errors import (
    CollectionError,
    CollectionNotFound,
    ConnectorError,
    IndexMissing,
    InputError,
    one_line,
)
from connector.integrations.http.answers import Problem
from connector.integrations.http.requests import Limits
from connector.stores.points import Refusal

logger = logging.getLogger(__name__)

TRUSTED = "connector.trusted"
"""The key of a request's scope that says whether its sender may see all."""

_OPEN = ("/", "/health")
"""Paths that need no key: the page, which asks for it, and whether the server is well."""

_INGEST = "/documents"

SENT = (400, 401, 403, 408, 409, 413, 415, 422, 503)
"""What every request with a body may be answered."""


class Guard:
    """Middleware that turns requests away, with a reason, and reads their bodies before anything else does.

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
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        messages: list[Message] = []
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"  # wherever the app is mounted
        try:
            scope[TRUSTED] = self._knows(request.headers.get("authorization", ""))
            self._check(request, path in _OPEN)
            if request.method == "POST":
                most = self._limits.documents if path == _INGEST else self._limits.others
                messages.append({"type": "http.request", "body": await self._body(request, most)})
        except ClientDisconnect:
            return
        except HTTPException as error:
            refusal = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            if error.status_code == 413:
                await self._refuse_while_it_comes(refusal, receive, send)
            else:
                await refusal(scope, receive, send)
            return

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    def _knows(self, shown: str) -> bool:
        if self._key is None:
            return True
        scheme, _, key = shown.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), self._key)

    def _check(self, request: Request, open_to_all: bool) -> None:
        """Raises HTTPException unless the headers are as they have to be."""
        host = re.sub(r":[0-9]*$", "", request.headers.get("host", "")).lower()
        if self._hosts is not None and host not in self._hosts:
            raise HTTPException(
                403, "this server answers to localhost alone; call it so, or start it with an API key"
            )
        if open_to_all:
            return
        if not request.scope[TRUSTED]:
            raise HTTPException(
                401,
                "the API key is missing or wrong; send Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            raise HTTPException(415, "the body must be JSON; send it with Content-Type: application/json")

    async def _refuse_while_it_comes(self, refusal: JSONResponse, receive: Receive, send: Send) -> None:
        """Answer at once, and pass over what still comes of the body before the connection is closed.

        Closed before, with bytes that nobody has read, it would be reset, and the answer lost.
        """
        head = {"status": refusal.status_code, "headers": refusal.raw_headers}
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": refusal.body, "more_body": True})
        with anyio.move_on_after(self._limits.seconds):
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.body"})

    async def _body(self, request: Request, most: int) -> bytes:
        """All of the body; it is counted as it comes, whatever it says that it will be.

        Raises:
            HTTPException: it is longer than `most` bytes, or does not come in time.
        """
        close = {"Connection": "close"}
        too_long = HTTPException(413, f"the body is longer than {most:,} bytes; send less at a time", close)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > most:
            raise too_long
        body = bytearray()
        try:
            with anyio.fail_after(self._limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_long
        except TimeoutError:
            late = f"the body did not come within {self._limits.seconds:g} seconds"
            raise HTTPException(408, late, close) from None
        return bytes(body)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers for `/openapi.json`, which FastAPI calls by the names of their statuses."""
    return {status: {"model": Problem} for status in statuses}


def answer_errors(app: FastAPI) -> None:
    """Have an application answer errors as `Problem`s."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ConnectorError, _of_library)
    app.add_exception_handler(Exception, _unforeseen)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    first: dict[str, Any] = dict(error.errors()[0]) if isinstance(error, RequestValidationError) else {}
    if first.get("type") == "json_invalid":
        return _problem(400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    return _problem(422, _reason(first))


def _reason(error: dict[str, Any]) -> str:
    """Where a value cannot be used and why, without the value."""
    place: Sequence[Any] = error["loc"][1:]
    if place and place[0] == "filter":  # what a filter may be is a tree of alternatives
        place = ["filter"]
        if error["type"] != "value_error":
            example = '{"must": [{"key": "year", "match": {"value": 2021}}]}'
            return f"filter: is not a filter of Qdrant; give one such as {example}"
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConnectorError):  # it names the value's place itself
        return str(cause)
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{'.'.join(map(str, place)) or 'body'}: {reason}"


async def _of_library(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, InputError | IndexMissing):
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
