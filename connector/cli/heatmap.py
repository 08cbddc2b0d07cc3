"""Words on a terminal, shaded or marked by what they add to a score."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from connector.cli.render import SNIPPET, Lines, coloured, facts, plain, styled, table
from connector.core.explanation import Explanation, Pair, Word, split_at

if TYPE_CHECKING:
    from rich.text import Text

    from connector.api.connector import Connector
    from connector.core.types import Hits

_PAIRS = 4
"""Passage words, or merged rows of them, that are named for each word of the query."""

_WORDS = 6
"""Of a merged row that are named; the others are counted, and `--json` and the page name them."""

_CHARACTERS = 4000
"""Of a passage that are shown; an encoder reads about 1,200."""

_WIDTH = 106
"""Columns of a passage, at most."""

_SHADES = ("black on color(230)", "black on color(222)", "black on color(214)", "black on color(208)")
"""From pale yellow to orange, of a terminal's 256 colours; readable on any theme."""

_MARKS = ("", "", "*", "**")
"""What stands around words of each shade where there are no colours."""

_WEIGHTY = 0.6
"""Of the largest part of a question's word in a score, the least of a word whose matches are marked."""

_BEST = 0.9
"""Of the part of its best match, the least of the matches that are marked."""


def explanation_lines(explanation: Explanation) -> Lines:
    """The score, the passage shaded by what each word adds to it, and each query word's best matches."""
    from rich.constrain import Constrain
    from rich.padding import Padding

    number = f", passage {explanation.passage}" if explanation.passage else ""
    yield styled(f"{explanation.score:.4f}  ", (plain(explanation.id), "bold"), number, "\n")
    text = _shaded(explanation.text[:_CHARACTERS], shades(explanation.passage_parts()))
    yield Padding.indent(Constrain(text, _WIDTH), 2)
    if len(explanation.text) > _CHARACTERS:
        yield f"  … and {len(explanation.text) - _CHARACTERS:,} characters"
    yield ""
    parts = explanation.query_parts()
    matched: dict[Word, list[Pair]] = {}
    for pair in explanation.by_word():
        matched.setdefault(pair.query, []).append(pair)
    largest = max(map(abs, parts.values()), default=0.0) or 1.0
    rows = []
    for word, part in parts.items():
        length = max(round(10 * part / largest), 0)
        found = [*map(_matches, matched[word][:_PAIRS])]
        if len(matched[word]) > _PAIRS:
            found.append(f"{len(matched[word]) - _PAIRS} more")
        share = part / explanation.score if explanation.score else 0.0
        name = styled((plain(word.text)[:20], "bold"))
        rows.append((name, "█" * length + "░" * (10 - length), f"{share:.0%}", " · ".join(found)))
    yield table(rows, "><><")


def shades(parts: Mapping[Word, float]) -> dict[Word, int]:
    """From 1 to 4 in quarters of the largest part of a word in the text; none for less than an eighth."""
    largest = max((part for word, part in parts.items() if word.in_text), default=0.0)
    if largest <= 0:
        return {}
    return {
        word: min(int(4 * part / largest) + 1, 4)
        for word, part in parts.items()
        if word.in_text and part >= largest / 8
    }


def _shaded(text: str, levels: Mapping[Word, int]) -> Text:
    """A text on one line, its words shaded, or marked where there are no colours."""
    pieces: list[str | tuple[str, str]] = []
    for piece, word in split_at(text, levels):
        line = re.sub(r"\s+", " ", plain(piece))
        if word is None or not any(map(str.isalnum, line)):
            pieces.append(line)
        elif coloured():
            pieces.append((line, _SHADES[levels[word] - 1]))
        else:
            pieces.append(f"{_MARKS[levels[word] - 1]}{line}{_MARKS[levels[word] - 1]}")
    return styled(*pieces)


def _matches(pair: Pair) -> str:
    """The words of a row, those that make most of it first, and its similarity."""
    order = sorted(range(len(pair.passage)), key=lambda place: -pair.spread[place])
    words = list(dict.fromkeys(plain(pair.passage[place].text) for place in order))
    more = f" +{len(words) - _WORDS}" if len(words) > _WORDS else ""
    return f"{' '.join(words[:_WORDS])}{more} {pair.similarity:.2f}"


def demo_lines(connector: Connector, found: Mapping[str, Hits], result: Mapping[str, Any]) -> Lines:
    """Questions with the beginnings of their best hits, shaded, and the table of sizes."""
    for question, hits in found.items():
        yield styled("\n", (question, "bold"))
        rows = []
        for hit in hits:
            title = len(hit.title) + 1 if hit.title else 0  # stands in front of the text
            text = _shaded(hit.text[:SNIPPET], _best(connector.explain(question, hit), title))
            rows.append((f"{hit.score:.3f}", styled((hit.id, "cyan"), "\n", text)))
        yield table(rows, "><")
    yield f"\n{result['passages']:,} passages, recipe {result['recipe']}"
    yield facts({name: result[name] for name in ("bytes_per_passage", "search_ms")})


def _best(explanation: Explanation, start: int) -> dict[Word, int]:
    """Best matches of the query words that count most, as words of the text from `start` on, and a shade."""
    asked = {it: part for it, part in explanation.query_parts().items() if it.in_text and it.text.isalnum()}
    found: dict[Word, int] = {}
    for word, part in asked.items():
        if part >= _WEIGHTY * max(asked.values()):
            parts = {it: part for it, part in explanation.passage_parts(word).items() if it.in_text}
            most = max(parts.values(), default=0.0)
            best = {it for it in parts if it.text.isalnum() and parts[it] >= _BEST * most}
            found |= {replace(it, start=it.start - start, end=it.end - start): 3 for it in best}
    return {word: shade for word, shade in found.items() if word.start >= 0}
