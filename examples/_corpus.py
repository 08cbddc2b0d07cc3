"""What the examples search: some of the docstrings that `connector demo` searches, or a file you name."""

from __future__ import annotations

import argparse
from pathlib import Path

from connector import Document
from connector.cli.demo_corpus import standard_library
from connector.core.sources import Source

MODULES = {"collections", "copy", "difflib", "functools", "glob", "heapq", "itertools", "shutil"}


def given(about: str | None, *names: str) -> list[str | None]:
    """The words after the command, each of which may be left out; --help tells of them."""
    raw = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(description=about, formatter_class=raw)
    for name in names:
        words.add_argument(name, nargs="?")
    return list(vars(words.parse_args()).values())


def corpus(file: str | None = None) -> list[Document]:
    """The documents of some modules, or those of a `.jsonl`, `.csv`, `.parquet` or folder of texts."""
    if file is not None:
        return list(Source(Path(file)))
    return standard_library(MODULES)
