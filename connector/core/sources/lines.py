"""Files that are read by lines: texts, JSON Lines, CSV and TSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from connector.core.errors import DocumentError, SourceError, one_line
from connector.core.sources.files import name_of, opened
from connector.core.sources.records import Rows


def text_lines(path: Path, name: str | None = None) -> Iterator[tuple[str, str | DocumentError]]:
    """The lines of a file that are not blank: where each stands, and its text or that it is not UTF-8.

    Args:
        path: of the file, "-" for standard input.
        name: what messages call it; the file's own if None.

    Raises:
        SourceError: it is packed and damaged, or standard input and not there.
        OSError: the file cannot be read.
    """
    name = name or name_of(path)
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            where = f"{name} line {number}"
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                yield where, DocumentError(f"{where} is not UTF-8 (byte {error.start}); convert the file")
            else:
                if text.strip():
                    yield where, text


def json_lines(
    path: Path, name: str | None = None, remedy: str = "correct the line"
) -> Iterator[tuple[str, Any]]:
    """The JSON values of a file with one a line, or what is wrong with a line: a `DocumentError`.

    Raises:
        SourceError, OSError: as for `text_lines`.
    """
    for where, line in text_lines(path, name):
        try:
            yield where, line if isinstance(line, DocumentError) else json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, DocumentError(f"{where} is not JSON ({error}); {remedy}")


def json_rows(path: Path, name: str | None = None) -> Rows:
    """The objects of a file with one a line.

    Raises:
        SourceError, OSError: as for `text_lines`.
    """
    for where, record in json_lines(path, name, "correct the line, or pass over it (--skip-bad)"):
        if not isinstance(record, dict | DocumentError):
            kind = type(record).__name__
            record = DocumentError(f"{where} is a JSON {kind}, not an object; give one object a line")
        yield where, record


def csv_rows(
    path: Path, delimiter: str = ",", quoted: bool = True
) -> Iterator[tuple[str, dict[str, str] | DocumentError]]:
    """The rows of a table whose first line names the fields; those that a short row lacks are left out.

    Bytes that are no UTF-8 become lone surrogates, which `check_text` names.

    Raises:
        SourceError: the first line cannot be used, or the file is packed and damaged.
        OSError: the file cannot be read.
    """
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB a field is less than a long text
    with opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        reader = csv.DictReader(text, strict=True, delimiter=delimiter, quoting=quoting)
        try:
            check_unique(path, reader.fieldnames or ())
        except csv.Error as error:
            raise SourceError(one_line(f"{path}: the header is not CSV ({error}); correct it")) from error
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                where = f"{path.name} line {reader.reader.line_num}"
                yield where, DocumentError(f"{where} is not CSV ({error}); correct the line")
                continue
            if row is None:
                return
            where = f"{path.name} line {reader.line_num}"
            if None in row:
                remedy = "quote its separators" if quoted else "take the separators out of its texts"
                yield where, DocumentError(f"{where} has more fields than the header; {remedy}")
            else:
                yield where, {key: value for key, value in row.items() if value is not None}


def tsv_rows(path: Path) -> Iterator[tuple[str, dict[str, str] | DocumentError]]:
    """The same of a table with tabs between, in which nothing is quoted: a double quote is one.

    Raises:
        SourceError, OSError: as for `csv_rows`.
    """
    return csv_rows(path, "\t", quoted=False)


def check_unique(path: Path, names: Sequence[str]) -> None:
    """See that no field of a table has the name of another.

    Raises:
        SourceError: one has.
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise SourceError(one_line(f"{path} has the field {name!r} twice; rename one"))


def readable(path: Path, lines: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Lines none of which may be bad.

    Raises:
        SourceError: one is bad, or the file cannot be read.
    """
    try:
        for where, line in lines:
            if isinstance(line, DocumentError):
                raise SourceError(one_line(f"{path.parent}: {line}"))
            yield where, line
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}; restore it") from error
