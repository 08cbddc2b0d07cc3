"""What this library writes and asks, in the words of Qdrant Edge."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from pydantic import BaseModel
from qdrant_client import models

from connector.core.errors import InputError
from connector.core.types import Float32, Sparse
from connector.stores.base import Fused, Nearest, Point, Query, Record
from connector.stores.batching import Refusal
from connector.stores.schema import CollectionSchema, Quantization, VectorSchema

DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
    "turbo4": edge.VectorStorageDatatype.Turbo4,  # type: ignore[attr-defined]  # not in its stubs
}


_MEMORY = edge.Memory.Pinned


_QUANTIZATIONS: dict[Quantization, Any] = {
    "scalar": edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=_MEMORY),
    "product": edge.ProductQuantizationConfig(edge.CompressionRatio.X16, memory=_MEMORY),
    "turbo-4": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits4, memory=_MEMORY),
    "turbo-2": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits2, memory=_MEMORY),
    "turbo-1.5": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits1_5, memory=_MEMORY),
    "turbo-1": edge.TurboQuantQuantizationConfig(bits=edge.TurboQuantBitSize.Bits1, memory=_MEMORY),
    "binary-2": edge.BinaryQuantizationConfig(
        encoding=edge.BinaryQuantizationEncoding.TwoBits, memory=_MEMORY
    ),
    "binary-1.5": edge.BinaryQuantizationConfig(
        encoding=edge.BinaryQuantizationEncoding.OneAndHalfBits, memory=_MEMORY
    ),
    "binary": edge.BinaryQuantizationConfig(encoding=edge.BinaryQuantizationEncoding.OneBit, memory=_MEMORY),
}


def config(schema: CollectionSchema) -> edge.EdgeConfig:
    """A collection, with a write-ahead log."""
    return edge.EdgeConfig(
        vectors={vector.name: _vector_params(vector) for vector in schema.vectors},
        sparse_vectors={
            name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for name in schema.sparse
        },
        wal_enabled=True,
    )


def _vector_params(vector: VectorSchema) -> edge.EdgeVectorParams:
    if not vector.multivector:
        return edge.EdgeVectorParams(
            vector.size, edge.Distance.Dot, datatype=DATATYPES[vector.datatype], hnsw_config=_hnsw(vector)
        )
    return edge.EdgeVectorParams(
        vector.size,
        edge.Distance.Dot,
        datatype=DATATYPES[vector.datatype],
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
        hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        quantization_config=None if vector.quantization is None else _QUANTIZATIONS[vector.quantization],
        memory=None if vector.quantization is None else edge.Memory.Cold,
    )


def _hnsw(vector: VectorSchema) -> edge.HnswIndexConfig | None:
    if vector.hnsw is None:
        return None
    return edge.HnswIndexConfig(
        m=vector.hnsw.m, ef_construct=vector.hnsw.ef_construct, full_scan_threshold=10_000
    )


def struct(point: Point) -> edge.Point:
    """A whole point."""
    return edge.Point(point.id, listed(point.vectors), dict(point.payload))


def listed(vectors: Mapping[str, Float32 | Sparse]) -> dict[str, Any]:
    """The vectors of a point."""
    return {name: _listed(vector) for name, vector in vectors.items()}


def _listed(vector: Float32 | Sparse) -> Any:
    """The engine takes lists in half the time that it takes arrays."""
    if isinstance(vector, Sparse):
        return edge.SparseVector(vector.indices.tolist(), vector.values.tolist())
    return vector.tolist()


def searched(query: Query) -> Any:
    """What a query scores by."""
    if isinstance(query, Nearest):
        return edge.Query.Nearest(_listed(query.vector), query.using)
    return edge.Fusion.Rrf(k=_RRF_K) if query.method == "rrf" else edge.Fusion.Dbsf()


_RRF_K = 2
"""What servers take when nothing is said."""


def search_params(query: Nearest) -> edge.SearchParams | None:
    """How many candidates of a quantized vector are scored again by the vectors themselves."""
    if query.oversampling is None:
        return None
    return edge.SearchParams(
        quantization=edge.QuantizationSearchParams(rescore=True, oversampling=query.oversampling)
    )


def prefetches(query: Query, where: edge.Filter | None) -> list[edge.Prefetch]:
    """The stages before a query, each with the filter."""
    inner = query.queries if isinstance(query, Fused) else (query.prefetch,)
    return [
        edge.Prefetch(limit=it.limit, query=searched(it), prefetches=prefetches(it, where), filter=where)
        for it in inner
        if it is not None
    ]


def record(point: Any, score: float = 0.0) -> Record:
    """What the engine gives back."""
    if not point.vector:
        return Record(point.id, point.payload or {}, score)
    vectors = {name: np.asarray(value, np.float32) for name, value in point.vector.items()}
    return Record(point.id, point.payload or {}, score, vectors)


@dataclass(frozen=True, slots=True)
class Taken:
    """The vectors of a shard: width and number of axes of the dense ones, and names of the sparse ones."""

    dense: Mapping[str, tuple[int, int]]
    sparse: frozenset[str]

    @classmethod
    def of(cls, shard: Path) -> Taken:
        """What the shard in this folder says.

        Raises:
            Refusal: it says nothing that can be read.
        """
        try:
            config = json.loads((shard / "edge_config.json").read_text(encoding="utf-8"))
            dense = {
                name: (int(it["size"]), 2 if it.get("multivector_config") else 1)
                for name, it in config["vectors"].items()
            }
            return cls(dense, frozenset(config.get("sparse_vectors") or ()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refusal(
                f"Qdrant Edge: {shard} does not say what it holds ({error!r}); restore it"
            ) from error

    def check(self, points: Sequence[Point]) -> None:
        """Raises Refusal unless the shard takes the vectors of all these points."""
        for point in points:
            for name, vector in point.vectors.items():
                if not self._takes(name, vector):
                    raise Refusal(
                        f"Qdrant Edge: vector {name!r} of point {point.id} is {_said(vector)}; the "
                        f"collection takes {self._wanted(name)}"
                    )

    def _takes(self, name: str, vector: Float32 | Sparse) -> bool:
        if isinstance(vector, Sparse):
            return name in self.sparse
        if name not in self.dense or 0 in vector.shape:
            return False
        return (vector.shape[-1], vector.ndim) == self.dense[name]

    def _wanted(self, name: str) -> str:
        if name in self.sparse:
            return "a sparse one there"
        if name in self.dense:
            width, axes = self.dense[name]
            return f"{'rows' if axes == 2 else 'one row'} of {width} there"
        return f"only {', '.join(sorted([*self.dense, *self.sparse]))}"


def _said(vector: Float32 | Sparse) -> str:
    return "sparse" if isinstance(vector, Sparse) else " × ".join(map(str, vector.shape))


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
