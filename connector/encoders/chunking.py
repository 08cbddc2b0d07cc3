"""Long texts in chunks that end between words, and that together hold all of the text."""

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

    def within(self, room: int) -> Chunking:
        """Chunks of at most `room` tokens that begin at least as far apart, or as far as the room goes."""
        if self.tokens is None or self.tokens <= room:
            return self
        apart = self.tokens - self.overlap
        return Chunking(room, min(max(room - apart, 0), room // 2))


def chunk_spans(
    offsets: Sequence[tuple[int, int]], word_ids: Sequence[int | None], tokens: int, overlap: int
) -> list[tuple[int, int]]:
    """Cut a token sequence into chunks at word boundaries; see `Encoder.split`.

    A word longer than a chunk is cut inside. So are others, and overlaps are shorter, while the chunks lag:
    chunk i, from 0, reaches at least token i · (tokens − overlap), so there are no more than that allows.
    """
    total = len(offsets)
    bounds = [at for at in range(total + 1) if at in (0, total) or word_ids[at] != word_ids[at - 1]]

    def chunk_end(start: int, least: int = 0) -> int:
        """The last word boundary that a chunk reaches; if there is none from `least`, all that it reaches."""
        end = min(start + tokens, total)
        boundary = bounds[bisect_right(bounds, end) - 1]
        return boundary if boundary > start and boundary >= least else end

    apart = tokens - overlap
    spans: list[tuple[int, int]] = []
    start = 0
    while start < total:
        due = len(spans) * apart
        end = chunk_end(start, due)
        spans.append((offsets[start][0], offsets[end - 1][1]))
        # The next chunk begins at the word of the first overlapping token, else at the next word, but so that
        # it reaches beyond `end`; without such a word it begins there.
        least = max(start + 1, due - overlap)
        inside = bounds[bisect_left(bounds, least) : bisect_left(bounds, end)] if overlap else []
        begins = [at for at in inside if chunk_end(at) > end]
        before = [at for at in begins if at <= end - overlap]
        start = before[-1] if before else min(begins, default=end)
    return spans


def whole_spans(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of chunks, made to hold every character but white space behind a chunk.

    Characters that no token stands for, such as control characters, go to the chunk before them. The first
    chunk begins where the text does, one of white space alone is left out, and a single one is all of the
    text.
    """
    written = [span for span in spans if text[slice(*span)].strip()]
    if len(written) < 2:
        return [(0, len(text))]
    starts = [0, *(start for start, _ in written[1:])]
    return [
        (start, max(end, start + len(text[start:following].rstrip())))
        for start, (_, end), following in zip(starts, written, [*starts[1:], len(text)], strict=True)
    ]
