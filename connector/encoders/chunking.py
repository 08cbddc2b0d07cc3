"""Long texts in chunks that end between words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from connector.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Chunking:
    """How long texts are split.

    Args:
        tokens: the most tokens of a chunk, special tokens not counted; None does not split.
        overlap: tokens that a chunk shares with the one before.

    Raises:
        InputError: the numbers do not go together.
    """

    tokens: int | None = None
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise InputError(f"chunk tokens are {self.tokens}; give at least 1, or None to split no text")
        if self.tokens is None and self.overlap:
            raise InputError(f"chunk overlap is {self.overlap} but chunk tokens are not given; give both")
        if self.tokens is not None and not 0 <= self.overlap < self.tokens:
            raise InputError(f"chunk overlap is {self.overlap} for {self.tokens} tokens; give less, from 0")


def chunk_spans(
    offsets: Sequence[tuple[int, int]], word_ids: Sequence[int | None], tokens: int, overlap: int
) -> list[tuple[int, int]]:
    """Cut a token sequence into chunks at word boundaries; see `Encoder.split`.

    A word longer than a chunk is cut inside.
    """
    total = len(offsets)
    bounds = [at for at in range(total + 1) if at in (0, total) or word_ids[at] != word_ids[at - 1]]

    def chunk_end(start: int) -> int:
        """The last word boundary that a chunk reaches, or where one word fills all of it."""
        end = min(start + tokens, total)
        boundary = bounds[bisect_right(bounds, end) - 1]
        return boundary if boundary > start else end

    spans: list[tuple[int, int]] = []
    start = 0
    while start < total:
        end = chunk_end(start)
        spans.append((offsets[start][0], offsets[end - 1][1]))
        # The next chunk begins at the word of the first overlapping token, else at the next word, but so that
        # it reaches beyond `end`; without such a word it begins there.
        inside = bounds[bisect_right(bounds, start) : bisect_left(bounds, end)] if overlap else []
        begins = [at for at in inside if chunk_end(at) > end]
        before = [at for at in begins if at <= end - overlap]
        start = before[-1] if before else min(begins, default=end)
    return spans
