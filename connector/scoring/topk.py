"""The k largest similarities of each passage, without a loop over passages or tokens.

Passages of about one length are laid side by side, tokens first. On a CPU a bitonic network then merges lists
of k sorted values until one list a passage is left: about 5 comparisons a value for k = 4, all of them maxima
and minima of whole arrays, which numpy does several times as fast as torch selects. Source: Batcher, "Sorting
networks and their applications", AFIPS 1968.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from connector.core.types import Float32

if TYPE_CHECKING:
    import torch


ABSENT = -3.0e38
"""Less than any similarity; stands where a passage has no token."""


_ROWS = 8192
"""Tokens that are laid side by side at a time; with 32 query tokens they take 1 MiB."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Of some passages the largest similarities.

    Args:
        passages: (p,) their numbers.
        values: (k, p, m) float32, of each passage and query token the largest, in descending order; `ABSENT`
            where a passage has fewer.
    """

    passages: NDArray[np.intp]
    values: Float32


def largest(
    similarities: torch.Tensor,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    k: int,
    room: Room | None = None,
) -> Iterator[Selection]:
    """The k largest of each column, in each passage.

    Args:
        similarities: (n, m) float32, passages one after another.
        starts, lengths: (P,) where each passage begins, and its tokens.
        k: at least 1; up to the next power of two are selected.
        room: what a CPU works in; a selection stands there until the next one is made.
    """
    room = Room() if room is None else room
    table = room.copy(similarities.numpy()) if similarities.device.type == "cpu" else similarities
    for passages in _groups(lengths):
        yield Selection(passages, _largest_of(table, starts[passages], lengths[passages], k, room))


class Room:
    """Memory for one selection after another: new memory costs more than what is done in it."""

    def __init__(self) -> None:
        self._buffers: dict[str, Float32] = {}

    def array(self, name: str, *shape: int) -> Float32:
        """An array of this shape, in the memory that this name had before if it is enough."""
        size = math.prod(shape)
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = np.empty(size, np.float32)
        return self._buffers[name][:size].reshape(shape)

    def copy(self, matrix: Float32) -> Float32:
        """The matrix with its rows lying one after another."""
        if matrix.flags.c_contiguous:
            return matrix
        table = self.array("table", *matrix.shape)
        table[:] = matrix
        return table


def _groups(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Passages of about one length: the longest has at most twice the tokens of the shortest."""
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    first = 0
    while first < len(order):
        most = -int(falling[first])
        shorter = int(np.searchsorted(falling, -(most // 2), side="right"))
        last = min(first + max(_ROWS // most, 1), max(shorter, first + 1))
        yield order[first:last]
        first = last


def _largest_of(
    table: torch.Tensor | Float32, starts: NDArray[np.int64], lengths: NDArray[np.int64], k: int, room: Room
) -> Float32:
    """(k, p, m) of passages of about one length."""
    most = int(lengths.max())
    wide = 1 << (min(k, most) - 1).bit_length()
    lists = -(-most // wide)
    place = np.arange(lists * wide)[:, None]
    rows = (starts + np.minimum(place, lengths - 1)).ravel()
    absent = np.flatnonzero((place >= lengths).ravel())
    if isinstance(table, np.ndarray):
        values, spare = room.array("pair", 2, len(rows), table.shape[1])
        np.take(table, rows, axis=0, out=values, mode="clip")
        values[absent] = ABSENT
        shape = (wide, lists, len(lengths), table.shape[1])
        return _merged(values.reshape(shape), spare.reshape(shape))
    import torch

    there = table[torch.from_numpy(rows).to(table.device)]
    there[torch.from_numpy(absent).to(table.device)] = ABSENT
    chosen: Float32 = there.view(lists * wide, len(lengths), -1).topk(wide, dim=0).values.cpu().numpy()
    return chosen


def _merged(values: Float32, spare: Float32) -> Float32:
    """(k, l, p, m), l lists of k values each in any order, to (k, p, m), the k largest in order.

    Works in the given array and in a spare one of its shape.
    """
    wide, lists = values.shape[:2]

    def compare(step: int, run: int) -> None:
        """Of each two values `step` apart the larger goes first; in every other run of pairs, last."""
        nonlocal values, spare
        shape = (-1, run, 2, step, *values.shape[1:])
        old, new = values.reshape(shape), spare.reshape(shape)
        for turn in range(min(len(old), 2)):
            one, two = (old[turn::2, :, place, :, :lists] for place in (0, 1))
            np.maximum(one, two, out=new[turn::2, :, turn, :, :lists])
            np.minimum(one, two, out=new[turn::2, :, 1 - turn, :, :lists])
        values, spare = spare, values

    size = 2
    while size <= wide:  # sort each list: runs of two, of four, …, every other one in ascending order
        step = size // 2
        while step:
            compare(step, size // (2 * step))
            step //= 2
        size *= 2
    while lists > 1:
        half, left = lists // 2, lists - lists // 2  # of an odd number, the one in the middle stays
        for one in range(wide):
            first = values[one, :half]
            np.maximum(first, values[wide - 1 - one, left : left + half], out=first)
        lists, step = left, wide // 2
        while step:
            compare(step, wide // (2 * step))
            step //= 2
    return values[:, 0]
