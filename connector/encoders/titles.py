"""Titles and texts that share an encoder's window."""

from __future__ import annotations

from connector.core.types import passage_text
from connector.encoders.base import Encoder
from connector.encoders.chunking import Chunking, whole_spans

SHARE = 4
"""One in so many tokens of the window is for a title that does not fit beside its text."""


WHOLE = Chunking()
"""No text is split."""


def title_in_front(encoder: Encoder, title: str | None, text: str, chunking: Chunking = WHOLE) -> str | None:
    """What is encoded of a title in front of a text, or of each of its chunks.

    All of it, if the window holds both; else as many of its first words as fit a quarter of the window.
    """
    share = max(encoder.window // SHARE, 1)
    if title is None or len(title.encode()) <= share or _fits(encoder, title, share):
        return title
    beside = encoder.window - (chunking.tokens or encoder.window)
    if _fits(encoder, passage_text(title, text), encoder.window) or _fits(encoder, title, beside):
        return title
    ((_, end), *_) = encoder.split(title, share, 0)
    return title[:end]


def titled_spans(encoder: Encoder, title: str | None, text: str, chunking: Chunking) -> list[tuple[int, int]]:
    """Character spans of the chunks of a text, each with room for its title in front.

    Args:
        encoder: whose window they fit.
        title: as `title_in_front` gives it.
        text: not blank.
        chunking: where the title takes some of its tokens, the overlap shrinks first, so that chunks begin
            as far apart as without one.

    Raises:
        InputError: the chunks are larger than the encoder's window.
    """
    if chunking.tokens is None:
        return [(0, len(text))]
    if title and title.strip() and chunking.tokens <= encoder.window:
        taken = len(encoder.split(title, 1, 0))
        chunking = chunking.within(max(encoder.window - taken, 1))
    return whole_spans(text, encoder.split(text, chunking.tokens or 1, chunking.overlap))


def _fits(encoder: Encoder, text: str, tokens: int) -> bool:
    return tokens > 0 and len(encoder.split(text, tokens, 0)) == 1
