"""A recipe as Qdrant parameters, without saying which engine they are for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connector.compression.codecs.base import Datatype, stored_bytes

CLS = "cls"


TOKENS = "tokens"


LEXICAL = "lexical"


FDE = "fde"


class Hnsw(BaseModel):
    """The graph by which the nearest CLS vectors are found.

    Args:
        m: edges of a node; more find better and take more memory. 0 makes no graph.
        ef_construct: neighbours that are looked at while it is built.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int = Field(default=16, ge=0, le=1024)
    ef_construct: int = Field(default=100, ge=4, le=10_000)


class Copies(BaseModel):
    """How a cluster spreads a collection. None leaves it to the cluster.

    Args:
        shards: parts of the collection.
        replicas: copies of each part, on different nodes.
        acknowledged: how many of them a write waits for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: int | None = Field(default=None, ge=1)
    replicas: int | None = Field(default=None, ge=1)
    acknowledged: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class VectorSchema:
    """One named vector of a collection. The distance is always DOT, and we normalise.

    Args:
        name: its name in Qdrant.
        size: the width.
        datatype: stored type of a coordinate.
        multivector: whether a point has many rows of it, compared by MaxSim and without an HNSW graph.
        quantization: what Qdrant keeps in memory beside the vectors, to score them faster.
        hnsw: its graph; None for the engine's own choice.
    """

    name: str
    size: int
    datatype: Datatype
    multivector: bool = False
    quantization: Quantization | None = None
    hnsw: Hnsw | None = None

    @property
    def bytes_per_row(self) -> int:
        """Stored bytes of one row."""
        return stored_bytes(self.datatype, self.size)


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """The vectors of a collection.

    Args:
        vectors: the dense ones.
        sparse: names of the sparse ones, scored with inverse document frequencies.
        copies: how a cluster spreads it.
    """

    vectors: tuple[VectorSchema, ...]
    sparse: tuple[str, ...] = ()
    copies: Copies = field(default_factory=Copies)

    def vector(self, name: str) -> VectorSchema:
        """The dense vector of this name."""
        return next(vector for vector in self.vectors if vector.name == name)


Layout = Literal["dense", "multivector", "codes"]


Quantization = Literal[
    "scalar", "turbo-4", "turbo-2", "turbo-1.5", "turbo-1", "binary-2", "binary-1.5", "binary", "product"
]
