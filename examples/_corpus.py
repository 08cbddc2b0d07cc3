"""What the examples search: some of the docstrings that `connector demo` searches, or a file you name."""

from __future__ import annotations

from pathlib import Path

from connector import Document
from connector.demo import standard_library
from connector.sources import Source

MODULES = {"collections", "copy", "difflib", "functools", "glob", "heapq", "itertools", "shutil"}


def corpus(file: str | None = None) -> list[Document]:
    """The documents of some modules, or those of a `.jsonl`, `.csv`, `.parquet` or folder of texts."""
    if file is not None:
        return list(Source(Path(file)))
    return standard_library(MODULES)
