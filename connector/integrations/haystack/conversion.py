"""Their documents and filters, and ours."""

from __future__ import annotations

import json
import math
import operator as compare
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from haystack import Document as HaystackDocument
from haystack.errors import FilterError
from qdrant_client import models

from connector.core.errors import DocumentError, InputError
from connector.core.ids import point_id
from connector.core.types import Document, Hit

_REST = "_haystack"


def stored(document: HaystackDocument) -> Document:
    """The document as a collection holds it.

    Raises:
        DocumentError: it has no text, or holds what JSON does not have.
    """
    if document.content is None:
        raise DocumentError(f"document {document.id!r} has no content; convert it to text, or leave it out")
    if _REST in document.meta:
        raise DocumentError(f"document {document.id!r}: meta has the reserved key {_REST!r}; rename it")
    rest = document.to_dict(flatten=False)
    text, meta, id_ = rest.pop("content"), rest.pop("meta"), rest.pop("id")
    rest = {key: value for key, value in rest.items() if value is not None}
    try:
        more = {_REST: json.dumps(rest)} if rest else {}
    except (TypeError, ValueError) as error:
        raise DocumentError(
            f"document {document.id!r}: {', '.join(rest)} cannot be stored: {error}"
        ) from error
    return Document(id=id_, text=text, metadata={**meta, **more})


def restored(found: Document | Hit) -> HaystackDocument:
    """What was given, and of a hit its own score; a title becomes `meta["title"]`, unless there is one."""
    data = dict(found.metadata)
    rest: dict[str, Any] = json.loads(data.pop(_REST, "{}"))
    if found.title is not None:
        data.setdefault("title", found.title)
    if isinstance(found, Hit):
        rest = rest | {"score": found.score}
    return HaystackDocument.from_dict({**rest, "id": found.id, "content": found.text, "meta": data})


def checked(documents: list[HaystackDocument]) -> list[HaystackDocument]:
    """Raises InputError unless this is a list of Haystack's documents."""
    if not isinstance(documents, list) or not all(isinstance(it, HaystackDocument) for it in documents):
        raise InputError(f"documents is {documents!r:.80}; give a list of haystack.Document")
    return documents


Conditions = list[models.Condition]


_NOTHING = models.HasIdCondition(has_id=[])


_FIELDS = {"id", "content", "blob", "meta", "score", "embedding", "sparse_embedding"}


_LOGIC = ("AND", "OR", "NOT")


_EQUAL = ("==", "!=", "in", "not in")


_ORDERED = (">", ">=", "<", "<=")


_BOUNDS = {"==": ("gte", "lte"), ">": ("gt",), ">=": ("gte",), "<": ("lt",), "<=": ("lte",)}


_AWAY = {"gte": -math.inf, "lt": -math.inf, "lte": math.inf, "gt": math.inf}


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": compare.eq,
    ">": compare.gt,
    ">=": compare.ge,
    "<": compare.lt,
    "<=": compare.le,
}


_DATE = re.compile(r"\d{4}-\d\d-\d\d([Tt ].*)?")


_EXACT = 2**53
"""Qdrant compares numbers as doubles, which tell larger whole numbers apart no more."""


def on_payload(filters: dict[str, Any] | None) -> models.Filter | None:
    """The filter on payload keys; None, for all documents, where none is given.

    Args:
        filters: comparisons of "meta.…" or "id" with texts, numbers, truth values, dates and None, combined
            by AND, OR and NOT. Dates without a time zone are in UTC; an empty list counts as no value.

    Raises:
        FilterError: it is malformed, or compares what cannot be compared.
    """
    return _translated(filters) if filters else None


def _translated(condition: Any) -> models.Filter:
    if not isinstance(condition, dict):
        raise FilterError(f"filter {condition!r:.80} is no dictionary; give field, operator and value")
    return _comparison(condition) if "field" in condition else _logic(condition)


def _part(condition: dict[str, Any], key: str) -> Any:
    if key not in condition:
        raise FilterError(f"filter {condition!r:.80} has no {key!r}; give one")
    return condition[key]


def _logic(condition: dict[str, Any]) -> models.Filter:
    operator, conditions = _part(condition, "operator"), _part(condition, "conditions")
    if operator not in _LOGIC:
        raise FilterError(f"operator {operator!r} is unknown; the known ones of conditions: {_LOGIC}")
    if not isinstance(conditions, list):
        raise FilterError(f"conditions is {conditions!r:.80}; give a list")
    parts: Conditions = [_translated(it) for it in conditions]
    if operator == "OR":
        return models.Filter(should=parts or [_NOTHING])
    all_ = models.Filter(must=parts or [models.Filter(must_not=[_NOTHING])])
    return all_ if operator == "AND" else models.Filter(must_not=[all_])


