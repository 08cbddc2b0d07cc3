"""LlamaIndex's metadata filters as Qdrant's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)
from pydantic import ValidationError
from qdrant_client import models

from connector.core.errors import InputError

_BOUNDS = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}


def filter_of(filters: MetadataFilters | models.Filter | None) -> models.Filter | None:
    """LlamaIndex's filters as Qdrant's; those of Qdrant stay as they are.

    A condition holds of a list if it holds of one of its items. `!=`, `nin` and `not` hold where the key is
    missing, as in LlamaIndex. Order is that of numbers, or of dates in ISO 8601. Both text matches look for
    every word of the value, in any order and case.

    Raises:
        InputError: an operator is not known, or its value does not fit it.
    """
    if filters is None or isinstance(filters, models.Filter):
        return filters
    if not isinstance(filters, MetadataFilters):
        raise InputError(f"filters is a {type(filters).__name__}; give MetadataFilters or Qdrant's Filter")
    conditions: list[Any] = [
        filter_of(it) if isinstance(it, MetadataFilters) else _condition(it) for it in filters.filters
    ]
    match filters.condition:
        case FilterCondition.AND | None:
            return models.Filter(must=conditions)
        case FilterCondition.OR:
            return models.Filter(should=conditions)
        case FilterCondition.NOT:
            return models.Filter(must_not=conditions)
    raise InputError(f"condition {filters.condition!r} is not known; use and, or, not")


def _condition(it: MetadataFilter) -> models.Condition:
    key = it.key if re.fullmatch(r'[\w.\[\]"-]+', it.key) else f'"{it.key}"'
    match it.operator:
        case FilterOperator.EQ | FilterOperator.CONTAINS:
            return _equal(key, _one(it))
        case FilterOperator.NE:
            return models.Filter(must_not=[_equal(key, _one(it))])
        case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
            return _ordered(key, it)
        case FilterOperator.IN | FilterOperator.ANY:
            return _any_of(key, _several(it))
        case FilterOperator.NIN:
            return models.Filter(must_not=[_any_of(key, _several(it))])
        case FilterOperator.ALL:
            return models.Filter(must=[_equal(key, value) for value in _several(it)])
        case FilterOperator.TEXT_MATCH | FilterOperator.TEXT_MATCH_INSENSITIVE:
            return models.FieldCondition(key=key, match=models.MatchText(text=str(_one(it))))
        case FilterOperator.IS_EMPTY:
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    raise InputError(
        f"filter on {it.key!r}: operator {it.operator!r} is not known; use one of FilterOperator"
    )


def _one(it: MetadataFilter) -> str | int | float:
    if it.value is None or isinstance(it.value, list):
        raise InputError(
            f"filter {it.key!r} {it.operator.value} {it.value!r}: give one text or number; "
            "in, any and all take lists, and is_empty finds what is missing"
        )
    return it.value


def _several(it: MetadataFilter) -> Sequence[str | int | float]:
    if not isinstance(it.value, list):
        raise InputError(f"filter {it.key!r} {it.operator.value} {it.value!r}: give a list of values")
    return it.value


def _equal(key: str, value: str | int | float) -> models.FieldCondition:
    if isinstance(value, str) or (isinstance(value, int) and abs(value) > 2**53):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))  # 3 is 3.0


def _any_of(key: str, values: Sequence[str | int | float]) -> models.Condition:
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values):  # none of no values, too
        return models.FieldCondition(key=key, match=models.MatchAny(any=texts))
    return models.Filter(should=[_equal(key, value) for value in values])


def _ordered(key: str, it: MetadataFilter) -> models.FieldCondition:
    bounds: Any = {_BOUNDS[it.operator]: _one(it)}
    try:
        range_ = models.DatetimeRange(**bounds) if isinstance(it.value, str) else models.Range(**bounds)
    except ValidationError as error:
        raise InputError(
            f"filter {it.key!r} {it.operator.value} {it.value!r}: give a number, or a date such as 2024-05-31"
        ) from error
    return models.FieldCondition(key=key, range=range_)
