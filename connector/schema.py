"""A recipe as Qdrant parameters, without saying which engine they are for."""

from __future__ import annotations

from dataclasses import dataclass

from connector.codecs.base import Datatype, stored_bytes
from connector.muvera import Muvera
from connector.recipes import Quantization, Recipe

CLS = "cls"
TOKENS = "tokens"
LEXICAL = "lexical"
FDE = "fde"


@dataclass(frozen=True, slots=True)
class VectorSchema:
    """One named vector of a collection. The distance is always DOT, and we normalise.

    Args:
        name: its name in Qdrant.
        size: the width.
        datatype: stored type of a coordinate.
        multivector: whether a point has many rows of it, compared by MaxSim and without an HNSW graph.
        quantization: what Qdrant keeps in memory beside the vectors, to score them faster.
    """

    name: str
    size: int
    datatype: Datatype
    multivector: bool = False
    quantization: Quantization | None = None

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
    """

    vectors: tuple[VectorSchema, ...]
    sparse: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, cls_width: int, token_width: int) -> CollectionSchema:
        """The schema of a recipe under an encoder of these widths."""
        vectors = [VectorSchema(CLS, cls_width, recipe.cls)]
        if recipe.layout != "dense":
            codec = recipe.make_codec()
            width = codec.width(token_width)
            if codec.datatype is not None and recipe.layout == "multivector":
                vectors.append(VectorSchema(TOKENS, width, codec.datatype, True, recipe.quantization))
            if recipe.fde is not None:
                vectors.append(VectorSchema(FDE, Muvera.size(width), "turbo4"))
        return cls(tuple(vectors), () if recipe.lexical is None else (LEXICAL,))
