"""Scalar quantizers: each coordinate of a token vector by itself, nothing learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.compression.codecs.base import Datatype, Ending, Quantizer, stored_bytes
from connector.compression.codecs.bit_packing import byte_places, byte_tables, from_bytes, pack, unpack
from connector.compression.codecs.projection import Rotation
from connector.core.errors import RecipeError
from connector.core.registry import Method
from connector.core.types import Float32
from connector.scoring.maxsim import Scorer, lookups


class Vectors(Quantizer):
    """Vectors that Qdrant itself stores and scores.

    Args:
        datatype: "float32"; "float16" (each coordinate x rounded by at most max(2⁻¹¹·|x|, 2⁻²⁵)), "turbo8" or
            "turbo4" (Qdrant's rotated quantization, done by Qdrant: what `encode` gives are floats).
    """

    datatype: Datatype

    def __init__(self, datatype: Datatype) -> None:
        super().__init__(datatype)
        self.datatype = datatype
        self.dtype = np.dtype("float16" if datatype == "float16" else "float32")

    def bytes_per_token(self, width: int) -> int:
        return stored_bytes(self.datatype, width)

    def encode(self, tokens: Float32) -> NDArray[Any]:
        return tokens.astype(self.dtype)

    def decode(self, codes: NDArray[Any]) -> Float32:
        return codes.astype(np.float32, copy=False)


class Int8(Quantizer):
    """One signed byte a coordinate and a float16 step a token.

    A row x is stored as round(x / s) with s = max|x| / 127, so that a coordinate is off by at most s / 2.
    The step comes first, low byte first.
    """

    def bytes_per_token(self, width: int) -> int:
        return width + 2

    def encode(self, tokens: Float32) -> NDArray[Any]:
        exact = np.abs(tokens).max(axis=1, keepdims=True, initial=0) / 127
        steps = np.nextafter(exact.astype("<f2"), np.float16(1))  # never too small
        units = np.rint(tokens / steps.astype(np.float32)).astype(np.int8)
        return np.hstack([steps.view(np.uint8), units.view(np.uint8)])

    def decode(self, codes: NDArray[Any]) -> Float32:
        steps: Float32 = from_bytes(codes[:, :2], "<f2").astype(np.float32)
        return codes[:, 2:].view(np.int8) * steps


class Signs(Quantizer):
    """One bit a dimension, the sign; the query stays float (asymmetric scoring).

    A row decodes to ±1/√d, a unit vector whose inner product with the row is Σ|xⱼ|/√d: about
    √(2/π) = 0.80 for a rotated vector, the same for all, so that the order of scores is kept.

    Coordinate j is bit j mod 8 of byte ⌊j/8⌋, the highest bit first; a set bit means x ≥ 0.
    """

    def bytes_per_token(self, width: int) -> int:
        if width % 8:
            raise RecipeError(f"signs need a width divisible by 8, got {width}; project to one with pca-D")
        return width // 8

    def encode(self, tokens: Float32) -> NDArray[Any]:
        self.bytes_per_token(tokens.shape[1])
        return pack((tokens >= 0).astype(np.uint8), 1)

    def decode(self, codes: NDArray[Any]) -> Float32:
        vectors: Float32 = _signs(8 * codes.shape[1])[unpack(codes, 1)]
        return vectors

    def scorer(self, query: Float32, device: str) -> Scorer:
        return lookups(byte_tables(query, _signs(query.shape[1])), byte_places, device)


class Hamming(Signs):
    """Signs on both sides: a score is (1 − 2h/d)·‖q‖ for a Hamming distance h (symmetric scoring)."""

    def scorer(self, query: Float32, device: str) -> Scorer:
        lengths = np.linalg.norm(query, axis=1, keepdims=True)
        return super().scorer(_signs(query.shape[1])[(query >= 0).astype(np.uint8)] * lengths, device)


def _signs(width: int) -> Float32:
    """What the bits 0 and 1 stand for."""
    return np.array([-1, 1], np.float32) / np.float32(np.sqrt(width))


def _vectors(datatype: Datatype) -> Callable[[str, None], Ending]:
    return lambda _, __: ([], Vectors(datatype))


METHODS: tuple[Method[Ending, None], ...] = (
    Method("float32", "vectors, 4 bytes a dimension", "Qdrant", _vectors("float32")),
    Method("float16", "vectors, 2 bytes a dimension", "Qdrant", _vectors("float16")),
    Method("turbo8", "rotated by Qdrant, 8 bits a dimension", "Qdrant, TurboQuant", _vectors("turbo8")),
    Method("turbo4", "rotated by Qdrant, 4 bits a dimension", "Qdrant, TurboQuant", _vectors("turbo4")),
    Method(
        "int8",
        "one byte a dimension, and a step of 2 bytes a token",
        "Qdrant, scalar quantization",
        lambda _, __: ([], Int8()),
    ),
    Method(
        "binary",
        "a random rotation, then one bit a dimension; the query stays float",
        "Charikar, STOC 2002",
        lambda _, __: ([Rotation()], Signs()),
    ),
    Method(
        "hamming",
        "the same with the query's signs, too",
        "Charikar, STOC 2002",
        lambda _, __: ([Rotation()], Hamming()),
    ),
)
