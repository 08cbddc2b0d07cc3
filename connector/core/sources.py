"""Files and folders as documents: JSON Lines, CSV, Parquet, folders of text, BEIR folders."""

from __future__ import annotations

import csv
import datetime
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from connector.core.errors import DocumentError, MissingExtra, SourceError, one_line
from connector.core.types import Document

ID_FIELDS = ("_id", "id", "doc_id")


TEXT_FIELDS = ("text", "contents", "content", "body", "passage", "page_content")


TITLE_FIELDS = ("title",)


TEXT_SUFFIXES = (".txt", ".md")


Record = dict[str, Any]


Rows = Iterator[tuple[str, Record | DocumentError]]
"""Where each record stands, such as "docs.jsonl line 3", and the record or what is wrong with it."""


class Source:
    """A file or folder that can be read as documents, as often as one likes.

    - `.jsonl`, `.ndjson`: one JSON object a line; `.csv`: a header and rows; `.parquet`: needs the extra
      `parquet`. The first known id, text and title field is taken, all others become metadata; an
      object under "metadata" is merged into it. A record without an id is called by its place.
    - a folder with a `corpus.jsonl`: that file (BEIR).
    - any other folder: its `.txt` and `.md` files, at any depth; the id is the path inside the folder.

    Args:
        path: the file or folder.
        id_field, text_field, title_field: names of these fields where they are not the usual ones.
        skip_bad: pass over records that cannot be used; `bad` then names them.

    Raises:
        SourceError: the path is missing, unreadable, or of no known kind.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        id_field: str | None = None,
        text_field: str | None = None,
        title_field: str | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.path = Path(path)
        self.bad: list[str] = []
        self._id_fields = (id_field,) if id_field else ID_FIELDS
        self._text_fields = (text_field,) if text_field else TEXT_FIELDS
        self._title_fields = (title_field,) if title_field else TITLE_FIELDS
        self._id_field = id_field
        self._skip_bad = skip_bad
        self._rows = _reader(self.path)

    def __iter__(self) -> Iterator[Document]:
        """The documents, in the order of the source.

        Raises:
            DocumentError: a record cannot be used, unless bad ones are skipped.
            SourceError: the source cannot be read.
        """
        self.bad = []
        rows = self._rows(self.path)
        while True:
            try:
                where, record = next(rows)
            except StopIteration:
                return
            except OSError as error:
                raise SourceError(f"{self.path} cannot be read: {error}; see whether it may be") from error
            try:
                document = self._document(where, record)
            except DocumentError as error:
                said = one_line(str(error))
                if not self._skip_bad:
                    raise DocumentError(said) from error
                self.bad.append(said)
            else:
                yield document

    def _document(self, where: str, record: Record | DocumentError) -> Document:
        if isinstance(record, DocumentError):
            raise record
        fields = dict(record)
        if self._id_field and self._id_field not in fields:
            names = ", ".join(map(repr, record)) or "none"
            raise DocumentError(
                f"{where}: no field {self._id_field!r}; its fields are {names}: name one of them"
            )
        id_ = _take(fields, self._id_fields)
        text = _take(fields, self._text_fields)
        title = _take(fields, self._title_fields)
        if text is None:
            names = ", ".join(map(repr, record)) or "none"
            raise DocumentError(
                f"{where}: no text; its fields are {names}: name the one with the text (--text-field)"
            )
        if isinstance(id_, int) and not isinstance(id_, bool):
            id_ = str(id_)
        for what, value in (("id", id_), ("text", text), ("title", title)):
            if not isinstance(value, str | None):  # here, as it may be too deep to be shown
                raise DocumentError(f"{where}: {what} is a {type(value).__name__}; give a string")
        if isinstance(text, str) and not text.strip() and isinstance(title, str) and title.strip():
            text, title = title, None
        metadata = fields.pop("metadata", None)
        metadata = {**fields, **metadata} if isinstance(metadata, dict) else _with(fields, metadata)
        try:
            return Document(
                id=where if id_ in (None, "") else id_, text=text, title=title or None, metadata=metadata
            )
        except DocumentError as error:
            raise DocumentError(f"{where}: {error}") from error


def _take(fields: Record, names: tuple[str, ...]) -> Any:
    """Remove and return the first of these fields that is there."""
    return next((fields.pop(name) for name in names if name in fields), None)


def _with(fields: Record, metadata: Any) -> Record:
    return fields if metadata is None else {**fields, "metadata": metadata}


def _reader(path: Path) -> Callable[[Path], Rows]:
    try:
        path.stat()
    except OSError as error:
        why = (
            "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise SourceError(f"{path} {why}; give a .jsonl, .csv or .parquet file, or a folder") from error
    if path.is_dir():
        if (path / "corpus.jsonl").is_file():
            return lambda folder: _jsonl(folder / "corpus.jsonl")
        return _folder
    if not path.is_file():
        raise SourceError(f"{path} is neither a file nor a folder; give one of them, as it is read twice")
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": csv_rows, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        hint = (
            "unpack it first, and give its folder"
            if path.suffix in (".gz", ".zip", ".tar")
            else ("give a .jsonl, .csv or .parquet file, or a folder of .txt and .md files")
        )
        raise SourceError(f"{path} is of no known kind; {hint}")
    return reader


def text_lines(path: Path) -> Iterator[tuple[str, str | DocumentError]]:
    """The lines of a file that are not blank: where each stands, and its text or that it is no UTF-8.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name} line {number}"
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                yield (
                    where,
                    DocumentError(f"{where} is not UTF-8 (byte {error.start}); convert the file to UTF-8"),
                )
            else:
                if text.strip():
                    yield where, text


