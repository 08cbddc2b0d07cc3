"""Filters: from what a user writes to what each engine reads.

Users write `qdrant_client.models.Filter` on metadata keys ("year", "author.name"). In the payload they
stand under "metadata"; `on_metadata` puts the prefix on. Edge has its own classes for the same tree;
`to_edge` translates.
"""

from __future__ import annotations

from collections.abc import Callable
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
    return renamed(filter, _with_prefix)


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


def _with_prefix(key: str) -> str:
    return key if key.startswith(_PREFIX) else _PREFIX + key
