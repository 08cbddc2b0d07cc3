"""Haystack's documents and filters, and ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from haystack import Document as HaystackDocument
from haystack.errors import FilterError
from qdrant_client import models

from connector.core.errors import DocumentError, InputError
from connector.core.types import Document, Hit, point_id
from connector.integrations.common import titled
from connector.integrations.filters import all_of, any_of, date_of, empty, equal, none_of, ordered

_REST = "_haystack"
_FIELDS = {"id", "content", "blob", "meta", "score", "embedding", "sparse_embedding"}
_LOGIC: dict[str, Callable[[list[models.Filter]], models.Filter]] = {
    "AND": all_of,
    "OR": any_of,
    "NOT": lambda conditions: none_of([all_of(conditions)]),
}
_EQUAL = ("==", "!=", "in", "not in")
_ORDERED = (">", ">=", "<", "<=")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([Tt ].*)?")


def stored(document: HaystackDocument) -> Document:
    """The document as a collection holds it.

    Raises:
        DocumentError: it has no text, or holds what JSON does not have.
    """
    if document.content is None:
        raise DocumentError(f"document {document.id!r} has no content; convert it to text, or leave it out")
    if _REST in document.meta:
        raise DocumentError(f"document {document.id!r}: meta has the reserved key {_REST!r}; rename it")
    rest = {key: value for key, value in document.to_dict(flatten=False).items() if value is not None}
    id_, text, meta = rest.pop("id"), rest.pop("content"), rest.pop("meta")
    try:
        more = {_REST: json.dumps(rest)} if rest else {}
    except (TypeError, ValueError) as error:
        raise DocumentError(
            f"document {document.id!r}: {', '.join(rest)} cannot be stored: {error}"
        ) from error
    return Document(id_, text, metadata={**meta, **more})


def restored(found: Document | Hit) -> HaystackDocument:
    """What was given, and of a hit its own score; a title becomes `meta["title"]`, unless there is one."""
    meta = titled(found)
    rest: dict[str, Any] = json.loads(meta.pop(_REST, "{}"))
    if isinstance(found, Hit):
        rest["score"] = found.score
    return HaystackDocument.from_dict({**rest, "id": found.id, "content": found.text, "meta": meta})


def checked(documents: list[HaystackDocument]) -> list[HaystackDocument]:
    """Raises InputError unless this is a list of Haystack's documents."""
    if not isinstance(documents, list) or not all(isinstance(it, HaystackDocument) for it in documents):
        raise InputError(f"documents is {documents!r:.80}; give a list of haystack.Document")
    return documents


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
        raise FilterError(f"filter {condition!r:.80} is not a dictionary; give field, operator and value")
    names = ("field", "operator", "value") if "field" in condition else ("operator", "conditions")
    if missing := [name for name in names if name not in condition]:
        raise FilterError(f"filter {condition!r:.80} has no {missing[0]!r}; give one")
    if "field" in condition:
        return _comparison(*(condition[name] for name in names))
    operator, conditions = (condition[name] for name in names)
    if operator not in tuple(_LOGIC):
        raise FilterError(f"operator {operator!r} is unknown; the known ones of conditions: {tuple(_LOGIC)}")
    if not isinstance(conditions, list):
        raise FilterError(f"conditions is {conditions!r:.80}; give a list")
    return _LOGIC[operator]([_translated(it) for it in conditions])


def _comparison(field: Any, operator: Any, value: Any) -> models.Filter:
    if operator not in _EQUAL + _ORDERED:
        raise FilterError(f"operator {operator!r} is unknown; the known ones: {_EQUAL + _ORDERED}")
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"{field} {operator} {value!r:.80}: the value must be a list")
    try:
        if operator in _ORDERED:
            return _ordered(_key(field), operator, value)
        found = _equal(field, value if operator in ("in", "not in") else [value])
    except InputError as error:
        raise FilterError(str(error)) from error
    return found if operator in ("==", "in") else none_of([found])


def _equal(field: Any, values: list[Any]) -> models.Filter:
    """That the field has one of the values, of which None stands for having none."""
    if field == "id":
        ids = [point_id(value, 0) for value in values if isinstance(value, str)]
        return models.Filter(must=[models.HasIdCondition(has_id=list(ids))])
    key = _key(field)
    given = [it for it in values if it is not None]
    dates = [date_of(it) for it in given if isinstance(it, str) and _DATE.fullmatch(it)]
    found: list[Any] = [_single(key, lambda key: equal(key, given + [it for it in dates if it is not None]))]
    return any_of(found if len(given) == len(values) else [*found, empty(key)])


def _ordered(key: str, operator: str, value: Any) -> models.Filter:
    return any_of([]) if value is None else _single(key, lambda key: ordered(key, operator, value))


def _single(key: str, condition: Callable[[str], models.Filter]) -> models.Filter:
    """That the condition holds for a value that is not a list."""
    return models.Filter(must=[condition(key)], must_not=[condition(f"{key}[]")])


def _key(field: Any) -> str:
    """Where a field stands in the payload; each name in quotes, as it may hold anything but them."""
    root, dot, rest = field.partition(".") if isinstance(field, str) else ("", "", "")
    path = rest.split(".") if root == "meta" and dot else [root]
    known = path[0] if root == "meta" and dot else root not in _FIELDS and not dot
    if not known or not all(path) or any('"' in name for name in path):
        raise FilterError(f"field {field!r} cannot be compared so; give one such as meta.year")
    return "metadata." + ".".join(f'"{name}"' for name in path)
