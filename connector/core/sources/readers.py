"""What reads a file or folder as records, by its kind."""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from connector.core.errors import SourceError
from connector.core.sources.files import JSON_LINES, PACKED, STDIN, kind
from connector.core.sources.folders import folder_rows
from connector.core.sources.lines import csv_rows, json_rows
from connector.core.sources.records import Rows
from connector.core.sources.tables import parquet_rows

_LINES: dict[str, Callable[[Path], Rows]] = {
    **dict.fromkeys(JSON_LINES, json_rows),
    ".csv": csv_rows,
    ".tsv": partial(csv_rows, delimiter="\t"),
}
"""Of kinds that may be packed."""


_KINDS = (
    "give a .jsonl, .csv or .tsv file, also with .gz or .zst behind, a .parquet file, a folder of Hugging "
    "Face datasets, or one of .txt and .md files"
)


def reader(path: Path) -> Callable[[Path], Rows]:
    """What reads a file or folder of this kind; of standard input, JSON Lines.

    Raises:
        SourceError: the path is missing, unreadable, or of no known kind.
    """
    if path == STDIN:
        return json_rows
    try:
        mode = path.stat().st_mode
    except OSError as error:
        message = f"{path} does not exist, or cannot be looked at ({error.strerror}); {_KINDS}"
        raise SourceError(message) from error
    if stat.S_ISDIR(mode):
        return folder_rows
    if not stat.S_ISREG(mode):
        raise SourceError(
            f"{path} is neither a file nor a folder; give one of them, as it is read twice, or pipe it into -"
        )
    if kind(path) in _LINES:
        return _LINES[kind(path)]
    packed = path.suffix.lower() in (*PACKED, ".zip", ".tar")
    if kind(path) == ".parquet" and not packed:
        return parquet_rows
    remedy = "unpack it first, and give what was in it" if packed else _KINDS
    raise SourceError(f"{path} is of no known kind; {remedy}")
