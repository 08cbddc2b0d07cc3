"""Tables that pyarrow reads: Parquet files, and folders of Hugging Face datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from connector.core.errors import DocumentError, SourceError, one_line
from connector.core.io import parquet
from connector.core.sources.lines import check_unique
from connector.core.sources.records import Rows

_SPLITS, _DATASET = "dataset_dict.json", ("state.json", "dataset_info.json")


def parquet_rows(path: Path) -> Rows:
    """The rows of a Parquet file.

    Raises:
        SourceError: it is damaged.
        MissingExtra: pyarrow is not installed.
    """
    arrow = parquet()
    with _sound(path, "a Parquet file"), arrow.parquet.ParquetFile(path) as file:
        check_unique(path, file.schema_arrow.names)
        yield from _numbered(path, file.iter_batches())


def is_dataset(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of Hugging Face's datasets."""
    return (folder / _SPLITS).is_file() or all((folder / name).is_file() for name in _DATASET)


def dataset_rows(folder: Path) -> Rows:
    """The rows of such a folder: of its Arrow streams, in the order of state.json.

    Source: `Dataset.save_to_disk` and `DatasetDict.save_to_disk` of datasets 2 to 5.

    Raises:
        SourceError: it is damaged, or holds several splits.
        MissingExtra: pyarrow is not installed.
    """
    arrow = parquet()
    with _sound(folder, "a folder of Hugging Face datasets"):
        if (folder / _SPLITS).is_file():
            folder = _only_split(folder)
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [it["filename"] for it in state["_data_files"]]
        yield from _numbered(folder, _streamed(arrow, folder, names))


def _only_split(folder: Path) -> Path:
    splits = json.loads((folder / _SPLITS).read_text(encoding="utf-8"))["splits"]
    if len(splits) != 1:
        places = ", ".join(str(folder / split) for split in splits)
        raise SourceError(one_line(f"{folder} holds {len(splits)} splits; give the folder of one: {places}"))
    return folder / str(splits[0])


def _streamed(arrow: Any, folder: Path, names: list[str]) -> Iterator[Any]:
    """The batches of some Arrow streams."""
    for name in names:
        with arrow.OSFile(str(folder / name)) as file, arrow.ipc.open_stream(file) as reader:
            check_unique(folder / name, reader.schema.names)
            yield from reader


@contextmanager
def _sound(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # damaged files fail in many ways
        message = f"{path} is not {what} that can be read: {error}; write it again"
        raise SourceError(one_line(message)) from error


def _numbered(path: Path, batches: Iterator[Any]) -> Rows:
    numbers = count(1)
    for row in (row for batch in batches for row in _rows(batch)):
        where = f"{path.name} row {next(numbers)}"
        yield where, DocumentError(f"{where} {row}") if isinstance(row, str) else row


def _rows(batch: Any) -> list[Any]:
    """The rows of a batch; for one that Python cannot hold, such as text that is not UTF-8, why."""
    try:
        return list(batch.to_pylist())
    except Exception as error:
        if len(batch) == 1:
            return [f"cannot be read ({error}); correct it, or leave the field out"]
        half = len(batch) // 2
        return _rows(batch.slice(0, half)) + _rows(batch.slice(half))
