"""How results are shown: progress on stderr; on stdout one JSON object, or lines and tables for a person."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from connector.collection.documents.writer import IngestReport

Lines = Iterator["RenderableType"]

_LISTED = 20
"""Bad records, refused documents and the like that are named; `--json` names all."""

SNIPPET = 160
"""Characters of a text in a list."""

_UNWRAPPED = 1000
"""Columns of a file or a pipe."""


def output(as_json: bool, content: Mapping[str, Any], lines: Iterable[RenderableType] | None = None) -> None:
    """Print a result on stdout: one JSON object, or what a person reads, by default the object's `facts`."""
    if as_json:
        click.echo(json_line(content))
    else:
        show([facts(content)] if lines is None else lines)


def json_line(content: Mapping[str, Any]) -> str:
    """An object in one line that stdout can carry."""
    unicode = str(sys.stdout.encoding).lower().replace("-", "") == "utf8"
    return json.dumps(content, ensure_ascii=not unicode)


def write(file: Path, text: str) -> None:
    """Write a file, and say so."""
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
    click.echo(f"wrote {file}", err=True)


def show(lines: Iterable[RenderableType], err: bool = False) -> None:
    """Print lines and tables; tables fit the terminal, and no line is broken where there is none."""
    console = _console(err)
    with console.capture() as captured:
        for line in lines:
            console.print(line, soft_wrap=isinstance(line, str))
    text = re.sub(" +$", "", captured.get(), flags=re.MULTILINE)
    click.echo(text, nl=False, err=err, color=console.is_terminal)


def _console(err: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=err, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNWRAPPED
    return console


def coloured() -> bool:
    """Whether stdout shows colours."""
    console = _console()
    return console.color_system is not None and not console.no_color


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], Callable[[IngestReport], None]]]:
    """A bar on stderr, if that is a terminal; told the total, it gives what to call with each report."""
    with steps_bar() as step:

        def start(total: int) -> Callable[[IngestReport], None]:
            step(what, 0, total)
            return lambda report: step(
                what, report.documents + report.metadata_updated + report.unchanged, total
            )

        yield start


@contextlib.contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on stderr, if that is a terminal; gives what to call with a part's name, steps done and in all."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def step(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bar.add_task(part, total=total)
            bar.update(tasks[part], completed=done, total=total)

        yield step


def table(
    rows: Iterable[Sequence[RenderableType]], sides: str, header: Sequence[str] = (), indent: int = 2
) -> RenderableType:
    """Rows in columns.

    Args:
        rows: of cells.
        sides: a character a column, ">" for those that are set to the right, "<" for others.
        header: names of the columns, if they have any.
        indent: spaces on the left.
    """
    from rich.padding import Padding
    from rich.table import Table

    made = Table(
        box=None, show_header=bool(header), header_style="bold", pad_edge=False, padding=(0, 2, 0, 0)
    )
    for name, side in zip(header or [""] * len(sides), sides, strict=True):
        made.add_column(name, justify="right" if side == ">" else "left")
    for row in rows:
        made.add_row(*row)
    return Padding(made, (0, 0, 0, indent))


def facts(content: Mapping[str, Any]) -> RenderableType:
    """Names and values of a JSON object, without those that are None or empty."""
    named = {name.replace("_per_", " a ").replace("_", " "): value for name, value in content.items()}
    return table(
        ((name, _value(value)) for name, value in named.items() if value not in (None, [], {})), "<<"
    )


def _value(value: Any) -> str:
    """A text as it is, a number with four places at most, an object's names and values in a row."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(it)}" for name, it in value.items())
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if isinstance(value, float):
        return f"{value:,.4f}".rstrip("0").rstrip(".")
    return value if isinstance(value, str) else f"{value:,}"


def listed(lines: Iterable[str]) -> Lines:
    """Some lines of many, and how many more there are."""
    them = list(lines)
    yield from (f"    {line}" for line in them[:_LISTED])
    if len(them) > _LISTED:
        yield f"    and {len(them) - _LISTED:,} more; --json names all"


def styled(*parts: str | tuple[str, str] | Text) -> Text:
    """Texts in a row, each alone or with its style, such as "bold"."""
    from rich.text import Text

    return Text.assemble(*parts)


def plain(text: str) -> str:
    """Without characters that a terminal obeys: controls, and marks that change the direction of writing."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", " ", text)


def snippet(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(plain(text).split())
    return line if len(line) <= SNIPPET else line[: SNIPPET - 1] + "…"
