"""Filters: from what a user writes to what each engine reads, and whether it asks for anything.

Users write `qdrant_client.models.Filter` on metadata keys ("year", "author.name"). In the payload they
stand under "metadata"; `on_metadata` puts the prefix on. Edge has its own classes for the same tree;
`to_edge` translates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qdrant_client import models

from connector.core.errors import InputError

Where = models.Filter | None
"""What points have to match; None for nothing."""


_PREFIX = "metadata."


def on_metadata(filter: Where) -> Where:
    """The filter with every key below "metadata."; keys that are there already stay as they are."""
    if filter is None:
        return None
    if not isinstance(filter, models.Filter):
        raise InputError(f"filter is a {type(filter).__name__}; give a qdrant_client.models.Filter")
    return renamed(filter, on_key)


def on_key(key: str) -> str:
    """The payload key of a metadata key."""
    return key if key.startswith(_PREFIX) else _PREFIX + key


def off_key(key: str) -> str:
    """The metadata key of a payload key."""
    return key.removeprefix(_PREFIX)


def renamed(
    filter: models.Filter, key: Callable[[str], str], *, id: Callable[[Any], Any] = lambda it: it
) -> models.Filter:
    """The filter with other payload keys and ids of points.

    Args:
        filter: whose keys inside a nested condition, relative to its own, stay.
        key, id: give the other one.
    """

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "nested" in node:
            return {"nested": {**node["nested"], "key": key(node["nested"]["key"])}}
        return {name: change.get(name, walk)(value) for name, value in node.items()}

    change: dict[str, Callable[[Any], Any]] = {
        "key": key,
        "match": lambda it: it,
        "has_id": lambda ids: [id(it) for it in ids],
    }
    return models.Filter.model_validate(walk(filter.model_dump(exclude_unset=True, by_alias=True)))


def matches_all(filter: models.Filter) -> bool:
    """Whether a filter may match every point whatever its conditions ask for, as one without any does.

    A condition that asks for nothing, such as an empty range, counts as true or false, whichever makes the
    filter match more: engines differ, and what it matches was not asked for. That a value is one of none is
    false.
    """
    return _certain(filter)[0]


def _certain(node: Any) -> tuple[bool, bool]:
    """Whether a part of a filter may be true whatever its conditions ask for; whether it may be false."""
    match node:
        case models.Filter():
            parts = [*map(_certain, _listed(node.must))]
            parts += [(false, true) for true, false in map(_certain, _listed(node.must_not))]
            if node.should:
                parts.append(_at_least(1, map(_certain, _listed(node.should))))
            if node.min_should is not None:
                parts.append(_at_least(node.min_should.min_count, map(_certain, node.min_should.conditions)))
            return _at_least(len(parts), parts)
        case models.NestedCondition():
            true, false = _certain(node.nested.filter)
            return true, true or false  # there may be nothing under the key
        case models.HasIdCondition():
            return False, not node.has_id
        case models.FieldCondition():
            asked = node.model_dump(exclude_none=True, exclude={"key"})
            if asked == {"match": {"any": []}}:
                return False, True
            nothing = not asked or any(map(_asks_nothing, asked.values()))
            return nothing, nothing
    return False, False


def _at_least(count: int, parts: Iterable[tuple[bool, bool]]) -> tuple[bool, bool]:
    """The same for so many of the parts together."""
    them = [*parts]
    return sum(true for true, _ in them) >= count, sum(false for _, false in them) > len(them) - count


def _listed(conditions: Any) -> list[Any]:
    return conditions if isinstance(conditions, list) else [conditions] if conditions is not None else []


def _asks_nothing(part: Any) -> bool:
    """Whether a part of a condition on a key holds no value; an empty text that is to be equal is one."""
    return isinstance(part, dict) and "value" not in part and all(it in ("", []) for it in part.values())
