"""What this library writes and asks, in the words of a Qdrant server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from qdrant_client import models

from connector.stores.filters import Where
from connector.stores.points import Nearest, Point, Query, listed
from connector.stores.schema import CollectionSchema, PayloadKind, Quantization, VectorSchema

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


def vector_params(vector: VectorSchema, on_disk: bool | None = None) -> models.VectorParams:
    """How a named vector is stored; multivectors are scored by MaxSim, have no graph, and may lie on disk."""
    return models.VectorParams(
        size=vector.size,
        distance=models.Distance.DOT,
        datatype=models.Datatype(vector.datatype),
        on_disk=True if vector.multivector and on_disk is None else on_disk,
        multivector_config=_MAX_SIM if vector.multivector else None,
        hnsw_config=hnsw(vector),
        quantization_config=quantization(vector),
    )


def sparse_params(schema: CollectionSchema) -> models.SparseVectorParams:
    """How sparse vectors are indexed."""
    index = models.SparseIndexParams(
        datatype=models.Datatype(schema.weights), on_disk=schema.distribution.on_disk
    )
    return models.SparseVectorParams(index=index, modifier=models.Modifier.IDF)


def added_vector(vector: VectorSchema | str) -> models.VectorNameConfig:
    """A vector that a collection gets; a text names a sparse one."""
    if isinstance(vector, str):
        half = models.VectorStorageDatatype.FLOAT16
        sparse = models.SparseVectorConfig(modifier=models.Modifier.IDF, datatype=half)
        return models.SparseVectorNameConfig(sparse=sparse)
    alike = vector_params(vector).model_dump(include={*models.DenseVectorConfig.model_fields})
    return models.DenseVectorNameConfig(dense=models.DenseVectorConfig.model_validate(alike))


def index_params(kind: PayloadKind) -> Any:
    """An index of payload values."""
    values, _, tenant = kind.partition(":")
    if not tenant:
        return models.PayloadSchemaType(kind)
    params: Any = {"keyword": models.KeywordIndexParams, "uuid": models.UuidIndexParams}[values]
    return params(type=values, is_tenant=True)


def hnsw(vector: VectorSchema) -> models.HnswConfigDiff | None:
    """The graph of a vector, or None for the server's own."""
    if vector.multivector:
        return models.HnswConfigDiff(m=0)
    return None if vector.hnsw is None else models.HnswConfigDiff(**vector.hnsw.model_dump())


def native(id_: Any) -> Any:
    """A point's id as Qdrant has it: ours are UUIDs, but those of other programs may be whole numbers."""
    return int(id_) if isinstance(id_, str) and id_.isascii() and id_.isdecimal() else id_


def vectors_of(point: Point, prefix: str = "") -> dict[str, Any]:
    """The vectors of a point, whose names there have a prefix."""
    return {prefix + name: listed(models, vector) for name, vector in point.vectors.items()}


def amendments(points: Sequence[Point], prefix: str) -> list[models.UpdateOperation]:
    """What sets vectors and payload keys of points: first all vectors, then the payload of each point."""
    rows = [
        models.PointVectors(id=native(it.id), vector=vectors_of(it, prefix)) for it in points if it.vectors
    ]
    vectors = [models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=rows))]
    payloads = [
        models.SetPayload(payload=dict(it.payload), points=[native(it.id)]) for it in points if it.payload
    ]
    return [*(vectors if rows else []), *(models.SetPayloadOperation(set_payload=it) for it in payloads)]


def point_struct(point: Point) -> models.PointStruct:
    """A whole point."""
    return models.PointStruct(id=native(point.id), vector=vectors_of(point), payload=dict(point.payload))


def asked(query: Query, filter: Where, prefix: str = "") -> dict[str, Any]:
    """A query and the stages before it, each with the filter.

    Args:
        query: what is asked.
        filter: what points have to match.
        prefix: before the names of vectors.
    """
    stages = [models.Prefetch(**asked(it, filter, prefix=prefix)) for it in query.stages]
    request = {"limit": query.limit, "filter": filter, "prefetch": stages or None}
    if isinstance(query, Nearest):
        return request | {"query": listed(models, query.vector), "using": prefix + query.using}
    return request | {"query": models.FusionQuery(fusion=models.Fusion(query.method))}
