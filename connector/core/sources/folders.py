"""A folder as records: a BEIR corpus, a saved dataset, or texts at any depth."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

from connector.core.errors import DocumentError, SourceError
from connector.core.sources.files import packed_or_not
from connector.core.sources.lines import json_rows
from connector.core.sources.records import Rows
from connector.core.sources.tables import dataset_rows, is_dataset

TEXT_SUFFIXES = (".txt", ".md")


def folder_rows(folder: Path) -> Rows:
    """The records of a folder.

    Raises:
        SourceError: it holds none, or is damaged.
        OSError: it cannot be looked at.
    """
    corpus = packed_or_not(folder / "corpus.jsonl")
    if corpus.is_file():
        return json_rows(corpus)
    return dataset_rows(folder) if is_dataset(folder) else _text_rows(folder)


def _text_rows(folder: Path) -> Rows:
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
