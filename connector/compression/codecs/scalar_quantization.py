"""Quantizers, which store vectors; and the scalar ones: each coordinate by itself, nothing learned.

Coordinates of few bits are packed into bytes, and scored by one look-up a byte.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from connector.compression.codecs.projection import Part, Projection, Rotation
from connector.core.errors import RecipeError
from connector.core.registry import Method
from connector.core.types import Float32
from connector.scoring.maxsim import Scorer, lookups, products

if TYPE_CHECKING:
    import torch


Datatype = Literal["float32", "float16", "turbo8", "turbo4"]
"""How Qdrant stores a coordinate. The turbo types are its own rotated quantization to 8 and 4 bits."""


_BITS: dict[Datatype, int] = {"float32": 32, "float16": 16, "turbo8": 8, "turbo4": 4}


TURBO: tuple[Datatype, ...] = ("turbo4", "turbo8")
"""Types that only Qdrant makes."""


_TURBO_HEADER = 4
"""Bytes that Qdrant keeps with each vector of a turbo type, measured on the engine's files."""


def stored_bytes(datatype: Datatype, width: int) -> int:
    """Bytes that Qdrant takes for one vector."""
    return width * _BITS[datatype] // 8 + (_TURBO_HEADER if datatype in TURBO else 0)


UInt8 = NDArray[np.uint8]


class Quantizer(Part):
    """A stored form of unit vectors, and how a float query is scored against it.

    The stored rows of n tokens are an array (n, …) of `dtype`, whose bytes are what is stored.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)
    datatype: Datatype | None = None
    """What Qdrant stores the vectors as, and scores itself; None if only this library can."""

    def check(self, width: int) -> None:
        self.bytes_per_token(width)

    def fit(self, tokens: Float32, seed: int) -> None:
        """Learn from a sample (N, d) of unit rows."""

    @abstractmethod
    def bytes_per_token(self, width: int) -> int:
        """Stored bytes of one token of this width; RecipeError if it cannot be stored."""

    @abstractmethod
    def encode(self, tokens: Float32) -> NDArray[Any]:
        """(n, d) float32 unit rows to their stored form, one row a token."""

    @abstractmethod
    def decode(self, codes: NDArray[Any]) -> Float32:
        """The stored form back to (n, d) float32."""

    def sums(self, codes: NDArray[Any], lengths: NDArray[np.integer]) -> Float32:
        """(P, d) of (N, …) stored rows of P passages, Σ lengths = N, each passage's sum of decoded rows."""
        sums: Float32 = _sums(self.decode(codes), np.cumsum(lengths) - lengths)
        return sums

    def scorer(self, query: Float32, device: str) -> Scorer:
        """Inner products of stored rows with (m, d) query vectors, as `decode(codes) @ query.T` has them."""
        return products(query, self.decode, device)


