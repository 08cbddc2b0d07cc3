"""A recipe as Qdrant parameters, without saying which engine they are for."""

from __future__ import annotations

from dataclasses import dataclass

from connector.recipes import Datatype, Recipe

CLS = "cls"
TOKENS = "tokens"

_BITS = {"float32": 32, "float16": 16, "turbo4": 4}
_TURBO_HEADER = 4
"""Bytes that Qdrant keeps with each turbo4 vector, measured on the engine's files."""


@dataclass(frozen=True, slots=True)
class VectorSchema:
    """One named vector of a collection. The distance is always DOT, and we normalise.

    Args:
        name: its name in Qdrant.
        size: the width.
        datatype: stored type of a coordinate.
        multivector: whether a point has many rows of it, compared by MaxSim and without an HNSW graph.
    """

    name: str
    size: int
    datatype: Datatype
    multivector: bool = False

    @property
    def bytes_per_row(self) -> int:
        """Stored bytes of one row."""
        return self.size * _BITS[self.datatype] // 8 + (_TURBO_HEADER if self.datatype == "turbo4" else 0)


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """The vectors of a collection."""

    vectors: tuple[VectorSchema, ...]

    @classmethod
    def of(cls, recipe: Recipe, cls_width: int, token_width: int) -> CollectionSchema:
        """The schema of a recipe under an encoder of these widths."""
        vectors = [VectorSchema(CLS, cls_width, recipe.cls)]
        if recipe.layout == "multivector":
            codec = recipe.make_codec()
            width = codec.width(token_width)
            datatype: Datatype = "float16" if codec.bytes_per_token(token_width) == 2 * width else "float32"
            vectors.append(VectorSchema(TOKENS, width, datatype, multivector=True))
        return cls(tuple(vectors))
