"""A score in parts: pairs of a word of the query and words of the passage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup, escape


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a query or of a passage.

    Args:
        text: as it stands there; for tokens that stand in no text their own string, such as "[CLS]"; "CLS"
            for the vector of the whole text.
        start, end: character span in the query, or in the passage as it was encoded; (0, 0) where it does
            not stand in the text.
    """

    text: str
    start: int
    end: int

    @property
    def in_text(self) -> bool:
        """Whether it stands in the text."""
        return self.end > self.start


WHOLE = Word("CLS", 0, 0)
"""What stands for a whole text: its CLS vector."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A part of a score: a token of the query and a stored row of the passage that it is aligned with.

    Args:
        kind: "tokens"; "words", of BM25; "cls", the CLS vectors; "feedback", a hit, or a liked document,
            that speaks for what is like it.
        query: the word that the query's token is a piece of.
        passage: all words that the row stands for: several where tokens were merged.
        spread: the share of the part that each of these words has, Σ = 1. A merged row is the mean of its
            tokens, so its similarity is the sum of theirs: shares are as these are, 0 for negative ones.
        similarity: inner product of the two vectors, as stored.
        part: what it adds to the score: the similarity times its weight.
        share: the part over the score; 0 where the score is 0.
    """

    kind: Literal["tokens", "words", "cls", "feedback"]
    query: Word
    passage: tuple[Word, ...]
    spread: tuple[float, ...]
    similarity: float
    part: float
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score in parts.

    Args:
        query: the query.
        id: the document's id.
        passage: number of the passage in the document.
        text: the passage as it was encoded: its title, if any, a space, and its text. Spans count in it.
        score: the score, Σ of the pairs' parts.
        pairs: in the order of the query.
    """

    query: str
    id: str
    passage: int
    text: str
    score: float
    pairs: tuple[Pair, ...]

    def by_word(self) -> list[Pair]:
        """The pairs, those of the pieces of one word as one, the largest part first.

        The similarity is the largest of the pieces'.
        """
        found: dict[tuple[str, Word, tuple[Word, ...]], Pair] = {}
        for pair in self.pairs:
            key = (pair.kind, pair.query, pair.passage)
            found[key] = _together(found[key], pair) if key in found else pair
        return sorted(found.values(), key=lambda pair: -pair.part)

    def query_parts(self) -> dict[Word, float]:
        """What each word of the query adds to the score."""
        return summed((pair.query, pair.part) for pair in self.pairs)

    def passage_parts(self, query: Word | None = None) -> dict[Word, float]:
        """What each word of the passage adds to the score, the words of a merged row as its part is spread.

        Args:
            query: count the pairs of this word of the query alone.
        """
        pairs = (pair for pair in self.pairs if query in (None, pair.query))
        return summed(
            (word, pair.part * share)
            for pair in pairs
            for word, share in zip(pair.passage, pair.spread, strict=True)
        )

    def _repr_html_(self) -> str:
        """The passage in a notebook, each word shaded by what it adds to the score."""
        parts = {word: part for word, part in self.passage_parts().items() if part > 0 and word.in_text}
        largest = max(parts.values(), default=1.0)
        shaded = [
            _mark(text, parts[word], parts[word] / largest) if word in parts else escape(text)
            for text, word in split_at(self.text, parts)
        ]
        head = Markup("<p><b>{}</b> ({}, {:.3f})</p>").format(self.query, self.id, self.score)
        return head + Markup("<p>{}</p>").format(Markup("").join(shaded))


def _mark(text: str, part: float, weight: float) -> Markup:
    """A word on orange, the denser the larger its weight (0 to 1); pointed at, it shows its part."""
    orange = Markup('<span style="background: rgba(255, 140, 0, {:.2f})" title="{:.4f}">{}</span>')
    return orange.format(weight, part, text)


def split_at(text: str, words: Iterable[Word]) -> Iterator[tuple[str, Word | None]]:
    """The text in pieces, each with the word that it is, or None for what lies between words."""
    place = 0
    for word in sorted((word for word in words if word.in_text), key=lambda word: word.start):
        if word.start < place:
            continue
        if word.start > place:
            yield text[place : word.start], None
        yield text[word.start : word.end], word
        place = word.end
    if place < len(text):
        yield text[place:], None


def summed(parts: Iterable[tuple[Word, float]]) -> dict[Word, float]:
    """The sum of each word's parts."""
    sums: dict[Word, float] = {}
    for word, part in parts:
        sums[word] = sums.get(word, 0.0) + part
    return sums


def _together(one: Pair, two: Pair) -> Pair:
    size = abs(one.part) + abs(two.part)
    first = abs(one.part) / size if size else 0.5
    return replace(
        one,
        spread=tuple(first * a + (1 - first) * b for a, b in zip(one.spread, two.spread, strict=True)),
        similarity=max(one.similarity, two.similarity),
        part=one.part + two.part,
        share=one.share + two.share,
    )
