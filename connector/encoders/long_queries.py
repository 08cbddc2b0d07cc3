"""Queries that are longer than the model's window: which end of them is encoded, and what is said of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from connector.core.types import Embedding
from connector.encoders.base import Encoder

logger = logging.getLogger(__name__)


_WORD = 24
"""Characters that are given up at most so that what is kept begins with a word."""


def encode_queries(encoder: Encoder, queries: Sequence[str], at_end: bool) -> list[Embedding]:
    """One embedding a query, in order.

    Args:
        encoder: of the queries.
        queries: their texts.
        at_end: of one that is longer than the window, encode the end, and not the start. Offsets count in all
            of the text, and `truncated` are the tokens that the window does not hold.
    """
    embeddings = encoder.encode_queries(queries)
    return [_at_end(encoder, it) if at_end and it.truncated else it for it in embeddings]


def _at_end(encoder: Encoder, query: Embedding) -> Embedding:
    """The query, encoded at its end."""
    text, lost, more = query.text, 0, query.truncated
    tokens = encoder.split(text, 1, 0)
    if len(tokens) < 2:
        return query
    while more and lost < len(tokens) - 1:  # again where a text that begins elsewhere has other tokens
        lost = min(lost + more, len(tokens) - 1)
        start = _word_from(text, tokens[lost][0])
        (end,) = encoder.encode_queries([text[start:]])
        more = end.truncated
    own = end.offsets[:, 1:] > end.offsets[:, :1]
    offsets = np.where(own, end.offsets + start, end.offsets).astype(np.int32)
    return replace(end, offsets=offsets, text=text, truncated=query.truncated)


def _word_from(text: str, start: int) -> int:
    """Where the next word begins, if one does soon; else where it was asked for."""
    space = re.compile(r"\s+").search(text, max(start - 1, 0), min(start + _WORD, len(text.rstrip())))
    return space.end() if space else start


def tell_of_long(queries: Sequence[Embedding]) -> int:
    """How many queries are longer than the model's window; if any is, that is logged, too."""
    lost = [it.truncated for it in queries if it.truncated]
    if lost:
        logger.warning(
            "%d of %d queries are longer than the model's window: %d of their tokens are not looked at",
            *(len(lost), len(queries), sum(lost)),
        )
    return len(lost)
