"""Conditions on metadata as Qdrant's: the frameworks' filters are translated into these few."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from qdrant_client import models

from connector.core.errors import InputError

# What each means, and its bounds, with the side towards which a decimal gives way: the engine reads decimals
# with an error in their last bit.
_OPERATORS: dict[str, tuple[Callable[[Any, Any], bool], dict[str, float]]] = {
    "==": (operator.eq, {"gte": -math.inf, "lte": math.inf}),
    ">": (operator.gt, {"gt": math.inf}),
    ">=": (operator.ge, {"gte": -math.inf}),
    "<": (operator.lt, {"lt": -math.inf}),
    "<=": (operator.le, {"lte": math.inf}),
}

# Qdrant compares numbers as doubles, which tell larger whole numbers apart no more.
_EXACT = 2**53


def any_of(conditions: Sequence[Any]) -> models.Filter:
    """That one of the conditions holds; of none, nothing."""
    return models.Filter(should=list(conditions) or [models.HasIdCondition(has_id=[])])


def none_of(conditions: Sequence[Any]) -> models.Filter:
    """That none of the conditions holds; of none, everything."""
    return models.Filter(must_not=[any_of(conditions)])


def all_of(conditions: Sequence[Any]) -> models.Filter:
    """That all of the conditions hold; of none, everything."""
    return models.Filter(must=list(conditions) or [none_of([])])


def empty(key: str) -> models.IsEmptyCondition:
    """That there is no value, or an empty list."""
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))


def equal(key: str, values: Sequence[Any]) -> models.Filter:
    """That a value, or one item of a list, is one of these texts, numbers or datetimes.

    They are equal as in Python, where 3 is 3.0 and 1 is true.

    Raises:
        InputError: one of them is something else.
    """
    texts = [it for it in values if isinstance(it, str)]
    found: list[Any] = [models.FieldCondition(key=key, match=models.MatchAny(any=texts))] if texts else []
    for value in values:
        found += [] if isinstance(value, str) else _compared(key, "==", value)
    return any_of(found)


def ordered(key: str, operator: str, value: Any) -> models.Filter:
    """That a number, or a date, is on this side (">", ">=", "<" or "<=") of another.

    Args:
        key: of the payload.
        operator: which side.
        value: a number, a datetime, or a text that is a date in ISO 8601; without a time zone in UTC.

    Raises:
        InputError: the value is something else.
    """
    return any_of(_compared(key, operator, value if (date := date_of(value)) is None else date))


def date_of(value: Any) -> datetime | None:
    """What a datetime or a text in ISO 8601 says, without a time zone in UTC; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _compared(key: str, operator: str, value: Any) -> list[models.FieldCondition]:
    compare, bounds = _OPERATORS[operator]
    if isinstance(value, datetime):
        dates: dict[str, Any] = dict.fromkeys(bounds, date_of(value))
        return [models.FieldCondition(key=key, range=models.DatetimeRange(**dates))]
    if not isinstance(value, int | float):
        remedy = "give a number, or a date in ISO 8601, or for == a text"
        raise InputError(f"filter on {key}: {value!r:.80} cannot be compared with {operator}; {remedy}")
    if not math.isfinite(value):
        raise InputError(f"filter on {key}: no document holds {value}; give a finite number")
    if isinstance(value, int) and abs(value) > _EXACT and operator == "==":
        return [_is(key, value)] if -(2**63) <= value < 2**63 else []
    number, whole = float(value), float(value).is_integer()
    limits = {bound: number if whole else math.nextafter(number, away) for bound, away in bounds.items()}
    truths = [_is(key, it) for it in (False, True) if compare(it, value)]
    return [models.FieldCondition(key=key, range=models.Range(**limits)), *truths]


def _is(key: str, value: int) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
