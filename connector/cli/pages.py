"""An explanation, and the frontier of a tuning, each as one HTML page that needs nothing else.

The pages are templates in `static/`; no text is taken for markup. Without JavaScript words are shaded, points
have the browser's own tooltips, and a table lists every pair or point; with it, what is pointed at or focused
lights up the words that it matched, or is told below the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from connector.cli.results import trial_cells
from connector.core.explanation import Explanation, Pair, Word, split_at
from connector.core.html import render_page
from connector.evaluation.tuning import Trial, Tuning

LEVELS = 8
"""Of shading, the strongest last; `explanation.css` has a rule for each."""


_STATIC = Path(__file__).parent / "static"


# An explanation


def explanation_page(explanation: Explanation) -> str:
    """The page of `connector explain --html`, to be saved as UTF-8."""
    found, parts = explanation.by_word(), explanation.passage_parts()
    numbers = {word: number for number, word in enumerate(parts)}

    def told(word: Word) -> dict[str, str]:
        lit = heat(explanation.passage_parts(word))
        return {
            "matches": " ".join(f"{numbers[match]}:{level}" for match, level in lit.items()),
            "told": f"{word.text}: {'; '.join(_told(pair) for pair in found if pair.query == word)}",
        }

    def numbered(word: Word) -> dict[str, int]:
        return {"number": numbers[word]}

    return render_page(
        _STATIC / "explanation.html",
        explanation=explanation,
        query=_marked(explanation.query, explanation.query_parts(), explanation.score, told),
        passage=_marked(explanation.text, parts, explanation.score, numbered),
        pairs=found,
    )


def heat(parts: Mapping[Word, float]) -> dict[Word, int]:
    """From 1 to `LEVELS` in proportion to the largest part; words that add nothing are left out."""
    lit = {word: part for word, part in parts.items() if part > 0}
    largest = max(
        (part for word, part in lit.items() if word.in_text), default=max(lit.values(), default=0.0)
    )
    return {word: min(max(round(LEVELS * part / largest), 1), LEVELS) for word, part in lit.items()}


def _marked(
    text: str, parts: Mapping[Word, float], score: float, more: Callable[[Word], Mapping[str, Any]]
) -> dict[str, Any]:
    """A text in pieces, with what its words add to the score, and the words that do not stand in it."""
    levels = heat(parts)
    marks = {
        word: {
            "text": word.text,
            "heat": levels.get(word, 0),
            "worth": f"{part:.4f}, {part / score if score else 0.0:.1%} of the score",
            **more(word),
        }
        for word, part in parts.items()
    }
    return {
        "pieces": [(piece, word and marks[word]) for piece, word in split_at(text, marks)],
        "apart": [mark for word, mark in marks.items() if not word.in_text],
    }


def _told(pair: Pair) -> str:
    return f"{' '.join(word.text for word in pair.passage)} ({pair.share:.1%})"


# A frontier


def tuning_page(tuning: Tuning) -> str:
    """The page of `connector tune --html`: a picture whose points say what they are, and a table.

    Args:
        tuning: at least one trial.

    Returns:
        The page, to be saved as UTF-8.
    """

    def told(trial: Trial) -> str:
        low, high = trial.interval
        ms = "" if trial.ms is None else f", {trial.ms:.1f} ms a query"
        return (
            f"{trial.recipe.name}: {trial.bytes_per_passage:,.0f} bytes, {tuning.measure} {trial.mean:.4f} "
            f"({low:.3f}–{high:.3f}), {trial.tokens_per_passage:.1f} tokens a passage{ms}"
        )

    rows = [(it.recipe.name, it) for it in tuning.frontier]
    ends = {
        "every token, full width": tuning.full,
        "words and the CLS vector": tuning.hybrid,
        "CLS vector alone": tuning.dense,
    }
    rows += [*ends.items()][::-1]
    return render_page(
        _STATIC / "tuning.html",
        tuning=tuning,
        task=tuning.task,
        scale=_Scale(tuning),
        ends=ends,
        rows=rows,
        told=told,
        cells=trial_cells,
    )


class _Scale:
    """Bytes, by their logarithm, and the measure to places in the picture, whose edges these are."""

    width, height = 800, 460
    left, right, top, bottom = 64, 784, 16, 408

    def __init__(self, tuning: Tuning) -> None:
        sizes = [it.bytes_per_passage for it in tuning.trials] + [tuning.budget]
        values = [end for it in tuning.frontier for end in it.interval]
        values += [it.mean for it in (*tuning.trials, tuning.dense, tuning.hybrid, tuning.full)]
        self._least, self._most = min(sizes) / 1.1, max(sizes) * 1.1
        room = 0.05 * (max(values) - min(values)) or 0.01
        self._low, self._high = min(values) - room, max(values) + room

    def x(self, size: float) -> float:
        share = math.log(size / self._least) / math.log(self._most / self._least)
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def sizes(self) -> list[float]:
        """Where the axis of bytes is marked: powers of two, and what lies halfway between them."""
        powers = range(math.floor(math.log2(self._least)), math.ceil(math.log2(self._most)) + 1)
        marks = [mark for power in powers for mark in (2.0**power, 1.5 * 2.0**power)]
        return [mark for mark in marks if self._least <= mark <= self._most]

    def values(self) -> list[float]:
        """Where the axis of the measure is marked, in steps of 1, 2 or 5 in a decimal place."""
        about = (self._high - self._low) / 6
        steps = (digit * 10.0**power for power in range(-4, 1) for digit in (1, 2, 5))
        step = min(steps, key=lambda it: abs(it - about))
        return [step * place for place in range(math.ceil(self._low / step), int(self._high // step) + 1)]