Ending = tuple[list[Projection], Quantizer]
"""What a codec ends in: a quantizer, and the projections that belong to it."""


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
        return pack((tokens >= 0).astype(np.uint8), 1)

    def decode(self, codes: NDArray[Any]) -> Float32:
        vectors: Float32 = _signs(8 * codes.shape[1])[unpack(codes, 1)]
        return vectors

    def sums(self, codes: NDArray[Any], lengths: NDArray[np.integer]) -> Float32:
        # Eight counts are added at a time, bytes of one number; a byte holds the bits of 255 rows.
        pieces = -(-lengths // _BYTE)
        first = np.repeat(np.cumsum(lengths) - lengths, pieces)
        within = np.arange(len(first)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        counts = _sums(np.take(_EIGHTS, codes), first + _BYTE * within).view(np.uint8)
        ones = _sums(counts.astype(np.float32), np.cumsum(pieces) - pieces)
        low, high = _signs(ones.shape[1])
        sums: Float32 = ones * (high - low) + lengths[:, None].astype(np.float32) * low
        return sums

    def scorer(self, query: Float32, device: str) -> Scorer:
        return lookups(byte_tables(query, _signs(query.shape[1])), byte_places, device)


_BYTE = 255
"""The largest number in one."""


_EIGHTS: NDArray[np.uint64] = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).view(np.uint64)[
    :, 0
]
"""The bits of each byte, the highest first, as the eight bytes of a number."""


def _sums(rows: NDArray[Any], starts: NDArray[np.integer]) -> NDArray[Any]:
    """(S, …) sums of the rows from each start to the next, in a seventh of the time of `np.add.reduceat`."""
    from scipy.sparse import csr_matrix  # which takes an eighth of a second

    ends, ones = np.append(starts, len(rows)), np.ones(len(rows), rows.dtype)
    which = csr_matrix((ones, np.arange(len(rows)), ends), shape=(len(starts), len(rows)))
    sums: NDArray[Any] = which @ rows
    return sums


class Hamming(Signs):
    """Signs on both sides: a score is (1 − 2h/d)·‖q‖ for a Hamming distance h (symmetric scoring)."""

    def scorer(self, query: Float32, device: str) -> Scorer:
        lengths = np.linalg.norm(query, axis=1, keepdims=True)
        return super().scorer(_signs(query.shape[1])[(query >= 0).astype(np.uint8)] * lengths, device)


def _signs(width: int) -> Float32:
    """What the bits 0 and 1 stand for."""
    return np.array([-1, 1], np.float32) / np.float32(np.sqrt(width))


def pack(levels: UInt8, bits: int) -> UInt8:
    """(n, d) numbers below 2ᵇ to (n, d·b / 8) bytes, the first number in the highest bits; b divides 8."""
    fields = levels.reshape(len(levels), levels.shape[1] * bits // 8, 8 // bits)
    packed: UInt8 = np.bitwise_or.reduce(fields << _shifts(bits), axis=2)
    return packed


def unpack(codes: UInt8, bits: int) -> UInt8:
    """(n, d) numbers from the bytes that `pack` gave."""
    return _fields(bits)[codes].reshape(len(codes), codes.shape[1] * 8 // bits)


def to_bytes(numbers: NDArray[Any], dtype: str) -> UInt8:
    """(n,) numbers to the (n, b) bytes of such a type."""
    return numbers.astype(dtype)[:, None].view(np.uint8)


def from_bytes(codes: UInt8, dtype: str) -> NDArray[Any]:
    """(n, 1) numbers from their (n, b) bytes."""
    return np.ascontiguousarray(codes).view(dtype)


def byte_tables(query: Float32, values: Float32) -> torch.Tensor:
    """What each byte adds to a query token's inner product with a packed row.

    Args:
        query: (m, d) float32.
        values: (2ᵇ,) float32, what each number stands for.

    Returns:
        (d·b / 8 · 256, m) float32: byte k of value v adds row 256·k + v.
    """
    return part_tables(values[_fields(len(values).bit_length() - 1)][None], query)


def part_tables(words: Float32, query: Float32) -> torch.Tensor:
    """Inner products of each part's words with that part of the query tokens.

    Args:
        words: (k or 1, 256, d / k) float32; one for all parts, or each part's.
        query: (m, d) float32.

    Returns:
        (k · 256, m) float32.
    """
    import torch

    parts = torch.from_numpy(query).t().reshape(-1, words.shape[2], len(query))
    return torch.matmul(torch.from_numpy(words), parts).flatten(0, 1)


def byte_places(codes: torch.Tensor) -> torch.Tensor:
    """(n, k) int32 places of the bytes of (n, k) in such tables."""
    import torch

    return codes.int().add_(
        torch.arange(0, 256 * codes.shape[1], 256, dtype=torch.int32, device=codes.device)
    )


def _shifts(bits: int) -> UInt8:
    return np.arange(8 - bits, -1, -bits, dtype=np.uint8)


def _fields(bits: int) -> UInt8:
    """(256, 8 / b) the numbers in each byte."""
    return (np.arange(256, dtype=np.uint8)[:, None] >> _shifts(bits)) & np.uint8(2**bits - 1)


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
