"""Which word of a passage each word of a query matched.

Nothing is stored for this: the passage is encoded again, so an explanation costs one forward pass and
no byte at rest. It shows the encoder's own tokens, before reduction and compression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connector.encoders import Encoder
from connector.types import Embedding, check_text


@dataclass(frozen=True, slots=True)
class Match:
    """One query word and the passage word that its MaxSim came from.

    Args:
        query_word: as it stands in the query.
        passage_word: as it stands in the passage.
        start, end: character span of the passage word.
        similarity: cosine of the two token vectors, of the query word's best token.
    """

    query_word: str
    passage_word: str
    start: int
    end: int
    similarity: float


def match_words(encoder: Encoder, query: str, passage: str) -> list[Match]:
    """For each word of the query, the word of the passage that matches it best.

    Args:
        encoder: the collection's encoder.
        query: the query.
        passage: the text as it was encoded, its title in front.

    Returns:
        One match for each query word, in the order of the query.
    """
    check_text(query, "query")
    asked = encoder.encode_queries([query])[0]
    found = encoder.encode_documents([passage])[0]
    words = np.flatnonzero(found.word_ids >= 0)
    if len(words) == 0:
        return []
    similarities = asked.tokens @ found.tokens[words].T
    matches = []
    for number in np.unique(asked.word_ids[asked.word_ids >= 0]):
        rows = np.flatnonzero(asked.word_ids == number)
        row, column = np.unravel_index(similarities[rows].argmax(), (len(rows), len(words)))
        word = int(found.word_ids[words[column]])
        start, end = _span(found, word)
        first, last = _span(asked, int(number))
        matches.append(
            Match(query[first:last], passage[start:end], start, end, float(similarities[rows[row], column]))
        )
    return matches


def _span(embedding: Embedding, word: int) -> tuple[int, int]:
    """Character span of all pieces of a word."""
    offsets = embedding.offsets[embedding.word_ids == word]
    return int(offsets[:, 0].min()), int(offsets[:, 1].max())
