"""An explanation on a terminal: the passage with its words shaded, and which words matched which."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

import click

from connector.cli.render import plain
from connector.core.explanation import Explanation, Pair, Word, split_at

_PAIRS = 4
"""Passage words, or merged rows of them, that are named for each word of the query."""


_WORDS = 6
"""Of a merged row that are named; the others are counted, and `--json` and the page name them."""


_CHARACTERS = 4000
"""Of a passage that are shown; an encoder reads about 1,200."""


_SHADES = (230, 222, 214, 208)
"""Backgrounds from pale yellow to orange, of a terminal's 256 colours; readable below black on any theme."""


_MARKS = ("", "", "*", "**")
"""What stands around words of each shade where there are no colours."""


_MARGIN = "  "


def print_explanation(explanation: Explanation) -> None:
    """The score, the passage shaded by what each word adds to it, and each query word's best matches."""
    number = f", passage {explanation.passage}" if explanation.passage else ""
    click.echo(f"{explanation.score:.4f}  {click.style(plain(explanation.id), bold=True)}{number}\n")
    levels = shades(explanation.passage_parts())
    for line in _wrapped(explanation.text[:_CHARACTERS], levels):
        click.echo(f"{_MARGIN}{line}")
    if len(explanation.text) > _CHARACTERS:
        click.echo(f"{_MARGIN}… and {len(explanation.text) - _CHARACTERS:,} characters")
    click.echo()
    _print_pairs(explanation)


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


def _wrapped(text: str, levels: Mapping[Word, int]) -> Iterator[str]:
    """Lines that fit the terminal, broken at white space, with the words shaded."""
    width = max(min(shutil.get_terminal_size().columns, 110) - 2 * len(_MARGIN), 20)
    line, used = "", 0
    for bare, shaded in _chunks(text, levels):
        if used and used + 1 + len(bare) > width:
            yield line
            line, used = "", 0
        line += f" {shaded}" if used else shaded
        used += len(bare) + (used > 0)
    if line:
        yield line


def _chunks(text: str, levels: Mapping[Word, int]) -> Iterator[tuple[str, str]]:
    """What stands between white space, as it is and shaded."""
    bare = shaded = ""
    for piece, word in split_at(text, levels):
        for place, part in enumerate(re.split(r"\s+", plain(piece))):
            if place:
                if bare:
                    yield bare, shaded
                bare = shaded = ""
            bare += part
            shaded += part if word is None else _shaded(part, levels[word])
    if bare:
        yield bare, shaded


def _shaded(word: str, level: int) -> str:
    if not coloured():
        mark = _MARKS[level - 1] if any(letter.isalnum() for letter in word) else ""
        return f"{mark}{word}{mark}"
    return click.style(word, fg=16, bg=_SHADES[level - 1])


def coloured() -> bool:
    """Whether stdout shows colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _print_pairs(explanation: Explanation) -> None:
    """One line for each word of the query, in its order: its share of the score, and what it matched."""
    parts = explanation.query_parts()
    matched: dict[Word, list[Pair]] = {}
    for pair in explanation.by_word():
        matched.setdefault(pair.query, []).append(pair)
    width = min(max((len(word.text) for word in parts), default=0), 20)
    largest = max(map(abs, parts.values()), default=0.0)
    for word, part in parts.items():
        bar = _bar(part / largest if largest else 0.0)
        share = part / explanation.score if explanation.score else 0.0
        found = " · ".join(map(_matches, matched[word][:_PAIRS]))
        more = f" · {len(matched[word]) - _PAIRS} more" if len(matched[word]) > _PAIRS else ""
        name = click.style(plain(word.text)[:20].rjust(width), bold=True)
        click.echo(f"{_MARGIN}{name} {bar} {share:5.0%}  {found}{more}")


def _bar(share: float) -> str:
    length = max(round(10 * share), 0)
    return "█" * length + "░" * (10 - length)


def _matches(pair: Pair) -> str:
    """The words of a row, those that make most of it first, and its similarity."""
    order = sorted(range(len(pair.passage)), key=lambda place: -pair.spread[place])
    words = list(dict.fromkeys(plain(pair.passage[place].text) for place in order))
    more = f" +{len(words) - _WORDS}" if len(words) > _WORDS else ""
    return f"{' '.join(words[:_WORDS])}{more} {pair.similarity:.2f}"
