"""Calls to a server are made again while their failures may pass; all of them may be made twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from connector.core.errors import ConnectorError
from connector.stores.failures import Failure, failure_of
from connector.stores.secrets import Secrets

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
