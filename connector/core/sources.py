"""Files and folders as documents: JSON Lines, CSV, Parquet, folders of text, BEIR folders."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from connector.core.errors import DocumentError, SourceError, one_line
from connector.core.io import parquet
from connector.core.types import Document

ID_FIELDS = ("_id", "id", "doc_id")


TEXT_FIELDS = ("text", "contents", "content", "body", "passage", "page_content")


TITLE_FIELDS = ("title",)


TEXT_SUFFIXES = (".txt", ".md")


Record = dict[str, Any]


Rows = Iterator[tuple[str, Record | DocumentError]]
"""Where each record stands, such as "docs.jsonl line 3", and the record or what is wrong with it."""


@dataclass(eq=False)
class Source:
    """A file or folder that can be read as documents, as often as one likes.

    - `.jsonl`, `.ndjson`: one JSON object a line; `.csv`: a header and rows; `.parquet`: needs the extra
      `parquet`. The first known id, text and title field is taken, all others become metadata; an
      object under "metadata" is merged into it. A record without an id is called by its place.
    - a folder with a `corpus.jsonl`: that file (BEIR).
    - any other folder: its `.txt` and `.md` files, at any depth, also behind links to folders, each of which
      is read once; the id is the path inside the folder. What cannot be looked at, such as a folder or a
      link that leads nowhere, counts as a bad record.

    Args:
        path: the file or folder.
        id_field, text_field, title_field: names of these fields where they are not the usual ones.
        skip_bad: pass over records that cannot be used.

    Attributes:
        bad: what is wrong with the records that the last reading passed over.

    Raises:
        SourceError: the path is missing, unreadable, or of no known kind.
    """

    path: Path
    _: KW_ONLY
    id_field: str | None = None
    text_field: str | None = None
    title_field: str | None = None
    skip_bad: bool = False
    bad: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        self._rows = _reader(self.path)

    def __iter__(self) -> Iterator[Document]:
        """The documents, in the order of the source.

        Raises:
            DocumentError: a record cannot be used, unless bad ones are skipped.
            SourceError: the source cannot be read.
        """
        self.bad = []
        try:
            for where, record in self._rows(self.path):
                try:
                    document = self._document(where, record)
                except DocumentError as error:
                    message = one_line(str(error))
                    if not self.skip_bad:
                        raise DocumentError(message) from error
                    self.bad.append(message)
                else:
                    yield document
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error}; see whether it may be") from error

    def _document(self, where: str, record: Record | DocumentError) -> Document:
        if isinstance(record, DocumentError):
            raise record
        names, fields = ", ".join(map(repr, record)) or "none", dict(record)
        if self.id_field and self.id_field not in fields:
            raise DocumentError(
                f"{where}: no field {self.id_field!r}; its fields are {names}: name one of them"
            )
        id_ = _take(fields, self.id_field, ID_FIELDS)
        text = _take(fields, self.text_field, TEXT_FIELDS)
        title = _take(fields, self.title_field, TITLE_FIELDS)
        if text is None:
            raise DocumentError(
                f"{where}: no text; its fields are {names}: name the one with the text (--text-field)"
            )
        if type(id_) is int:
            id_ = str(id_)
        title = None if title == "" else title
        if isinstance(text, str) and not text.strip() and isinstance(title, str) and title.strip():
            text, title = title, None
        metadata = fields.pop("metadata", None)
        if metadata is not None:
            fields |= metadata if isinstance(metadata, dict) else {"metadata": metadata}
        try:
            return Document(where if id_ in (None, "") else id_, text, title, fields)
        except DocumentError as error:
            raise DocumentError(f"{where}: {error}") from error


def _take(fields: Record, given: str | None, usual: tuple[str, ...]) -> Any:
    """Remove and return the field that was named, or the first of the usual ones that is there."""
    names = (given,) if given else usual
    return next((fields.pop(name) for name in names if name in fields), None)


def text_lines(path: Path) -> Iterator[tuple[str, str | DocumentError]]:
    """The lines of a file that are not blank: where each stands, and its text or that it is not UTF-8.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name} line {number}"
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                yield where, DocumentError(f"{where} is not UTF-8 (byte {error.start}); convert the file")
            else:
                if text.strip():
                    yield where, text