def _comparison(condition: dict[str, Any]) -> models.Filter:
    field, operator, value = (_part(condition, key) for key in ("field", "operator", "value"))
    if operator in _EQUAL:
        if operator in ("==", "!="):
            value = [value]
        if not isinstance(value, list):
            raise FilterError(f"{field} {operator} {value!r:.80}: the value must be a list")
        found = _equal(field, value)
        return found if operator in ("==", "in") else models.Filter(must_not=[found])
    if operator not in _ORDERED:
        raise FilterError(f"operator {operator!r} is unknown; the known ones: {(*_EQUAL, *_ORDERED)}")
    return _ordered(field, operator, value)


def _equal(field: str, values: list[Any]) -> models.Filter:
    """That the field has one of the values, of which None stands for having none."""
    if field == "id":
        ids = [point_id(value, 0) for value in values if isinstance(value, str)]
        return models.Filter(must=[models.HasIdCondition(has_id=list(ids))])
    key = _key(field)
    given = [value for value in values if value is not None]
    found: Conditions = [_single(key, lambda key: [it for value in given for it in _same(key, value)])]
    if len(given) < len(values):
        found.append(models.IsEmptyCondition(is_empty=models.PayloadField(key=key)))
    return models.Filter(should=found)


def _ordered(field: str, operator: str, value: Any) -> models.Filter:
    key = _key(field)
    if value is None:
        return models.Filter(must=[_NOTHING])
    if isinstance(value, int | float):
        return _single(key, lambda key: _numbers(key, operator, value))
    date = _date(value)
    if date is None:
        raise FilterError(f"{field} {operator} {value!r:.80}: give a number, or a date in ISO 8601")
    return _single(key, lambda key: [_dates(key, operator, date)])


def _single(key: str, conditions: Callable[[str], Conditions]) -> models.Filter:
    """That one of the conditions holds for a value that is no list."""
    return models.Filter(should=conditions(key) or [_NOTHING], must_not=conditions(f"{key}[]"))


def _same(key: str, value: Any) -> Conditions:
    if isinstance(value, int | float):
        return _numbers(key, "==", value)
    if not isinstance(value, str | datetime):
        raise FilterError(f"{value!r:.80} cannot be compared with ==; give a text, number, date or None")
    date = _date(value) if isinstance(value, datetime) or _DATE.fullmatch(value) else None
    found: Conditions = [] if date is None else [_dates(key, "==", date)]
    if isinstance(value, str):
        found.append(models.FieldCondition(key=key, match=models.MatchValue(value=value)))
    return found


def _numbers(key: str, operator: str, value: float) -> Conditions:
    """Of numbers and truth values, which are 0 and 1 as in Python."""
    if not math.isfinite(value):
        raise FilterError(f"{operator} {value}: no document holds such a number; give a finite one")
    if isinstance(value, int) and abs(value) > _EXACT and operator == "==":
        fits = -(2**63) <= value < 2**63
        return [models.FieldCondition(key=key, match=models.MatchValue(value=value))] if fits else []
    bounds = {bound: _lenient(bound, float(value)) for bound in _BOUNDS[operator]}
    truths = [it for it in (False, True) if _COMPARE[operator](it, value)]
    return [
        models.FieldCondition(key=key, range=models.Range(**bounds)),
        *(models.FieldCondition(key=key, match=models.MatchValue(value=it)) for it in truths),
    ]


def _lenient(bound: str, value: float) -> float:
    """A bound on whose right side a decimal stays that the engine reads with an error in its last bit."""
    return value if value.is_integer() else math.nextafter(value, _AWAY[bound])


def _dates(key: str, operator: str, value: datetime) -> models.FieldCondition:
    bounds: dict[str, Any] = dict.fromkeys(_BOUNDS[operator], value)
    return models.FieldCondition(key=key, range=models.DatetimeRange(**bounds))


def _date(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _key(field: Any) -> str:
    """Where a field stands in the payload; each name in quotes, as it may hold anything but them."""
    root, dot, rest = field.partition(".") if isinstance(field, str) else ("", "", "")
    path = rest.split(".") if root == "meta" and dot else [root]
    known = path[0] if root == "meta" and dot else root not in _FIELDS and not dot
    if not known or not all(path) or any('"' in name for name in path):
        raise FilterError(
            f"field {field!r} cannot be compared so; give one of the metadata, such as meta.year"
        )
    return "metadata." + ".".join(f'"{name}"' for name in path)
