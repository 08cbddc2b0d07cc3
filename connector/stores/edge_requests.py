"""What this library writes and asks, in the words of Qdrant Edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import qdrant_edge as edge

from connector.core.types import Float32, Sparse
from connector.recipes import Quantization
from connector.schema import CollectionSchema, VectorSchema
from connector.stores.base import Fused, Nearest, Point, Query, Record

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
