"""Rows of small numbers packed into bytes, and their scores by one look-up a byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connector.core.types import Float32

if TYPE_CHECKING:
    import torch


UInt8 = NDArray[np.uint8]


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
    meaning = values[_fields(len(values).bit_length() - 1)]
    fields = meaning.shape[1]
    parts = query.T.reshape(query.shape[1] // fields, fields, len(query))
    return part_tables(meaning[None], parts)


def part_tables(words: Float32, query: Float32) -> torch.Tensor:
    """Inner products of each part's words with that part of the query tokens.

    Args:
        words: (k or 1, 256, d / k) float32; one for all parts, or each part's.
        query: (k, d / k, m) float32.

    Returns:
        (k · 256, m) float32.
    """
    import torch

    tables = torch.matmul(torch.from_numpy(words), torch.from_numpy(np.ascontiguousarray(query)))
    return tables.reshape(tables.shape[0] * tables.shape[1], tables.shape[2])


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
