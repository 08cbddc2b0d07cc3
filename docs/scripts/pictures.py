"""Draw the pictures of the documentation, as SVG, from figures in the repository.

python docs/scripts/pictures.py

- `frontier.svg`: benchmarks/RESULTS.md, which benchmarks/peers.py writes.
- `explanation.svg`: docs/images/explanation.json, which holds, with four digits, the answer of these commands
  for a file with the two texts of the quickstart:

    connector ingest FILE --collection docs --path D --recipe colbert
    connector explain "how do bees find flowers?" --id bees --collection docs --path D --feedback none --json
- `migration.svg`: the steps of docs/migrations.md.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"

INK, QUIET, LINE, PAPER = "#1f2933", "#5f6b7a", "#d5dbe3", "#ffffff"
OURS, THEIRS = "#b3261e", "#3f5f8f"


@dataclass
class Drawing:
    """What is drawn on a white sheet.

    Args:
        title: read by those who cannot see it.
        width, height: of the sheet.
    """

    title: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 13,
        fill: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>'
            f"{escape(text)}</text>"
        )

    def line(
        self,
        x: float,
        y: float,
        to_x: float,
        to_y: float,
        *,
        stroke: str = LINE,
        dash: str = "",
        arrow: bool = False,
    ) -> None:
        more = f' stroke-dasharray="{dash}"' if dash else ""
        more += ' marker-end="url(#arrow)"' if arrow else ""
        self.parts.append(
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{stroke}"{more}/>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        stroke: str = "none",
        round: float = 0,
        opacity: float = 1,
    ) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round:g}" '
            f'fill="{fill}" fill-opacity="{opacity:.3f}" stroke="{stroke}"/>'
        )

    def mark(self, x: float, y: float, shape: str, fill: str) -> None:
        """A mark of a chart: circle, square, diamond, or triangle, up or down."""
        corners = {
            "square": [(-5, -5), (5, -5), (5, 5), (-5, 5)],
            "diamond": [(0, -7), (7, 0), (0, 7), (-7, 0)],
            "up": [(0, -7), (6, 5), (-6, 5)],
            "down": [(0, 7), (6, -5), (-6, -5)],
        }
        if shape == "circle":
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{fill}"/>')
        else:
            points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[shape])
            self.parts.append(f'<polygon points="{points}" fill="{fill}"/>')

    def svg(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'font-family="system-ui, sans-serif">\n<title>{escape(self.title)}</title>\n'
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" fill="{QUIET}"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" rx="6" fill="{PAPER}"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


@dataclass(frozen=True)
class System:
    """How a row of benchmarks/RESULTS.md is drawn."""

    row: str
    label: str
    shape: str
    fill: str


SYSTEMS = [
    System("ours: compact", "compact (trained)", "circle", OURS),
    System("ours: exact", "exact (nothing trained)", "square", OURS),
    System("ours: default", "pooled, float16 (trained)", "diamond", OURS),
    System("the dense model alone, Qdrant Edge", "one vector a passage", "circle", THEIRS),
    System("Qdrant Edge alone", "every token, Qdrant Edge", "square", THEIRS),
    System("sentence-transformers, exhaustive MaxSim", "every token, all scored", "diamond", THEIRS),
    System("fast-plaid 1.7.0 (PyLate's PLAID), 2 bits", "fast-plaid, 2 bits", "down", THEIRS),
    System("fast-plaid 1.7.0 (PyLate's PLAID), 4 bits", "fast-plaid, 4 bits", "up", THEIRS),
]

PANELS = {
    "squadshifts_reddit": "Reddit's posts: the head has seen no such query",
    "scifact": "SciFact: the head has seen its training queries",
}


def results(of: str) -> dict[str, tuple[float, float]]:
    """nDCG@10 and bytes of vectors a passage, by row, of a set; bytes are nan where there are no vectors."""
    page = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    (text,) = [it for it in section if it.startswith(f"{of}\n")]
    found: dict[str, tuple[float, float]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and re.fullmatch(r"0\.\d+", cells[1]):
            size = float(cells[3].replace(",", "")) if cells[3] != "–" else math.nan
            found[cells[0]] = float(cells[1]), size
    return found


def frontier() -> str:
    """Bytes of vectors a passage against nDCG@10, a panel a set."""
    drawing = Drawing("Bytes of all vectors of a passage against nDCG@10, on two sets", 860, 420)
    wide, high, top = 350, 250, 50
    low_size, high_size = 400.0, 600_000.0
    for number, (of, heading) in enumerate(PANELS.items()):
        found = results(of)
        left = 60 + number * (wide + 60)
        low = math.floor(20 * min(it[0] for it in found.values())) / 20
        best = math.ceil(20 * max(it[0] for it in found.values()) + 0.2) / 20

        def x(size: float, left: float = left) -> float:
            return left + wide * math.log(size / low_size) / math.log(high_size / low_size)

        def y(quality: float, low: float = low, best: float = best) -> float:
            return top + high * (best - quality) / (best - low)

        drawing.text(left, top - 20, heading, bold=True)
        for step in range(round((best - low) / 0.05) + 1):
            quality = low + 0.05 * step
            drawing.line(left, y(quality), left + wide, y(quality))
            drawing.text(left - 8, y(quality) + 4, f"{quality:.2f}", size=12, fill=QUIET, anchor="end")
        for size, label in ((1e3, "1 kB"), (1e4, "10 kB"), (1e5, "100 kB")):
            drawing.line(x(size), top, x(size), top + high)
            drawing.text(x(size), top + high + 18, label, size=12, fill=QUIET, anchor="middle")
        bm25 = y(found["BM25 (bm25s)"][0])
        drawing.line(left, bm25, left + wide, bm25, stroke=QUIET, dash="5 4")
        for system in SYSTEMS:
            quality, size = found[system.row]
            drawing.mark(x(size), y(quality), system.shape, system.fill)
            if system.fill == OURS:
                drawing.text(x(size) + 10, y(quality) + 15, f"{quality:.3f}", size=12, fill=OURS)
    drawing.text(
        60,
        top + high + 40,
        "bytes of all vectors of a passage (logarithmic) · nDCG@10, upwards",
        size=12,
        fill=QUIET,
    )
    for number, system in enumerate(SYSTEMS):
        left, down = 66 + 200 * (number % 4), top + high + 66 + 24 * (number // 4)
        drawing.mark(left, down, system.shape, system.fill)
        drawing.text(left + 12, down + 4, system.label, size=12)
    drawing.line(58, top + high + 112, 76, top + high + 112, stroke=QUIET, dash="5 4")
    drawing.text(78, top + high + 116, "BM25, which has no vectors", size=12)
    return drawing.svg()


def _by_kind(given: dict[str, Any]) -> str:
    """What the kinds of pairs add to a score, such as "tokens 1.00, words 0.50"."""
    sums: dict[str, float] = {}
    for pair in given["pairs"]:
        sums[pair["kind"]] = sums.get(pair["kind"], 0) + pair["part"]
    return ", ".join(f"{kind} {value:.2f}" for kind, value in sorted(sums.items(), key=lambda it: -it[1]))


def explanation() -> str:
    """Words of a query against the words of a passage, shaded by their part of the score."""
    given = json.loads((IMAGES / "explanation.json").read_text(encoding="utf-8"))
    tokens = [pair for pair in given["pairs"] if pair["kind"] == "tokens"]
    asked = list(dict.fromkeys((pair["query"]["start"], pair["query"]["text"]) for pair in tokens))
    asked.sort(key=lambda it: (it[1] == "[SEP]", it[0], it[1] != "[CLS]"))
    inner = [(word.start(), word[0]) for word in re.finditer(r"\w+|[^\w\s]", given["text"])]
    columns = [(0, "[CLS]"), *inner, (0, "[SEP]")]
    parts: dict[tuple[tuple[int, str], tuple[int, str]], float] = {}
    for pair in tokens:
        row = pair["query"]["start"], pair["query"]["text"]
        for word, spread in zip(pair["passage"], pair["spread"], strict=True):
            key = row, (word["start"], word["text"])
            parts[key] = parts.get(key, 0) + spread * pair["part"]
    most = max(parts.values())
    cell, high, left, top = 58, 30, 96, 44
    drawing = Drawing(
        f"Parts of the score of a passage for the query: {given['query']}",
        left + cell * len(columns) + 20,
        top + high * len(asked) + 40,
    )
    for number, column in enumerate(columns):
        drawing.text(left + cell * (number + 0.5), top - 12, column[1], size=12, anchor="middle", bold=True)
    for down, row in enumerate(asked):
        drawing.text(left - 10, top + high * (down + 0.5) + 4, row[1], anchor="end", bold=True)
        for number, column in enumerate(columns):
            part = parts.get((row, column), 0.0)
            x, y = left + cell * number, top + high * down
            drawing.box(
                x + 1, y + 1, cell - 2, high - 2, fill=OURS, round=3, opacity=max(0.04, 0.85 * part / most)
            )
            if part:
                fill = PAPER if part > 0.6 * most else INK
                drawing.text(
                    x + cell / 2, y + high / 2 + 4, f"{part:.2f}", size=12, fill=fill, anchor="middle"
                )
    drawing.text(
        left,
        top + high * len(asked) + 24,
        f"query downwards, passage across; the score, {given['score']:.2f}, is the sum: {_by_kind(given)}",
        size=12,
        fill=QUIET,
    )
    return drawing.svg()


STEPS = [
    ("before", "docs__v0001", None, 1),
    ("copy", "docs__v0001", "docs__v0002", 1),
    ("verify", "docs__v0001", "docs__v0002", 1),
    ("switch", "docs__v0001", "docs__v0002", 2),
    ("gc", None, "docs__v0002", 2),
]
"""Each step: its name, the two versions while it lasts, and which of them the alias names."""

SAID = {
    "before": ["docs is an alias", "of one version"],
    "copy": ["a second version is", "made beside it; writes", "reach both"],
    "verify": ["numbers, samples and", "hits of canary queries", "are compared"],
    "switch": ["the alias moves; the", "old version stays for", "the way back"],
    "gc": ["migrate gc drops it:", "no way back"],
}


def migration() -> str:
    """The versions behind a name, step after step."""
    wide, gap, left = 150, 18, 20
    drawing = Drawing(
        "A rebuild: copy, verify, switch the alias", left * 2 + len(STEPS) * (wide + gap) - gap, 280
    )
    for number, (name, old, new, named) in enumerate(STEPS):
        x = left + number * (wide + gap)
        middle = x + wide / 2
        drawing.text(middle, 30, f"{number}. {name}" if number else name, size=14, anchor="middle", bold=True)
        drawing.box(x + 30, 46, wide - 60, 30, fill=PAPER, stroke=INK, round=15)
        drawing.text(middle, 66, "docs", anchor="middle")
        rows = {1: (old, 112), 2: (new, 164)}
        for version, (label, y) in rows.items():
            if label is None:
                drawing.box(x + 14, y, wide - 28, 34, fill=PAPER, stroke=LINE, round=4)
                continue
            here = version == named
            drawing.box(
                x + 14,
                y,
                wide - 28,
                34,
                fill=OURS if here else THEIRS,
                round=4,
                opacity=0.9 if here else 0.25,
            )
            drawing.text(middle, y + 22, label, size=13, fill=PAPER if here else INK, anchor="middle")
        if named == 1:
            drawing.line(middle, 76, middle, 110, stroke=QUIET, arrow=True)
        else:
            path = [(x + wide - 30, 61), (x + wide - 4, 61), (x + wide - 4, 181), (x + wide - 14, 181)]
            for (from_x, from_y), (to_x, to_y) in pairwise(path):
                drawing.line(from_x, from_y, to_x, to_y, stroke=QUIET, arrow=(to_x, to_y) == path[-1])
        if name == "copy":
            drawing.line(x + 40, 146, x + 40, 162, stroke=QUIET, arrow=True)
        if name == "verify":
            drawing.text(middle, 160, "=?", size=14, anchor="middle", bold=True)
        for down, line in enumerate(SAID[name]):
            drawing.text(middle, 222 + 17 * down, line, size=12, fill=QUIET, anchor="middle")
    return drawing.svg()


PICTURES = {"frontier": frontier, "explanation": explanation, "migration": migration}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (IMAGES / f"{name}.svg").write_text(draw(), encoding="utf-8")
