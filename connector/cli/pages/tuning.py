"""Size against quality as one HTML page: a picture whose points say what they are, and a table.

Without JavaScript the browser's own tooltips and the table say it; with it, a point that is pointed at or
focused is told below the picture.
"""

from __future__ import annotations

import math
from html import escape

from connector.core.html import html_page
from connector.evaluation.tuning import Trial, Tuning

_WIDTH, _HEIGHT = 800, 460


_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 52


_STYLE = """
svg { width: 100%; height: auto; display: block; margin: 1rem 0 .25rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--faint); }
.axis { stroke: var(--line); stroke-width: 1; }
.end { stroke: var(--faint); stroke-dasharray: 5 4; }
.budget { stroke: var(--ink); stroke-dasharray: 2 4; }
.frontier { fill: none; stroke: #2563eb; stroke-width: 2; }
.interval { stroke: #2563eb; stroke-width: 1; opacity: .45; }
circle { fill: var(--faint); opacity: .55; cursor: pointer; }
circle.frontier { fill: #2563eb; stroke: none; opacity: 1; }
circle.best { fill: #ea580c; stroke: none; opacity: 1; }
circle:hover, circle:focus { stroke: var(--ink); stroke-width: 2; opacity: 1; outline: none; }
#told { min-height: 1.7em; }
tbody th { white-space: nowrap; }
tr.best th, tr.best td { font-weight: bold; }
"""


_SCRIPT = """
"use strict";
const told = document.getElementById("told");
const hint = told.textContent;
const points = document.querySelectorAll("circle");
for (const point of points) {
  const say = () => { told.textContent = point.getAttribute("aria-label"); };
  const hush = () => {
    const kept = [...points].find((other) => other === document.activeElement);
    told.textContent = kept ? kept.getAttribute("aria-label") : hint;
  };
  point.addEventListener("mouseenter", say);
  point.addEventListener("focus", say);
  point.addEventListener("mouseleave", hush);
  point.addEventListener("blur", hush);
}
"""


def page(tuning: Tuning) -> str:
    """The page, to be saved as UTF-8.

    Args:
        tuning: at least one trial.
    """
    task = tuning.task
    return html_page(
        f"{task.name}: size against quality",
        f"""<h1><bdi>{escape(task.name)}</bdi>: size against quality</h1>
<p class="faint">{len(task.queries):,} {escape(task.asked)}, {len(task.passages):,} passages; \
{escape(tuning.model)}. {len(tuning.trials):,} recipes tried.</p>
{_picture(tuning)}
<p class="faint" id="told" role="status">Point at a recipe, or move to it with the Tab key.</p>
<h2 id="frontier">The best for their size</h2>
<div class="scroll" role="region" aria-labelledby="frontier" tabindex="0">
{_table(tuning)}
</div>""",
        _STYLE,
        _SCRIPT,
    )


class _Scale:
    """Bytes, by their logarithm, and the measure to places in the picture."""

    def __init__(self, tuning: Tuning) -> None:
        sizes = [it.bytes_per_passage for it in tuning.trials] + [tuning.budget]
        values = [end for it in tuning.frontier for end in it.interval]
        values += [it.mean for it in (*tuning.trials, tuning.dense, tuning.full)]
        self.least, self.most = min(sizes) / 1.1, max(sizes) * 1.1
        room = 0.05 * (max(values) - min(values)) or 0.01
        self.low, self.high = min(values) - room, max(values) + room

    def x(self, size: float) -> float:
        share = math.log(size / self.least) / math.log(self.most / self.least)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def sizes(self) -> list[float]:
        """Where the axis of bytes is marked: powers of two, and what lies halfway where there are few."""
        powers = range(math.floor(math.log2(self.least)), math.ceil(math.log2(self.most)) + 1)
        marks = [mark for power in powers for mark in (2.0**power, 1.5 * 2.0**power)]
        return [mark for mark in marks if self.least <= mark <= self.most]

    def values(self) -> list[float]:
        """Where the axis of the measure is marked, in steps of 1, 2 or 5 in a decimal place."""
        about = (self.high - self.low) / 6
        step = min(
            (digit * 10.0**power for power in range(-4, 1) for digit in (1, 2, 5)),
            key=lambda it: abs(it - about),
        )
        first = math.ceil(self.low / step)
        return [step * place for place in range(first, math.floor(self.high / step) + 1)]


