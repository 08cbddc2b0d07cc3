"""Filters: from what a user writes to what each engine reads.

Users write `qdrant_client.models.Filter` on metadata keys ("year", "author.name"). In the payload they
stand under "metadata"; `on_metadata` puts the prefix on. Edge has its own classes for the same tree;
`to_edge` translates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import qdrant_edge as edge
from pydantic import BaseModel
from qdrant_client import models

from connector.core.errors import InputError

_PREFIX = "metadata."


def on_metadata(filter: models.Filter | None) -> models.Filter | None:
    """The filter with every key below "metadata."; keys that are there already stay as they are."""
    if filter is None:
        return None
    if not isinstance(filter, models.Filter):
        raise InputError(f"filter is a {type(filter).__name__}; give a qdrant_client.models.Filter")
    return renamed(filter, _with_prefix)


def renamed(
    filter: models.Filter,
    key: Callable[[str], str],
    *,
    id: Callable[[Any], Any] = lambda it: it,
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


def to_edge(filter: models.Filter | None) -> edge.Filter | None:
    """The same filter in Edge's classes.

    Raises:
        InputError: it holds a condition that Edge does not have.
    """
    if filter is None:
        return None
    try:
        return _to_edge(filter)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"filter cannot be used: {reason}; quote keys that have spaces, give point ids as UUIDs"
        ) from error


def _to_edge(filter: models.Filter) -> edge.Filter:
    return edge.Filter(
        must=_conditions(filter.must),
        should=_conditions(filter.should),
        must_not=_conditions(filter.must_not),
        min_should=_if(
            filter.min_should,
            lambda minimum: edge.MinShould(_conditions(minimum.conditions) or [], minimum.min_count),
        ),
    )


def _conditions(conditions: Any) -> list[Any] | None:
    if conditions is None:
        return None
    return [_condition(item) for item in (conditions if isinstance(conditions, list) else [conditions])]


def _condition(condition: BaseModel) -> Any:
    match condition:
        case models.Filter():
            return to_edge(condition)
        case models.FieldCondition():
            return _field(condition)
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(condition.is_empty.key)
        case models.IsNullCondition():
            return edge.IsNullCondition(condition.is_null.key)
        case models.HasIdCondition():
            return edge.HasIdCondition(set(condition.has_id))
        case models.HasVectorCondition():
            return edge.HasVectorCondition(condition.has_vector)
        case models.NestedCondition():
            inner = to_edge(condition.nested.filter)
            return edge.NestedCondition(condition.nested.key, inner or edge.Filter())
    raise InputError(f"the embedded engine has no {type(condition).__name__}; use a server for this filter")


def _field(field: models.FieldCondition) -> edge.FieldCondition:
    return edge.FieldCondition(
        field.key,
        match=_if(field.match, _match),
        range=_if(field.range, _range),
        geo_bounding_box=_if(
            field.geo_bounding_box,
            lambda box: edge.GeoBoundingBox(_point(box.top_left), _point(box.bottom_right)),
        ),
        geo_radius=_if(field.geo_radius, lambda circle: edge.GeoRadius(_point(circle.center), circle.radius)),
        geo_polygon=_if(
            field.geo_polygon,
            lambda polygon: edge.GeoPolygon(
                _points(polygon.exterior), [_points(line) for line in polygon.interiors or []]
            ),
        ),
        values_count=_if(field.values_count, lambda count: edge.ValuesCount(**count.model_dump())),
        is_empty=field.is_empty,
        is_null=field.is_null,
    )


def _if(value: Any, translate: Callable[[Any], Any]) -> Any:
    return None if value is None else translate(value)


def _match(match: BaseModel) -> Any:
    engine = getattr(edge, type(match).__name__, None)
    if engine is None:
        raise InputError(f"the embedded engine has no {type(match).__name__}; use a server for this filter")
    (value,) = match.model_dump(by_alias=True).values()
    # A Python bool is an int to the engine, which would look for 1 and find no true; NumPy's is not.
    return engine(np.bool_(value) if isinstance(value, bool) else value)


def _range(bounds: models.Range | models.DatetimeRange) -> Any:
    if isinstance(bounds, models.Range):
        return edge.RangeFloat(**bounds.model_dump())
    texts = {key: value and value.isoformat() for key, value in bounds.model_dump().items()}
    return edge.RangeDateTime(**texts)


def _point(point: models.GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(point.lon, point.lat)


def _points(line: models.GeoLineString) -> list[edge.GeoPoint]:
    return [_point(point) for point in line.points]
