"""Errors as answers: what the client can mend is told, what it cannot is told to the log alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from connector.core.errors import CollectionError, CollectionNotFound, ConnectorError, InputError, one_line
from connector.serve.bodies import Problem
from connector.stores.batching import Refusal

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
