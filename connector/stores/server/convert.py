"""What this library writes and asks, in the words of a Qdrant server."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from qdrant_client import models

from connector.core.types import Float32, Sparse
from connector.stores.base import Fused, Nearest, Point, Query
from connector.stores.schema import Quantization, VectorSchema

_QUANTIZATIONS: dict[Quantization, tuple[str, dict[str, str]]] = {
    "scalar": ("scalar", {"type": "int8"}),
    "product": ("product", {"compression": "x16"}),
    "turbo-4": ("turbo", {"bits": "bits4"}),
    "turbo-2": ("turbo", {"bits": "bits2"}),
    "turbo-1.5": ("turbo", {"bits": "bits1_5"}),
    "turbo-1": ("turbo", {"bits": "bits1"}),
    "binary-2": ("binary", {"encoding": "two_bits"}),
    "binary-1.5": ("binary", {"encoding": "one_and_half_bits"}),
    "binary": ("binary", {"encoding": "one_bit"}),
}


def quantization(vector: VectorSchema) -> Any:
    """What the server keeps in memory beside a vector; None for nothing."""
    if vector.quantization is None:
        return None
    kind, settings = _QUANTIZATIONS[vector.quantization]
    config: Any = models.QuantizationConfig
    return TypeAdapter(config).validate_python({kind: {**settings, "always_ram": True}})


_MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)


def vector_params(vector: VectorSchema) -> models.VectorParams:
    """How a named vector is stored; multivectors are scored by MaxSim and have no graph."""
    return models.VectorParams(
        size=vector.size,
        distance=models.Distance.DOT,
        datatype=models.Datatype(vector.datatype),
        on_disk=True if vector.multivector else None,
        multivector_config=_MAX_SIM if vector.multivector else None,
        hnsw_config=hnsw(vector),
        quantization_config=quantization(vector),
    )


def added_vector(vector: VectorSchema | str) -> models.VectorNameConfig:
    """A vector that a collection gets; a text names a sparse one."""
    if isinstance(vector, str):
        sparse = models.SparseVectorConfig(modifier=models.Modifier.IDF)
        return models.SparseVectorNameConfig(sparse=sparse)
    dense = models.DenseVectorConfig(
        size=vector.size,
        distance=models.Distance.DOT,
        datatype=models.VectorStorageDatatype(vector.datatype),
        multivector_config=_MAX_SIM if vector.multivector else None,
    )
    return models.DenseVectorNameConfig(dense=dense)


def hnsw(vector: VectorSchema) -> models.HnswConfigDiff | None:
    """The graph of a vector, or None for the server's own."""
    if vector.multivector:
        return models.HnswConfigDiff(m=0)
    return None if vector.hnsw is None else models.HnswConfigDiff(**vector.hnsw.model_dump())


def native(id_: Any) -> Any:
    """A point's id as Qdrant has it: ours are UUIDs, but those of other programs may be whole numbers."""
    return int(id_) if isinstance(id_, str) and id_.isascii() and id_.isdecimal() else id_


def vectors_of(point: Point) -> dict[str, Any]:
    """The vectors of a point."""
    return {name: listed(vector) for name, vector in point.vectors.items()}


def point_struct(point: Point) -> models.PointStruct:
    """A whole point."""
    return models.PointStruct(id=native(point.id), vector=vectors_of(point), payload=dict(point.payload))


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
    stages = [
        models.Prefetch(**parts(it), filter=filter, prefetch=prefetches(it, filter)) for it in query.stages
    ]
    return stages or None
