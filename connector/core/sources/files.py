"""The bytes of a file: as they are, packed by gzip or Zstandard, or standard input, which is called "-"."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Literal

from connector.core.errors import SourceError, one_line, require

STDIN = Path("-")


PACKED = (".gz", ".zst")


JSON_LINES = (".jsonl", ".ndjson")


Mode = Literal["rb", "wb"]


def name_of(path: Path) -> str:
    """What messages call a file."""
    return "stdin" if path == STDIN else path.name


def kind(path: Path) -> str:
    """What the name of a file ends in, without .gz or .zst, such as ".csv"; standard input is JSON Lines."""
    if path == STDIN:
        return JSON_LINES[0]
    packed = path.suffix.lower() in PACKED
    return Path(path.stem if packed else path.name).suffix.lower()


def packed_or_not(path: Path) -> Path:
    """A file, or where it is missing, the one that is called so with .gz or .zst behind."""
    names = [path, *(path.with_name(path.name + ending) for ending in PACKED)]
    return next((name for name in names if name.is_file()), path)


@contextmanager
def opened(path: Path, mode: Mode = "rb") -> Iterator[BinaryIO]:
    """A file to be read unpacked, or written packed if its name says so.

    Raises:
        SourceError: what is packed is damaged; or standard input is asked for, and nothing is piped into it.
        MissingExtra: what unpacks it is not installed.
        OSError: the file cannot be read or written.
    """
    packer, damages = _packer(path)
    try:
        with packer(path, mode) as file:
            yield file
    except damages as error:
        message = f"{path} is damaged, no whole {path.suffix} file: {error}; copy or make it again"
        raise SourceError(one_line(message)) from error


def check_writable(path: Path) -> None:
    """See that a file can be written. What is there stays as it is; pipes and devices are not touched.

    Raises:
        MissingExtra: what packs it is not installed.
        OSError: it cannot be written.
    """
    _packer(path)
    there = path.exists()
    if path.is_file() or not there:
        with path.open("ab"):
            pass
    if not there:
        path.unlink()


def _packer(path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """What opens a file, and what it raises if the file is damaged."""
    match path.suffix.lower():
        case ".gz":
            return gzip.open, (gzip.BadGzipFile, EOFError, zlib.error)
        case ".zst":
            zstd = require("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd", "zstd")
            return zstd.open, (zstd.ZstdError, EOFError)
    return (_stdin if path == STDIN else open), ()


def _stdin(_path: Path, _mode: Mode) -> AbstractContextManager[BinaryIO]:
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceError(
            "- is standard input, and nothing is piped into it; pipe a file into it, or name one"
        )
    return nullcontext(sys.stdin.buffer)


def spooled() -> Path:
    """Standard input as a file, which can be read several times and is the caller's to remove.

    Raises:
        SourceError: it is empty, or nothing is piped into it.
        OSError: there is no room for it.
    """
    with opened(STDIN) as stdin, tempfile.NamedTemporaryFile(prefix="connector-", delete=False) as file:
        path = Path(file.name)
        try:
            shutil.copyfileobj(stdin, file)
            if not file.tell():
                raise SourceError("- is standard input, and it is empty; pipe JSON Lines into it")
        except BaseException:
            path.unlink()
            raise
    return path
