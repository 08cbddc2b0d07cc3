"""What this library writes and asks, in the words of Qdrant Edge."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from pydantic import BaseModel
from qdrant_client import models

from connector.core.errors import InputError
from connector.core.types import Sparse
from connector.stores.points import Nearest, Point, Query, Refusal, listed
from connector.stores.schema import CollectionSchema, Hnsw, PayloadKind, Quantization, VectorSchema

_MEMORY, _BITS, _ENCODING = edge.Memory.Pinned, edge.TurboQuantBitSize, edge.BinaryQuantizationEncoding


_QUANTIZATIONS: dict[Quantization, Any] = {
    "scalar": edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=_MEMORY),
    "product": edge.ProductQuantizationConfig(edge.CompressionRatio.X16, memory=_MEMORY),
    "turbo-4": edge.TurboQuantQuantizationConfig(bits=_BITS.Bits4, memory=_MEMORY),
    "turbo-2": edge.TurboQuantQuantizationConfig(bits=_BITS.Bits2, memory=_MEMORY),
    "turbo-1.5": edge.TurboQuantQuantizationConfig(bits=_BITS.Bits1_5, memory=_MEMORY),
    "turbo-1": edge.TurboQuantQuantizationConfig(bits=_BITS.Bits1, memory=_MEMORY),
    "binary-2": edge.BinaryQuantizationConfig(encoding=_ENCODING.TwoBits, memory=_MEMORY),
    "binary-1.5": edge.BinaryQuantizationConfig(encoding=_ENCODING.OneAndHalfBits, memory=_MEMORY),
    "binary": edge.BinaryQuantizationConfig(encoding=_ENCODING.OneBit, memory=_MEMORY),
}


def config(schema: CollectionSchema) -> edge.EdgeConfig:
    """A collection, with a write-ahead log."""
    return edge.EdgeConfig(
        vectors={it.name: _vector_params(it, schema.distribution.on_disk) for it in schema.vectors},
        sparse_vectors={
            name: edge.EdgeSparseVectorParams(
                modifier=edge.Modifier.Idf,
                datatype=getattr(edge.VectorStorageDatatype, schema.weights.capitalize()),
                memory=_memory(schema.distribution.on_disk),
            )
            for name in schema.sparse
        },
        payload_memory=_memory(schema.distribution.on_disk_payload),
        wal_enabled=True,
    )


def _memory(on_disk: bool | None) -> edge.Memory | None:
    return None if on_disk is None else edge.Memory.Cold if on_disk else edge.Memory.Cached


def _vector_params(vector: VectorSchema, on_disk: bool | None) -> edge.EdgeVectorParams:
    params: dict[str, Any] = {
        "datatype": getattr(edge.VectorStorageDatatype, vector.datatype.capitalize()),
        "memory": _memory(on_disk),
    }
    hnsw = vector.hnsw
    if vector.multivector:
        hnsw = Hnsw(m=0)
        params["multivector_config"] = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
        if vector.quantization is not None:
            params["quantization_config"] = _QUANTIZATIONS[vector.quantization]
            params["memory"] = _memory(True if on_disk is None else on_disk)
    if hnsw is not None:
        params["hnsw_config"] = edge.HnswIndexConfig(hnsw.m, hnsw.ef_construct, full_scan_threshold=10_000)
    return edge.EdgeVectorParams(vector.size, edge.Distance.Dot, **params)


def index_params(kind: PayloadKind) -> Any:
    """An index of payload values."""
    values, _, tenant = kind.partition(":")
    if not tenant:
        return getattr(edge.PayloadSchemaType, kind.capitalize())
    return {"keyword": edge.KeywordIndexParams, "uuid": edge.UuidIndexParams}[values](is_tenant=True)


def vectors_of(point: Point) -> dict[str, Any]:
    """The vectors of a point."""
    return {name: listed(edge, vector) for name, vector in point.vectors.items()}


_RRF_K = 2
"""What servers take when nothing is said."""


def scored_by(query: Query) -> Any:
    """What a query scores by."""
    if isinstance(query, Nearest):
        return edge.Query.Nearest(listed(edge, query.vector), query.using)
    return edge.Fusion.Rrf(k=_RRF_K) if query.method == "rrf" else edge.Fusion.Dbsf()


def prefetches(query: Query, where: edge.Filter | None) -> list[edge.Prefetch]:
    """The stages before a query, each with the filter."""
    return [
        edge.Prefetch(limit=it.limit, query=scored_by(it), prefetches=prefetches(it, where), filter=where)
        for it in query.stages
    ]


def checker(shard: Path) -> Callable[[Sequence[Point]], None]:
    """What raises Refusal unless the shard in this folder takes the vectors of all points that it is given.

    The engine would take the others, and read its log no more.

    Raises:
        Refusal: the shard says nothing that can be read.
    """
    try:
        there = json.loads((shard / "edge_config.json").read_text(encoding="utf-8"))
        takes = dict.fromkeys(there.get("sparse_vectors") or (), "sparse")
        takes |= {
            name: _shape(2 if it.get("multivector_config") else 1, it["size"])
            for name, it in there["vectors"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"Qdrant Edge: {shard} does not say what it holds ({error!r}); restore it") from error

    def check(points: Sequence[Point]) -> None:
        for point in points:
            for name, vector in point.vectors.items():
                given = "sparse" if isinstance(vector, Sparse) else _shape(vector.ndim, *vector.shape)
                if given != takes.get(name):
                    wanted = takes.get(name) or f"only {', '.join(sorted(takes))}"
                    raise Refusal(
                        f"Qdrant Edge: vector {name!r} of point {point.id} is {given}; the collection takes "
                        f"{wanted} there"
                    )

    return check


def _shape(axes: int, *shape: int) -> str:
    if 0 in shape or axes not in (1, 2):
        return f"of shape {shape}"
    return f"{'one row' if axes == 1 else 'rows'} of {shape[-1]}"


def to_edge(filter: models.Filter | None) -> edge.Filter | None:
    """The same filter in Edge's classes.

    Raises:
        InputError: it holds a condition that Edge does not have.
    """
    try:
        converted: edge.Filter | None = _in_edge(filter)
        return converted
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"filter cannot be used: {reason}; quote keys that have spaces, give point ids as UUIDs"
        ) from error


_RENAMED = {"Range": "RangeFloat", "DatetimeRange": "RangeDateTime"}


def _in_edge(node: Any) -> Any:
    """A part of a filter: mostly, Edge has a class of the same name with the same fields."""
    match node:
        case list():
            return [_in_edge(it) for it in node]
        case datetime.date():
            return node.isoformat()
        case models.GeoLineString():
            return _in_edge(node.points)
        case models.PayloadField():
            return node.key
        case models.HasIdCondition():
            return edge.HasIdCondition(set(node.has_id))
        case models.NestedCondition():
            return edge.NestedCondition(node.nested.key, _in_edge(node.nested.filter))
        case models.MatchValue(value=bool(value)):
            # A Python bool is an int to the engine, which would look for 1 and find no true; NumPy's is not.
            flag: Any = np.bool_(value)
            return edge.MatchValue(flag)
        case models.Filter():
            fields = {
                key: [it] if isinstance(it, BaseModel) and key != "min_should" else it for key, it in node
            }
            return edge.Filter(**{key: _in_edge(it) for key, it in fields.items()})
        case BaseModel():
            name = type(node).__name__
            engine = getattr(edge, _RENAMED.get(name, name), None)
            if engine is None:
                raise InputError(f"the embedded engine has no {name}; use a server for this filter")
            fields = {key: _in_edge(it) for key, it in node}
            return engine(*fields.values()) if len(fields) == 1 else engine(**fields)
        case int() if not -(2**63) <= node < 2**63:
            raise InputError(f"{node} is wider than 64 bits, and no document holds such a number")
    return node
