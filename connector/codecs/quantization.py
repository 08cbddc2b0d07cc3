"""Quantizers: how one token vector is stored."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from connector.errors import RecipeError
from connector.types import Float32


class Floats:
    """Vectors stored as they are, in 4 or 2 bytes a dimension.

    Args:
        spec: "float32" or "float16". Half precision rounds each coordinate x by at most
            max(2⁻¹¹·|x|, 2⁻²⁵).
    """

    server_scorable: ClassVar[bool] = True

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._dtype = np.dtype(spec)

    def bytes_per_token(self, width: int) -> int:
        return width * self._dtype.itemsize

    def encode(self, tokens: Float32) -> NDArray[Any]:
        return tokens.astype(self._dtype)

    def decode(self, codes: NDArray[Any], width: int) -> Float32:  # noqa: ARG002  (rows have it)
        return codes.astype(np.float32)

    def stored(self, data: bytes, width: int) -> NDArray[Any]:
        return np.frombuffer(data, self._dtype).reshape(-1, width)

    def similarities(self, codes: NDArray[Any], query: Float32) -> Float32:
        return codes.astype(np.float32, copy=False) @ query.T


class Signs:
    """One bit a dimension, the sign; the query stays float (asymmetric scoring).

    A row decodes to ±1/√d, a unit vector whose inner product with the row is Σ|xⱼ|/√d: about
    √(2/π) = 0.80 for a rotated vector, the same for all, so that the order of scores is kept.

    Coordinate j is bit j mod 8 of byte ⌊j/8⌋, the highest bit first; a set bit means x ≥ 0.
    """

    spec = "signs"
    server_scorable: ClassVar[bool] = False

    def bytes_per_token(self, width: int) -> int:
        if width % 8:
            raise RecipeError(f"binary codes need a width divisible by 8, got {width}; put a pca-D before")
        return width // 8

    def encode(self, tokens: Float32) -> NDArray[Any]:
        self.bytes_per_token(tokens.shape[1])
        return np.packbits(tokens >= 0, axis=1)

    def decode(self, codes: NDArray[Any], width: int) -> Float32:
        bits = np.unpackbits(codes, axis=1).astype(np.float32)
        signs: Float32 = (2 * bits - 1) / np.float32(np.sqrt(width))
        return signs

    def stored(self, data: bytes, width: int) -> NDArray[Any]:
        return np.frombuffer(data, np.uint8).reshape(-1, self.bytes_per_token(width))

    def similarities(self, codes: NDArray[Any], query: Float32) -> Float32:
        scaled = query * np.float32(2 / np.sqrt(query.shape[1]))
        # Σ ±qⱼ = 2·Σ over set bits − Σ qⱼ, so the bits need no sign and the sum is taken once.
        products: Float32 = np.unpackbits(codes, axis=1).astype(np.float32) @ scaled.T
        products -= scaled.sum(axis=1) / 2
        return products
