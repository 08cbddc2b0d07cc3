"""What this library writes and asks, in the words of a Qdrant server."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client import models

from connector.core.types import Float32, Sparse
from connector.stores.base import Fused, Nearest, Point, Query, Record
from connector.stores.schema import VectorSchema

QUANTIZATIONS: dict[str, models.QuantizationConfig] = {
    "scalar": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    ),
    "product": models.ProductQuantization(
        product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X16, always_ram=True)
    ),
    **{
        name: models.TurboQuantization(
            turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize(bits), always_ram=True)
        )
        for name, bits in (
            ("turbo-4", "bits4"),
            ("turbo-2", "bits2"),
            ("turbo-1.5", "bits1_5"),
            ("turbo-1", "bits1"),
        )
    },
    **{
        name: models.BinaryQuantization(
            binary=models.BinaryQuantizationConfig(
                encoding=models.BinaryQuantizationEncoding(encoding), always_ram=True
            )
        )
        for name, encoding in (
            ("binary-2", "two_bits"),
            ("binary-1.5", "one_and_half_bits"),
            ("binary", "one_bit"),
        )
    },
}


def vector_params(vector: VectorSchema) -> models.VectorParams:
    """How a named vector is stored; multivectors are scored by MaxSim and have no graph."""
    params = models.VectorParams(
        size=vector.size, distance=models.Distance.DOT, datatype=models.Datatype(vector.datatype)
    )
    if vector.multivector:
        params.on_disk = True
        params.multivector_config = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        params.hnsw_config = models.HnswConfigDiff(m=0)
    elif vector.hnsw is not None:
        params.hnsw_config = hnsw(vector)
    if vector.quantization is not None:
        params.quantization_config = QUANTIZATIONS[vector.quantization]
    return params


def hnsw(vector: VectorSchema) -> models.HnswConfigDiff | None:
    """The graph of a vector, or None for the server's own."""
    return None if vector.hnsw is None else models.HnswConfigDiff(**vector.hnsw.model_dump())


def native(id_: Any) -> Any:
    """A point's id as Qdrant has it: ours are UUIDs, but those of other programs may be whole numbers."""
    return int(id_) if isinstance(id_, str) and id_.isascii() and id_.isdecimal() else id_


def point_vectors(point: Point) -> models.PointVectors:
    """The vectors of a point that is there."""
    return models.PointVectors(
        id=native(point.id), vector={name: listed(it) for name, it in point.vectors.items()}
    )


def point_struct(point: Point) -> models.PointStruct:
    """A whole point."""
    vectors: dict[str, Any] = {name: listed(vector) for name, vector in point.vectors.items()}
    return models.PointStruct(id=native(point.id), vector=vectors, payload=dict(point.payload))


def listed(vector: Float32 | Sparse) -> Any:
    """A vector as JSON has it."""
    if isinstance(vector, Sparse):
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist()


def parts(query: Query) -> dict[str, Any]:
    """What a request and a prefetch have alike."""
    if isinstance(query, Nearest):
        return {"query": listed(query.vector), "using": query.using, "limit": query.limit}
    return {"query": models.FusionQuery(fusion=models.Fusion(query.method)), "limit": query.limit}


def search_params(query: Query) -> models.SearchParams | None:
    """How many candidates of a quantized vector are scored again by the vectors themselves."""
    if isinstance(query, Fused) or query.oversampling is None:
        return None
    return models.SearchParams(
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=query.oversampling)
    )


def prefetches(query: Query, filter: models.Filter | None) -> list[models.Prefetch] | None:
    """The stages before a query, each with the filter."""
    inner = query.queries if isinstance(query, Fused) else (query.prefetch,)
    stages = [
        models.Prefetch(**parts(it), filter=filter, prefetch=prefetches(it, filter))
        for it in inner
        if it is not None
    ]
    return stages or None


def record(point: Any, score: float = 0.0) -> Record:
    """What a server gives back."""
    stored: dict[str, Any] = point.vector or {}
    vectors: dict[str, Float32] = {name: np.asarray(value, np.float32) for name, value in stored.items()}
    return Record(str(point.id), point.payload or {}, score, vectors)
