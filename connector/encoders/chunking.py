"""Long texts in chunks that end between words."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from connector.core.errors import InputError


class Chunking(BaseModel):
    """How long texts are split.

    Args:
        tokens: the most tokens of a chunk, special tokens not counted; None does not split.
        overlap: tokens that a chunk shares with the one before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = None
    overlap: int = 0

    @classmethod
    def checked(cls, tokens: int | None, overlap: int) -> Chunking:
        """The same, with our own error.

        Raises:
            InputError: the numbers do not go together.
        """
        try:
            return cls(tokens=tokens, overlap=overlap)
        except ValidationError as error:
            raise InputError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error

    @model_validator(mode="after")
    def _consistent(self) -> Chunking:
        if self.tokens is None and self.overlap:
            raise ValueError(f"chunk overlap is {self.overlap} but chunk tokens are not given; give both")
        if self.tokens is not None and not 0 <= self.overlap < self.tokens:
            raise ValueError(
                f"chunk overlap is {self.overlap} for chunks of {self.tokens} tokens; "
                "it must be at least 0 and less than the chunk"
            )
        return self


def chunk_spans(
    offsets: Sequence[tuple[int, int]], word_ids: Sequence[int | None], tokens: int, overlap: int
) -> list[tuple[int, int]]:
    """Cut a token sequence into chunks at word boundaries; see `Encoder.split`.

    A word longer than a chunk is cut inside.
    """
    spans: list[tuple[int, int]] = []
    start, total = 0, len(offsets)
    while start < total:
        end = _word_boundary(word_ids, start, min(start + tokens, total))
        spans.append((offsets[start][0], offsets[end - 1][1]))
        if end == total:
            break
        start = _next_start(word_ids, start, end, tokens, overlap)
    return spans


def _next_start(word_ids: Sequence[int | None], start: int, end: int, tokens: int, overlap: int) -> int:
    """Where the chunk after [start, end) starts: at a word from which it reaches beyond `end`.

    That is the word of the first overlapping token, else the next one, else `end`.
    """
    if not overlap:
        return end
    begins = [
        place
        for place in range(start + 1, end)
        if word_ids[place] != word_ids[place - 1]
        and _word_boundary(word_ids, place, min(place + tokens, len(word_ids))) > end
    ]
    before = [place for place in begins if place <= end - overlap]
    return before[-1] if before else min(begins, default=end)


def _word_boundary(word_ids: Sequence[int | None], start: int, end: int) -> int:
    """The last word boundary in (start, end], or `end` where one word fills all of it."""
    if end >= len(word_ids):
        return end
    boundary = end
    while boundary > start and word_ids[boundary] == word_ids[boundary - 1]:
        boundary -= 1
    return boundary if boundary > start else end
