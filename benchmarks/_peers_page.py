"""The page with what `peers.py` has measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _peers_data import Task
from _peers_systems import Facts

VERSIONS = ["qdrant-late-interaction", "qdrant-edge-py", "sentence-transformers", "torch", "bm25s", "numpy"]


@dataclass
class Row:
    """One system on one set: what was measured, or why nothing was.

    Args:
        name: how the page calls it.
        ours: whether it is this library.
        missing: why it was not run; None if it was.
        ndcg: nDCG@10.
        facts: bytes and seconds.
        ms: milliseconds of every timed query.
        note: what it is.
    """

    name: str
    ours: bool = False
    missing: str | None = None
    ndcg: float = 0.0
    facts: Facts = field(default_factory=lambda: Facts(None, None, None))
    ms: list[float] = field(default_factory=list)
    note: str = ""

    def percentile(self, percent: int) -> float:
        return float(np.percentile(self.ms, percent))


@dataclass(frozen=True)
class Result:
    """All rows of one set; how many passages, tokens and queries, and what was left out."""

    name: str
    passages: int
    tokens: int
    queries: int
    timed: int
    sampled: str
    rows: list[Row]

    @classmethod
    def of(cls, task: Task, timed: int, rows: list[Row]) -> Result:
        count = len(task.documents)
        return cls(task.name, count, task.tokens, len(task.queries), timed, task.sampled, rows)


def page(
    results: Sequence[Result], model: str, method: str, quick: bool, versions: Mapping[str, str], command: str
) -> str:
    """The whole page.

    Args:
        results: one a set.
        model: the encoder's name.
        method: how queries were timed, a sentence.
        quick: whether this is a quick try on a part of the data.
        versions: of packages in other environments.
        command: that made the page.
    """
    parts = [
        "# Against peers",
        "Written by `benchmarks/peers.py`; do not edit.",
        f"Every system that takes vectors was given the same ones: those of `{model}`, a CLS vector and all "
        "token vectors a passage at full width, normalised, with token vectors rounded to half precision and "
        "given as float32. All had the same queries, encoded beforehand: no time includes encoding. "
        f"{method} nDCG@10 is of all queries of the set, from the ten best documents. Bytes at rest are "
        "allocated ones, without Qdrant's write-ahead log, which does not grow with the collection.",
    ]
    if quick:
        parts.append("**A quick try on a part of the data**, whose numbers say little.")
    for result in results:
        parts += [f"## {result.name}", _said(result), _measured(result), _RATIOS, _ratios(result.rows)]
    parts += ["## Rows", _notes(results), "## Machine", _machine(versions), "## Commands"]
    parts.append(
        f"```\n{command}\n```\n\nDATA holds the sets in BEIR layout, CACHE keeps the encoder's output."
    )
    return "\n\n".join(parts) + "\n"


_RATIOS = (
    "Ratios to ours, in this order: the peer's bytes at rest, the bytes of its vectors alone, and its p50, "
    "each divided by ours, so that above 1 × ours is smaller or faster; and our nDCG@10 less the peer's."
)


def _said(result: Result) -> str:
    said = (
        f"{result.passages:,} passages of {result.tokens / result.passages:.1f} token vectors on average, "
        f"{result.queries:,} queries, of which {result.timed:,} were timed."
    )
    return f"{said} Taken: {result.sampled}." if result.sampled else said


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *lines))


def _measured(result: Result) -> str:
    head = ["", "nDCG@10", "at rest, bytes a passage", "vectors alone, bytes a passage"]
    head += ["writing, s", "passages/s", "p50, ms", "p95, ms"]
    lines = []
    for row in result.rows:
        if row.missing is not None:
            lines.append([row.name, f"not run: {row.missing}", *["–"] * (len(head) - 2)])
            continue
        facts = row.facts
        written = [_number(facts.seconds, 1), "–"]
        if facts.seconds:
            written[1] = _number(result.passages / facts.seconds)
        sizes = [_number(facts.at_rest), _number(facts.vectors)]
        times = [f"{row.percentile(50):.2f}", f"{row.percentile(95):.2f}"]
        lines.append([row.name, f"{row.ndcg:.4f}", *sizes, *written, *times])
    return _table(head, lines)


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _ratios(rows: Sequence[Row]) -> str:
    ours = [row for row in rows if row.ours]
    peers = [row for row in rows if not row.ours]
    lines = [[peer.name, *(_against(peer, row) for row in ours)] for peer in peers]
    return _table(["against", *(row.name for row in ours)], lines)


def _against(peer: Row, ours: Row) -> str:
    if peer.missing is not None:
        return "not run"
    ratios = [
        _times(peer.facts.at_rest, ours.facts.at_rest),
        _times(peer.facts.vectors, ours.facts.vectors),
        _times(peer.percentile(50), ours.percentile(50)),
    ]
    return " / ".join([*ratios, f"{ours.ndcg - peer.ndcg:+.4f}"])


def _times(peer: float | None, ours: float | None) -> str:
    if peer is None or not ours:
        return "–"
    ratio = peer / ours
    return f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.2f} ×" if ratio >= 0.1 else f"{ratio:.2g} ×"


def _notes(results: Sequence[Result]) -> str:
    """What each row is; where sets differ in it, of each."""
    notes: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for row in result.rows:
            if row.missing is None:
                notes.setdefault((row.name, row.note), []).append(result.name)
    names = [name for name, _ in notes]
    return "\n".join(
        f"- **{name}**{f' on {sets[0]}' if names.count(name) > 1 else ''}: {note}"
        for (name, note), sets in sorted(notes.items(), key=lambda it: names.index(it[0][0]))
    )


def _machine(versions: Mapping[str, str]) -> str:
    said = {
        "CPU": f"{_cpu()}, {os.cpu_count()} cores, of which two are used",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    if "OMP_WAIT_POLICY" in os.environ:
        said["OMP_WAIT_POLICY"] = os.environ["OMP_WAIT_POLICY"]
    for name in VERSIONS:
        try:
            said[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            said[name] = "not installed"
    return "\n".join(f"- {name}: {value}" for name, value in (said | dict(versions)).items())


def _cpu() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
