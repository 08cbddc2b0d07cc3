"""What a collection is made of, whichever engine keeps it: its vectors, and how a cluster spreads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connector.compression.codecs.scalar_quantization import Datatype
from connector.core.arguments import invalid

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


Copies = Annotated[int, Field(ge=1, le=2**32 - 1)]
"""How many shards, or copies of them, in Qdrant's 32 bits."""


class Distribution(BaseModel):
    """How a server keeps a collection, and a cluster spreads it. None leaves it to them.

    Args:
        shard_number: parts of the collection.
        replication_factor: copies of each part, on different nodes.
        write_consistency_factor: how many of them a write waits for.
        on_disk: whether vectors are read from disk, else they are kept in memory.
        on_disk_payload: likewise the payload.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    shard_number: Copies | None = Field(default=None, alias="shards")
    replication_factor: Copies | None = Field(default=None, alias="replicas")
    write_consistency_factor: Copies | None = Field(default=None, alias="acknowledged")
    on_disk: bool | None = None
    on_disk_payload: bool | None = None

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Distribution | None:
        """What options say of it, which are taken out of them; None if they say nothing.

        Raises:
            InputError: a value cannot be used.
        """
        given = {name: options.pop(name) for name in cls.model_fields if name in options}
        try:
            made = cls.model_validate(given, strict=True)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            name = next((it for it, field in cls.model_fields.items() if name == field.alias), name)
            raise invalid(name, given[name], error) from None
        return None if made == cls() else made


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


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """The vectors of a collection.

    Args:
        vectors: the dense ones.
        sparse: names of the sparse ones, scored with inverse document frequencies.
        distribution: how a cluster spreads it.
        weights: type of the sparse ones' values in the index that large collections have beside them.
        indexes: payload keys that are indexed, and the kinds of their values.
        filtered: those that this library itself filters by, which a strict server wants indexed, too.
    """

    vectors: tuple[VectorSchema, ...]
    sparse: tuple[str, ...] = ()
    distribution: Distribution = field(default_factory=Distribution)
    weights: Literal["float16", "float32"] = "float32"
    indexes: Mapping[str, PayloadKind] = field(default_factory=dict)
    filtered: Mapping[str, PayloadKind] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all vectors."""
        return [*(vector.name for vector in self.vectors), *self.sparse]

    def vector(self, name: str) -> VectorSchema:
        """The dense vector of this name."""
        return next(vector for vector in self.vectors if vector.name == name)


Layout = Literal["dense", "multivector", "codes"]


Quantization = Literal[
    "scalar", "turbo-4", "turbo-2", "turbo-1.5", "turbo-1", "binary-2", "binary-1.5", "binary", "product"
]


PayloadKind = Literal[
    "keyword",
    "integer",
    "float",
    "bool",
    "datetime",
    "uuid",
    "text",
    "geo",
    "keyword:tenant",
    "uuid:tenant",
]
"""What an index of payload values is for; one of tenants keeps the points of each together (`is_tenant`)."""


FILTERED: Mapping[str, PayloadKind] = dict.fromkeys(("passage", "passages", "words"), "integer")
"""Payload keys of points by which passages are told from marks, and documents from their passages."""


OWN = "late_"
"""Before the payload keys, vectors and descriptions that this library adds to points of other programs."""
