"""Requests to a server are made again while their failures may pass; all of them may be made twice."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

import grpc
import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.connection import create_generic_client_interceptor
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.local.qdrant_local import QdrantLocal
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from connector.core.deadline import asking, seconds_left
from connector.core.errors import AccessDenied, ConnectorError, IndexMissing, StoreError, StoreUnavailable
from connector.core.forks import Mutex, Opened
from connector.stores.filters import off_key
from connector.stores.points import Refusal
from connector.stores.schema import FILTERED, OWN
from connector.stores.server.credentials import Secrets, redacted

logger = logging.getLogger(__name__)


P = ParamSpec("P")


T = TypeVar("T")


ATTEMPTS = 8
"""Calls at most. Their pauses add up to about 50 s, in which a server that was restarted is up again."""


SECONDS = 180.0
"""No attempt begins later than this after the first one; one that is never answered takes 60 s."""


FIRST_PAUSE = 0.5
"""Seconds before the second attempt, and as much again by chance; twice as long before each one after."""


LONGEST_PAUSE = 16.0


_ONE_AT_A_TIME = Mutex()
"""Held for each call of a client without a server, which is not made for several threads."""


class Requests:
    """The requests of one client, made again with longer and longer pauses while their failures may pass.

    What raises in the client becomes one of our errors: `StoreUnavailable` when no server answers or it does
    not take the key, and `StoreError` when it answers with an error. A request that is made again may have
    been carried out before, and only its answer lost.

    Args:
        client: whose methods are called.
        location: the server, for messages.

    Attributes:
        local: whether there is no server; requests of several threads are then made one after the other.
        indexes: whether it keeps indexes and copies, as a server does.
    """

    def __init__(self, client: QdrantClient, location: str) -> None:
        self.client = client
        self.location = redacted(location)
        self.secrets = Secrets.of(client, location)
        self.local = isinstance(client._client, QdrantLocal)
        self.indexes = type(client._client) is not QdrantLocal
        self._opened = Opened(f"the client of {self.location}")
        self._turn = _ONE_AT_A_TIME if self.local else nullcontext()

    def __call__(self, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What a method of the client gives for these arguments."""
        return self._answer(lambda: method(*args, **options), ATTEMPTS)

    def once(self, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """The same, but the request is never made again."""
        return self._answer(lambda: method(*args, **options), 1)

    def _answer(self, call: Callable[[], T], attempts: int) -> T:
        self._opened.check()  # two processes would read each other's answers from one connection
        left = seconds_left()
        retrying = Retrying(
            retry=retry_if_exception(lambda error: failure_of(error).passes),
            stop=stop_after_attempt(attempts) | stop_before_delay(SECONDS if left is None else left),
            wait=_wait,
            before_sleep=self._warn,
            reraise=True,
        )

        def in_turn() -> T:
            with self._turn:
                return call()

        try:
            with asking():
                return retrying(in_turn)
        except ConnectorError:  # it was not asked at all
            raise
        except Exception as error:
            failure = failure_of(error)
        # Raised out here, the client's exception is not the context of ours, which a traceback would show.
        made = int(retrying.statistics.get("attempt_number", 1))
        raise failure.error(self.location, self.secrets, made) from failure.cause_without(self.secrets)

    def _warn(self, state: RetryCallState) -> None:
        if state.attempt_number == 1:
            left = seconds_left()
            text = _failure(state).shown(self.secrets)
            most = SECONDS if left is None else left
            logger.warning("%s: %s; trying again for up to %.0f s", self.location, text, most)


def _wait(state: RetryCallState) -> float:
    pause = wait_exponential(FIRST_PAUSE, LONGEST_PAUSE) + wait_random(0, FIRST_PAUSE)
    return max(pause(state), _failure(state).wait)


def _failure(state: RetryCallState) -> Failure:
    return failure_of(state.outcome.exception() if state.outcome is not None else None)


Kind = Literal["silent", "busy", "denied", "forbidden", "refused", "failed"]
"""No answer came; one that another try may change; the key is not taken, or lacks a right; what was sent is
not taken; else."""


_KINDS: dict[int | str | None, Kind] = {
    **dict.fromkeys(("UNAVAILABLE", "DEADLINE_EXCEEDED"), "silent"),
    **dict.fromkeys((408, 429, 500, 502, 503, 504, "RESOURCE_EXHAUSTED", "INTERNAL"), "busy"),
    **dict.fromkeys((401, "UNAUTHENTICATED"), "denied"),
    **dict.fromkeys((403, "PERMISSION_DENIED"), "forbidden"),
    **dict.fromkeys((400, 413, 422, "INVALID_ARGUMENT", "OUT_OF_RANGE"), "refused"),  # or too large
}
"""By the status of HTTP and the code of gRPC; what is not here failed for good."""


_FOR_GOOD = re.compile(r"not (yet )?(implemented|supported|wired)|panicked", re.IGNORECASE)
"""What an answer says that another try does not change, though its status does not tell."""


_UNINDEXED = re.compile(r'Index required but not found for \\?"(.+?)\\?" of one .*?types: \[(.*?)\]')
"""What a server in strict mode says of a filter."""


_MOST = 500
"""Characters of an answer that a message repeats."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call.

    Args:
        kind: what it means.
        text: what was answered, or why nothing was.
        wait: seconds to wait before another try, as the server asks.
        cause: the exception, unless its text holds what was sent.
    """

    kind: Kind
    text: str
    wait: float = 0.0
    cause: BaseException | None = None

    @property
    def passes(self) -> bool:
        """Whether another try may succeed."""
        return self.kind in ("silent", "busy")

    def shown(self, secrets: Secrets) -> str:
        """The text, for a message."""
        return secrets.hide(self.text)[:_MOST]

    def error(self, location: str, secrets: Secrets, attempts: int) -> StoreError:
        """What to raise."""
        text = self.shown(secrets) + (f" (after {attempts} attempts)" if attempts > 1 else "")
        if self.kind == "silent":
            return StoreUnavailable(f"no Qdrant server answers at {location}: {text}")
        if self.kind == "denied":
            return AccessDenied(f"{location} refuses the API key ({text}); set QDRANT_API_KEY")
        if self.kind == "forbidden":
            return AccessDenied(
                f"the API key lacks a right at {location}: {text}; give one that has it (QDRANT_API_KEY): to "
                "read, for the collections that connector stats lists; to write, to manage the server"
            )
        if unindexed := _UNINDEXED.search(self.text):
            return _missing_index(unindexed[1].replace('\\"', '"'), unindexed[2] or "keyword")
        return (Refusal if self.kind == "refused" else StoreError)(f"{location}: {text}")

    def cause_without(self, secrets: Secrets) -> BaseException | None:
        """The exception, unless its text, which a traceback shows, may hold a secret."""
        shown = f"{self.text} {self.cause}"
        return None if secrets.in_(shown) else self.cause


def _missing_index(path: str, kinds: str) -> IndexMissing:
    key, add = off_key(path), "connector index add"
    how = f"add one: {add} {key}:{kinds.partition(',')[0]}, or create_index"
    if path.removeprefix(OWN) in FILTERED:
        how = f"an earlier version has made the collection; add what it lacks: {add}, or create_index({{}})"
    return IndexMissing(
        f"the server is in strict mode and takes no filter on {key!r} without an index (of kind {kinds}); "
        + how
    )


def failure_of(error: BaseException | None) -> Failure:
    """What an exception of the client means."""
    if isinstance(error, QdrantException):  # a 429, some of which say when to come again
        return Failure("busy", f"429 {error}", getattr(error, "retry_after_s", 0.0), error)
    if isinstance(error, UnexpectedResponse):
        reason = error.content.decode(errors="replace") or error.reason_phrase
        return Failure(_kind(error.status_code, reason), f"{error.status_code} {reason}", cause=error)
    if isinstance(error, ResponseHandlingException):
        if isinstance(error.source, ValueError):  # its text holds parts of the answer, cut anywhere
            return Failure("failed", "what it answers is not what a Qdrant server does")
        return Failure("silent", str(error.source) or repr(error.source), cause=error)
    if code := _grpc_code(error):
        reason = str(getattr(error, "details", str)() or "")
        return Failure(_kind(code, reason), f"{code} {reason}", cause=error)
    # The client and its local mode raise this for what a server answers 400.
    return Failure("refused" if isinstance(error, ValueError) else "failed", str(error), cause=error)


def _kind(status: int | str | None, reason: str) -> Kind:
    return "failed" if _FOR_GOOD.search(reason) else _KINDS.get(status, "failed")


def _grpc_code(error: BaseException | None) -> str:
    """The name of a gRPC status, or an empty text; gRPC has no types to ask for one."""
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", "")) if callable(code) else ""


def bounded_channels(client: QdrantClient) -> None:
    """No call of the client's over gRPC, which has no hooks, takes longer than there is time."""

    def bounded(details: Any, requests: Any, *_: Any) -> tuple[Any, Any, None]:
        left = seconds_left()
        if left is not None:
            details = details._replace(timeout=min(details.timeout or left, left))
        return details, requests, None

    remote: Any = client._client
    remote._init_grpc_channel()
    interceptor = create_generic_client_interceptor(bounded)
    remote._grpc_channel_pool = [grpc.intercept_channel(it, interceptor) for it in remote._grpc_channel_pool]


def bounded(request: httpx.Request) -> None:
    """A hook of the client's: no request takes longer than there is time."""
    left = seconds_left()
    if left is not None:
        timeout = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            key: left if timeout.get(key) is None else min(timeout[key], left)
            for key in ("connect", "read", "write", "pool")
        }