def _picture(tuning: Tuning) -> str:
    scale = _Scale(tuning)
    others = [it for it in tuning.trials if it not in tuning.frontier]
    line = " ".join(f"{scale.x(it.bytes_per_passage)},{scale.y(it.mean)}" for it in tuning.frontier)
    parts = [
        *_axes(tuning, scale),
        *(_point(tuning, scale, it, "") for it in others),
        *(_interval(scale, it) for it in tuning.frontier),
        f'<polyline class="frontier" points="{line}"/>',
        *(_point(tuning, scale, it, "best" if it is tuning.best else "frontier") for it in tuning.frontier),
    ]
    label = f"{tuning.measure} of recipes by their bytes a passage"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" aria-label="{label}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _axes(tuning: Tuning, scale: _Scale) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for mark in scale.sizes():
        x = scale.x(mark)
        parts.append(_line("axis", x, _TOP, x, bottom))
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{mark:,.0f}</text>')
    for mark in scale.values():
        y = scale.y(mark)
        parts.append(_line("axis", _LEFT, y, right, y))
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{mark:.3g}</text>')
    for trial, name in ((tuning.full, "every token, full width"), (tuning.dense, "CLS vector alone")):
        y = scale.y(trial.mean)
        parts.append(_line("end", _LEFT, y, right, y))
        parts.append(
            f'<text x="{right - 4}" y="{y - 5}" text-anchor="end">{name}: {trial.mean:.3f}, '
            f"{trial.bytes_per_passage:,.0f} bytes</text>"
        )
    x = scale.x(tuning.budget)
    parts.append(_line("budget", x, _TOP, x, bottom))
    parts.append(
        f'<text x="{x - 6}" y="{bottom - 8}" text-anchor="end">budget {tuning.budget:,.0f} bytes</text>'
    )
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">bytes a passage, all vectors '
        "(logarithmic)</text>"
    )
    parts.append(
        f'<text transform="translate(14 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{tuning.measure}</text>"
    )
    return parts


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _interval(scale: _Scale, trial: Trial) -> str:
    x, (low, high) = scale.x(trial.bytes_per_passage), trial.interval
    return _line("interval", x, scale.y(low), x, scale.y(high))


def _point(tuning: Tuning, scale: _Scale, trial: Trial, name: str) -> str:
    told = escape(_told(tuning, trial))
    return (
        f'<circle class="{name}" cx="{scale.x(trial.bytes_per_passage)}" cy="{scale.y(trial.mean)}" '
        f'r="{6 if name else 3.5}" tabindex="{0 if name else -1}" role="img" '
        f'aria-label="{told}"><title>{told}</title></circle>'
    )


def _told(tuning: Tuning, trial: Trial) -> str:
    low, high = trial.interval
    ms = "" if trial.ms is None else f", {trial.ms:.1f} ms a query"
    return (
        f"{trial.recipe.name}: {trial.bytes_per_passage:,.0f} bytes, {tuning.measure} {trial.mean:.4f} "
        f"({low:.3f}–{high:.3f}), {trial.tokens_per_passage:.1f} tokens a passage{ms}"
    )


def _table(tuning: Tuning) -> str:
    rows = [_row(tuning, it, it.recipe.name) for it in tuning.frontier]
    rows.append(_row(tuning, tuning.dense, "the CLS vector alone"))
    rows.append(_row(tuning, tuning.full, "every token, full width"))
    lines = "\n".join(rows)
    return f"""<table>
<thead><tr><th scope="col">Recipe</th><th scope="col" class="number">Bytes a passage</th>
<th scope="col" class="number">{tuning.measure}</th><th scope="col" class="number">95 % interval</th>
<th scope="col" class="number">Of full</th><th scope="col" class="number">ms a query</th></tr></thead>
<tbody>
{lines}
</tbody>
</table>"""


def _row(tuning: Tuning, trial: Trial, name: str) -> str:
    low, high = trial.interval
    share = trial.mean / tuning.full.mean if tuning.full.mean else 0.0
    ms = "–" if trial.ms is None else f"{trial.ms:.1f}"
    best = ' class="best"' if trial is tuning.best else ""
    cells = (
        f"{trial.bytes_per_passage:,.0f}",
        f"{trial.mean:.4f}",
        f"{low:.3f}–{high:.3f}",
        f"{share:.1%}",
        ms,
    )
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr{best}><th scope="row">{escape(name)}</th>{numbers}</tr>'