def json_lines(path: Path, remedy: str = "correct the line") -> Iterator[tuple[str, Any]]:
    """The JSON values of a file with one a line, or what is wrong with a line: a `DocumentError`.

    Raises:
        OSError: the file cannot be read.
    """
    for where, line in text_lines(path):
        if isinstance(line, DocumentError):
            yield where, line
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            value = DocumentError(f"{where} is not JSON ({error}); {remedy}")
        yield where, value


def _jsonl(path: Path) -> Rows:
    for where, record in json_lines(path, "correct the line, or pass over it (--skip-bad)"):
        if not isinstance(record, dict | DocumentError):
            kind = type(record).__name__
            record = DocumentError(f"{where} is a JSON {kind}, not an object; give one object a line")
        yield where, record


def csv_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str] | DocumentError]]:
    """The rows of a table whose first line names the fields; those that a short row lacks are left out.

    Bytes that are no UTF-8 become lone surrogates, which `check_text` names.

    Raises:
        SourceError: the first line cannot be used.
        OSError: the file cannot be read.
    """
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB a field is less than a long text
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True, delimiter=delimiter)
        try:
            names = list(reader.fieldnames or [])
        except csv.Error as error:
            said = one_line(str(error))
            raise SourceError(f"{path}: the header is not CSV ({said}); correct it") from error
        _once(path, names)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{path.name} line {reader.reader.line_num}"
                yield where, DocumentError(f"{where} is not CSV ({error}); correct the line")
                continue
            where = f"{path.name} line {reader.line_num}"
            if None in row:
                yield where, DocumentError(f"{where} has more fields than the header; quote its commas")
            else:
                yield where, {key: value for key, value in row.items() if value is not None}


def _once(path: Path, names: list[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise SourceError(one_line(f"{path} has the field {twice[0]!r} twice; rename one"))


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _once(path, file.schema_arrow.names)
            for batch in file.iter_batches():
                for place, row in enumerate(_batch_rows(batch)):
                    where = f"{path.name} row {number + place + 1}"
                    yield where, DocumentError(f"{where} {row}") if isinstance(row, str) else _plain(row)
                number += len(batch)
    except SourceError:
        raise
    except Exception as error:  # damaged files fail in many ways
        raise SourceError(
            one_line(f"{path} is not a Parquet file that can be read: {error}; write it again")
        ) from error


def _batch_rows(batch: Any) -> list[Any]:
    """The rows of a batch; for one that Python cannot hold, such as text that is no UTF-8, why."""
    try:
        return list(batch.to_pylist())
    except Exception as error:
        if len(batch) == 1:
            return [f"cannot be read ({error}); correct it, or leave the field out"]
        half = len(batch) // 2
        return _batch_rows(batch.slice(0, half)) + _batch_rows(batch.slice(half))


def _plain(value: Any) -> Any:
    """Times as ISO 8601, which Qdrant's range conditions read."""
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):  # the pairs of a map are tuples
        return [_plain(item) for item in value]
    return value


def _folder(folder: Path) -> Rows:
    files = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in TEXT_SUFFIXES and path.is_file()
    )
    if not files:
        raise SourceError(f"{folder} holds no .txt or .md file and no corpus.jsonl; give another folder")
    for path in files:
        where = path.relative_to(folder).as_posix()
        try:
            yield where, {"id": where, "text": path.read_text(encoding="utf-8-sig")}
        except (OSError, UnicodeDecodeError) as error:
            yield (
                where,
                DocumentError(f"{where} cannot be read as UTF-8 text ({error}); convert it, or move it away"),
            )
