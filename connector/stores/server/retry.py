"""Calls to a server are made again while their failures may pass; all of them may be made twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from connector.core.errors import ConnectorError, StoreError, StoreUnavailable
from connector.stores.batching import Refusal
from connector.stores.server.credentials import Secrets

logger = logging.getLogger(__name__)


T = TypeVar("T")


ATTEMPTS = 8
"""Calls at most. Their pauses add up to about 50 s, in which a server that was started anew is up again."""


SECONDS = 180.0
"""No attempt begins later than this after the first one; one that is never answered takes 60 s."""


FIRST_PAUSE = 0.5
"""Seconds before the second attempt, and as much again by chance; twice as long before each one after."""


LONGEST_PAUSE = 16.0


def answered(call: Callable[[], T], location: str, secrets: Secrets, *, patient: bool = True) -> T:
    """What a call of the client gives, made again with longer and longer pauses while its failures may pass.

    Args:
        call: may be made several times, also when an earlier one was carried out and only its answer lost.
        location: the server, for messages.
        secrets: what no message may hold.
        patient: whether to make it more than once.

    Raises:
        StoreUnavailable: no server answers, or it does not take the key.
        StoreError: the server answers with an error.
    """
    pause = wait_exponential(FIRST_PAUSE, LONGEST_PAUSE) + wait_random(0, FIRST_PAUSE)

    def wait(state: RetryCallState) -> float:
        return max(pause(state), _failure(state).wait)

    def warn(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            said = _failure(state).said(secrets)
            logger.warning("%s: %s; trying again for up to %.0f s", location, said, SECONDS)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and failure_of(error).passes),
        stop=stop_after_attempt(ATTEMPTS if patient else 1) | stop_before_delay(SECONDS),
        wait=wait,
        before_sleep=warn,
        reraise=True,
    )
    try:
        return retrying(call)
    except ConnectorError:  # it was not asked at all
        raise
    except Exception as error:
        failure = failure_of(error)
    # Raised out here, the client's exception is not the context of ours, which a traceback would show.
    attempts = int(retrying.statistics.get("attempt_number", 1))
    raise failure.error(location, secrets, attempts) from failure.cause_without(secrets)


def _failure(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome is not None else None
    return failure_of(error) if isinstance(error, Exception) else Failure("failed", "")


Kind = Literal["silent", "busy", "denied", "refused", "failed"]
"""No answer came; one that another try may change; the key is not taken; what was sent is not taken; else."""


_BY_STATUS: dict[int, Kind] = {
    **dict.fromkeys((408, 429, 500, 502, 503, 504), "busy"),
    **dict.fromkeys((401, 403), "denied"),
    **dict.fromkeys((400, 413, 422), "refused"),
}


_BY_CODE: dict[str, Kind] = {
    "UNAVAILABLE": "silent",
    "DEADLINE_EXCEEDED": "silent",
    "RESOURCE_EXHAUSTED": "busy",
    "UNAUTHENTICATED": "denied",
    "PERMISSION_DENIED": "denied",
    "INVALID_ARGUMENT": "refused",
    "OUT_OF_RANGE": "refused",  # a request that is too large
}


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
    cause: Exception | None = None

    @property
    def passes(self) -> bool:
        """Whether another try may succeed."""
        return self.kind in ("silent", "busy")

    def said(self, secrets: Secrets) -> str:
        """The text, for a message."""
        return secrets.hide(self.text)[:_MOST]

    def error(self, location: str, secrets: Secrets, attempts: int) -> StoreError:
        """What to raise."""
        said = self.said(secrets) + (f" (after {attempts} attempts)" if attempts > 1 else "")
        if self.kind == "silent":
            return StoreUnavailable(f"no Qdrant server answers at {location}: {said}")
        if self.kind == "denied":
            return StoreUnavailable(f"{location} refuses the API key ({said}); set QDRANT_API_KEY")
        if self.kind == "refused":
            return Refusal(f"{location}: {said}")
        return StoreError(f"{location}: {said}")

    def cause_without(self, secrets: Secrets) -> Exception | None:
        """The exception, unless its text, which a traceback shows, may hold a secret."""
        shown = f"{self.text} {self.cause}"
        return None if secrets.in_(shown) else self.cause


def failure_of(error: Exception) -> Failure:
    """What an exception of the client means."""
    if isinstance(error, ResourceExhaustedResponse):
        return Failure("busy", f"429 {error}", error.retry_after_s, error)
    if isinstance(error, QdrantException):  # a 429 that says when to come again as a date
        return Failure("busy", f"429 {error}", cause=error)
    if isinstance(error, UnexpectedResponse):
        reason = error.content.decode(errors="replace") or error.reason_phrase
        kind = _BY_STATUS.get(error.status_code or 0, "failed")
        return Failure(kind, f"{error.status_code} {reason}", cause=error)
    if isinstance(error, ResponseHandlingException):
        if isinstance(error.source, ValueError):  # its text holds parts of the answer, cut anywhere
            return Failure("failed", "what it answers is not what a Qdrant server does")
        return Failure("silent", str(error.source) or repr(error.source), cause=error)
    if code := _grpc_code(error):
        details = getattr(error, "details", str)
        return Failure(_BY_CODE.get(code, "failed"), f"{code} {details() or ''}", cause=error)
    # The client and its local mode raise this for what a server answers 400.
    return Failure("refused" if isinstance(error, ValueError) else "failed", str(error), cause=error)


def _grpc_code(error: Exception) -> str:
    """The name of a gRPC status, or an empty text; gRPC has no types to ask for one."""
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", "")) if callable(code) else ""
