"""An explanation as one HTML page, with no text taken for markup.

Without JavaScript the words are shaded and the table lists every pair; with it, a word of the query that is
pointed at or focused lights up the words that it matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from connector.core.explanation import Explanation, Pair, Word, split_at
from connector.core.html import html_page

LEVELS = 8
"""Of shading, the strongest last."""


_STYLE = """
:root { --heat: 245 130 20; --most: .8; }
@media (prefers-color-scheme: dark) { :root { --heat: 255 140 30; --most: .45; } }
.text { font-size: 1.1rem; white-space: pre-wrap; }
button, mark { font: inherit; color: inherit; background: rgb(var(--heat) / calc(var(--most) * var(--s, 0)));
  border: 0; border-radius: .2em; padding: .1em .15em; margin: 0 -.02em; }
button { border-bottom: 2px solid var(--line); border-radius: .2em .2em 0 0; cursor: pointer; }
button:hover, button:focus-visible { outline: 2px solid currentColor; outline-offset: 1px; }
.picked mark[data-heat] { --s: 0; }
.picked mark[data-lit] { text-decoration: underline; text-decoration-thickness: 2px; }
.apart { margin-top: .25rem; }
#told { min-height: 1.7em; margin-top: .5rem; }
""" + "\n".join(
    f'[data-heat="{level}"], .picked mark[data-lit="{level}"] {{ --s: {level / LEVELS}; }}'
    for level in range(1, LEVELS + 1)
)


_SCRIPT = """
"use strict";
const told = document.getElementById("told");
const hint = told.textContent;
const words = new Map();
for (const word of document.querySelectorAll("[data-word]")) words.set(word.dataset.word, word);
const buttons = document.querySelectorAll("button");
function show(button) {
  for (const word of words.values()) delete word.dataset.lit;
  document.body.classList.toggle("picked", button !== null);
  told.textContent = button === null ? hint : button.dataset.told;
  if (button === null) return;
  for (const match of button.dataset.matches.split(" ").filter(Boolean)) {
    const [word, level] = match.split(":");
    words.get(word).dataset.lit = level;
  }
}
function focused() {
  return [...buttons].find((button) => button === document.activeElement) || null;
}
for (const button of buttons) {
  button.addEventListener("mouseenter", () => show(button));
  button.addEventListener("mouseleave", () => show(focused()));
  button.addEventListener("focus", () => show(button));
  button.addEventListener("blur", () => show(null));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && focused() !== null) focused().blur();
});
"""


def page(explanation: Explanation) -> str:
    """The page, to be saved as UTF-8."""
    number = f", passage {explanation.passage}" if explanation.passage else ""
    return html_page(
        f"{explanation.id}: where its score comes from",
        f"""<h1><bdi>{escape(explanation.id)}</bdi>{number}</h1>
<p>Score {explanation.score:.4f}</p>
<h2 id="query">Query</h2>
<div role="group" aria-labelledby="query">{_query(explanation)}</div>
<p class="faint" id="told" role="status" dir="auto">Point at a word of the query, or move to it with the Tab \
key, to see what it matched.</p>
<h2 id="passage">Passage</h2>
<div role="group" aria-labelledby="passage">{_passage(explanation)}</div>
<h2 id="pairs">Parts of the score</h2>
<div class="scroll" role="region" aria-labelledby="pairs" tabindex="0">
{_table(explanation)}
</div>""",
        _STYLE,
        _SCRIPT,
    )


def heat(parts: Mapping[Word, float]) -> dict[Word, int]:
    """From 1 to `LEVELS` in proportion to the largest part; words that add nothing are left out."""
    largest = max(parts.values(), default=0.0)
    return {word: max(round(LEVELS * part / largest), 1) for word, part in parts.items() if part > 0}


def _query(explanation: Explanation) -> str:
    """The query, its words as buttons that know what they matched."""
    parts = explanation.query_parts()
    levels, numbers = heat(parts), _numbers(explanation)
    names = explanation.by_word()

    def button(word: Word) -> str:
        lit = heat(explanation.passage_parts(word))
        matches = " ".join(f"{numbers[it]}:{level}" for it, level in lit.items())
        told = f"{word.text}: {'; '.join(_told(pair) for pair in names if pair.query == word)}"
        return (
            f'<button type="button" data-heat="{levels.get(word, 0)}" data-matches="{matches}" '
            f'data-told="{escape(told)}" title="{_worth(parts[word], explanation)}">'
            f"{escape(word.text)}</button>"
        )

    return _marked(explanation.query, {word: button(word) for word in parts})


def _told(pair: Pair) -> str:
    return f"{' '.join(word.text for word in pair.passage)} ({pair.share:.1%})"


def _passage(explanation: Explanation) -> str:
    """The passage, each word shaded by what it adds to the score."""
    parts, numbers = explanation.passage_parts(), _numbers(explanation)
    levels = heat(parts)
    marks = {
        word: f'<mark data-word="{numbers[word]}" data-heat="{levels.get(word, 0)}" '
        f'title="{_worth(part, explanation)}">{escape(word.text)}</mark>'
        for word, part in parts.items()
    }
    return _marked(explanation.text, marks)


def _marked(text: str, marks: Mapping[Word, str]) -> str:
    """The text with these words as marked up, and below it those that do not stand in it."""
    pieces = [escape(piece) if word is None else marks[word] for piece, word in split_at(text, marks)]
    apart = " ".join(mark for word, mark in marks.items() if not word.in_text)
    return f'<p class="text" dir="auto" lang="">{"".join(pieces)}</p>' + (
        f'\n<p class="text apart">{apart}</p>' if apart else ""
    )


def _numbers(explanation: Explanation) -> dict[Word, int]:
    """The passage words by number."""
    return {word: number for number, word in enumerate(explanation.passage_parts())}


def _worth(part: float, explanation: Explanation) -> str:
    share = part / explanation.score if explanation.score else 0.0
    return f"{part:.4f}, {share:.1%} of the score"


def _table(explanation: Explanation) -> str:
    """All pairs by their parts, which sum to the score."""
    rows = "\n".join(map(_row, explanation.by_word()))
    total = sum(pair.share for pair in explanation.pairs)
    return f"""<table>
<thead><tr><th scope="col">Query</th><th scope="col">Passage</th>
<th scope="col" class="number">Similarity</th><th scope="col" class="number">Part</th>
<th scope="col" class="number">Share</th></tr></thead>
<tbody>
{rows}
</tbody>
<tfoot><tr><th scope="row">Sum</th><td></td><td></td><td class="number">{explanation.score:.4f}</td>\
<td class="number">{total:.1%}</td></tr></tfoot>
</table>"""


def _row(pair: Pair) -> str:
    return (
        f'<tr lang=""><th scope="row">{_isolated([pair.query])}</th><td>{_isolated(pair.passage)}</td>'
        f'<td class="number">{pair.similarity:.3f}</td><td class="number">{pair.part:.4f}</td>'
        f'<td class="number">{pair.share:.1%}</td></tr>'
    )


def _isolated(words: Iterable[Word]) -> str:
    """Words whose direction of writing does not reach their neighbours."""
    return " ".join(f"<bdi>{escape(word.text)}</bdi>" for word in words)
