"""How long a server may be asked for one thing that a user waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Budget:
    """Seconds, of which only those count in which somebody is asked."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds
        self.since: float | None = None


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """The requests of the body take so long together at most; None is for as long as it may be."""
    token = _budget.set(None if seconds is None else _Budget(seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def asking() -> Iterator[None]:
    """The time of the body counts, as a request's does; that of a model, say, does not."""
    budget = _budget.get()
    if budget is None:
        yield
        return
    budget.since = time.monotonic()
    try:
        yield
    finally:
        budget.left, budget.since = seconds_left() or 0.0, None


def seconds_left() -> float | None:
    """How long a request may take still; None without a limit."""
    budget = _budget.get()
    if budget is None:
        return None
    spent = 0.0 if budget.since is None else time.monotonic() - budget.since
    return max(budget.left - spent, 0.0)