def json_lines(path: Path, remedy: str = "correct the line") -> Iterator[tuple[str, Any]]:
    """The JSON values of a file with one a line, or what is wrong with a line: a `DocumentError`.

    Raises:
        OSError: the file cannot be read.
    """
    for where, line in text_lines(path):
        try:
            yield where, line if isinstance(line, DocumentError) else json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, DocumentError(f"{where} is not JSON ({error}); {remedy}")


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
            _check_unique(path, reader.fieldnames or ())
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
                yield where, DocumentError(f"{where} has more fields than the header; quote its commas")
            else:
                yield where, {key: value for key, value in row.items() if value is not None}


def _check_unique(path: Path, names: Sequence[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise SourceError(one_line(f"{path} has the field {name!r} twice; rename one"))


def _parquet(path: Path) -> Rows:
    arrow = parquet()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            _check_unique(path, file.schema_arrow.names)
            rows = (row for batch in file.iter_batches() for row in _batch_rows(batch))
            for number, row in enumerate(rows, 1):
                where = f"{path.name} row {number}"
                yield where, DocumentError(f"{where} {row}") if isinstance(row, str) else row
    except SourceError:
        raise
    except Exception as error:  # damaged files fail in many ways
        raise SourceError(
            one_line(f"{path} is not a Parquet file that can be read: {error}; write it again")
        ) from error


def _batch_rows(batch: Any) -> list[Any]:
    """The rows of a batch; for one that Python cannot hold, such as text that is not UTF-8, why."""
    try:
        return list(batch.to_pylist())
    except Exception as error:
        if len(batch) == 1:
            return [f"cannot be read ({error}); correct it, or leave the field out"]
        half = len(batch) // 2
        return _batch_rows(batch.slice(0, half)) + _batch_rows(batch.slice(half))


def _folder(folder: Path) -> Rows:
    if (folder / "corpus.jsonl").is_file():
        yield from _jsonl(folder / "corpus.jsonl")
        return
    found = _texts(folder)
    if not found:
        raise SourceError(f"{folder} holds no .txt or .md file and no corpus.jsonl; give another folder")
    for path in sorted(found):
        where = path.relative_to(folder).as_posix()
        try:
            if (unreadable := found[path]) is not None:
                raise unreadable
            yield where, {"id": where, "text": path.read_text(encoding="utf-8-sig")}
        except UnicodeDecodeError as error:
            message = f"{where} cannot be read as UTF-8 text ({error}); convert it, or move it away"
            yield where, DocumentError(message)
        except OSError as error:
            remedy = "allow it, move it away, or pass over it (--skip-bad)"
            message = f"{where} cannot be read ({error.strerror}); {remedy}"
            yield where, DocumentError(message)


def _texts(folder: Path) -> dict[Path, OSError | None]:
    """The texts in a folder, at any depth, and what cannot be looked at there, with why.

    A folder to which several ways lead is looked through once: by its own, if that is inside, else by the
    first link.

    Raises:
        OSError: the folder itself cannot be looked at.
    """
    found, seen, waiting = dict[Path, OSError | None](), set[tuple[int, int]](), deque([folder])

    def unreadable(error: OSError) -> None:
        found[Path(error.filename)] = error

    while waiting:
        for place, folders, files in os.walk(waiting.popleft(), onerror=unreadable):
            status = Path(place).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders.sort()
            waiting += filter(os.path.islink, (Path(place, name) for name in folders))
            for path in (Path(place, name) for name in files):
                try:
                    if stat.S_ISREG(path.stat().st_mode) and path.suffix.lower() in TEXT_SUFFIXES:
                        found[path] = None
                except OSError as error:  # such as a link that leads nowhere, perhaps to a folder once
                    found[path] = error
    if (reason := found.get(folder)) is not None:
        raise reason
    return found


_READERS = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": csv_rows, ".parquet": _parquet}


_KINDS = "give a .jsonl, .csv or .parquet file, or a folder of .txt and .md files"


def _reader(path: Path) -> Callable[[Path], Rows]:
    """What reads a file or folder of this kind."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        message = f"{path} does not exist, or cannot be looked at ({error.strerror}); {_KINDS}"
        raise SourceError(message) from error
    if stat.S_ISDIR(mode):
        return _folder
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is neither a file nor a folder; give one of them, as it is read twice")
    if path.suffix.lower() in _READERS:
        return _READERS[path.suffix.lower()]
    packed = path.suffix in (".gz", ".zip", ".tar")
    remedy = "unpack it first, and give its folder" if packed else _KINDS
    raise SourceError(f"{path} is of no known kind; {remedy}")
