"""Some thousand points as two files: a table of what people read, and arrays.

The table has a row a point. A payload key stands in the column of its name where its value has the column's
type, else, like keys without a column, in the JSON object of column "payload"; what a point lacks is null.

The arrays are, for each named vector of the schema, its rows one point after another (`cls`, float32, or
float16 where that loses nothing), and how many rows each point has (`cls.lengths`, int64; −1 for a point
without the vector); likewise, for the payload keys `codes` and `saliency`, their bytes.

Words are not exported: stores do not read sparse vectors back, and BM25 makes the same ones of the same
text and the average length that the description has. Types turbo8 and turbo4 come back as Qdrant decodes
them, up to 3% longer or shorter (turbo4, 384 wide) than the unit vectors that they were; written as they are,
they would be off by that factor once more each time. So they are made unit vectors again, whose codes are the
same: over three copies no coordinate moved by more than 1e-7. Fixed dimensional encodings (turbo4, 5120 wide)
have a length that is not known any more, and each copy changes it by about 1%.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from connector.collection.backup.manifest import MAX_BYTES, MAX_POINTS
from connector.core.errors import TransferError, one_line
from connector.core.io import Arrays, load_arrays, parquet, to_json
from connector.core.types import Document, Float32, Sparse, passage_text, point_id
from connector.scoring.bm25 import BM25
from connector.stores import Point, Record
from connector.stores.schema import FDE, LEXICAL, CollectionSchema, VectorSchema

BLOBS = ("codes", "saliency")


COLUMNS: dict[str, type] = {
    "id": str,
    "passage": int,
    "passages": int,
    "hash": str,
    "title": str,
    "text": str,
    "metadata": dict,
    "rows": int,
    "words": int,
}
"""Payload keys that have a column, with the type of their values."""


REST = {"revised": str, "start": int, "gap": str, "full_title": str}
"""Payload keys of some points, which have no column, with the type of their values."""


KEYS = [*COLUMNS, *BLOBS, *REST]
"""All payload keys of points."""


_PART_BYTES = 64 * 2**20


_POINT, _REST = "point", "payload"


def cut(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in order, in lists that fit a part."""
    part: list[Record] = []
    size = 0
    for record in records:
        part.append(record)
        size += sum(vector.nbytes for vector in record.vectors.values()) + len(to_json(record.payload))
        if len(part) == MAX_POINTS or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


# Writing


def table(records: Sequence[Record]) -> bytes:
    """The Parquet file of a part."""
    arrow, sink = parquet(), io.BytesIO()
    rows = arrow.Table.from_pylist([_row(record) for record in records], schema=_columns())
    arrow.parquet.write_table(rows, sink, compression="zstd", use_dictionary=False)
    return sink.getvalue()


def _columns() -> Any:
    arrow = parquet()
    types = {int: arrow.int64(), str: arrow.string(), dict: arrow.string()}
    named = [(key, types[kind]) for key, kind in COLUMNS.items()]
    return arrow.schema([(_POINT, arrow.string()), *named, (_REST, arrow.string())])


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {_POINT: record.id}
    rest = {}
    for key, value in record.payload.items():
        if type(value) is COLUMNS.get(key):
            row[key] = to_json(value) if isinstance(value, dict) else value
        elif key not in BLOBS:
            rest[key] = value
    return row | {_REST: to_json(rest)} if rest else row


def arrays(records: Sequence[Record], schema: CollectionSchema) -> bytes:
    """The safetensors file of a part."""
    columns: Arrays = {}
    for vector in schema.vectors:
        given = [record.vectors.get(vector.name) for record in records]
        rows = [None if it is None else it.reshape(-1, vector.size) for it in given]
        columns |= _ragged(vector.name, rows, np.empty((0, vector.size), np.float32))
        columns[vector.name] = _smallest(columns[vector.name])
    for key in BLOBS:
        if any(key in record.payload for record in records):
            columns |= _ragged(key, [_bytes(it, key) for it in records], np.empty(0, np.uint8))
    return save_safetensors(columns)


def _ragged(name: str, rows: Sequence[NDArray[Any] | None], nothing: NDArray[Any]) -> Arrays:
    lengths = np.array([-1 if it is None else len(it) for it in rows], np.int64)
    joined = np.concatenate([nothing, *(it for it in rows if it is not None)])
    return {name: joined, f"{name}.lengths": lengths}


def _smallest(rows: Float32) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), rows) else rows


def _bytes(record: Record, key: str) -> NDArray[np.uint8] | None:
    if key not in record.payload:
        return None
    try:
        return np.frombuffer(base64.b64decode(record.payload[key], validate=True), np.uint8)
    except (TypeError, ValueError) as error:
        raise TransferError(
            f"point {record.id}: {key!r} is not base64 ({error}); ingest its document again"
        ) from error


# Reading


def read(
    table_file: Path, vectors_file: Path, count: int, schema: CollectionSchema, words: BM25 | None
) -> list[Point]:
    """The points of a part, as they are written to a store.

    Args:
        table_file, vectors_file: the files.
        count: how many points they hold.
        schema: the vectors that points may have.
        words: what makes the index of words, if the collection has one.

    Raises:
        TransferError: the files do not hold such points.
    """
    arrow = parquet()
    try:
        rows = _rows(table_file, count)
        vectors = _vectors(load_arrays(vectors_file.read_bytes()), count, schema)
        return [_point(row, its, words) for row, its in zip(rows, vectors, strict=True)]
    except (OSError, ValueError, TypeError, LookupError, RecursionError, arrow.ArrowException) as error:
        raise TransferError(
            f"{table_file} and {vectors_file.name} hold no points of a collection ({one_line(str(error))}); "
            "export it again"
        ) from error


def _rows(path: Path, count: int) -> list[dict[str, Any]]:
    arrow = parquet()
    with arrow.parquet.ParquetFile(path) as file:
        if not file.schema_arrow.equals(_columns()):
            raise ValueError(f"columns are {file.schema_arrow.names}")
        if file.metadata.num_rows != count:
            raise ValueError(f"{file.metadata.num_rows} rows instead of {count}")
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        columns = [group.column(number) for group in groups for number in range(group.num_columns)]
        unpacked = sum(max(column.total_uncompressed_size, 0) for column in columns)
        if unpacked > MAX_BYTES or any(column.has_dictionary_page for column in columns):
            raise ValueError(f"it unpacks to {unpacked} bytes")
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
    return rows


def _vectors(found: Arrays, count: int, schema: CollectionSchema) -> list[Arrays]:
    """Vectors and blobs of each point, by name."""
    points: list[Arrays] = [{} for _ in range(count)]
    known = {vector.name: vector for vector in schema.vectors}
    names = {name.removesuffix(".lengths") for name in found}
    if not known.keys() <= names <= {*known, *BLOBS}:
        raise ValueError(f"arrays are {sorted(found)}")
    for name in names:
        vector, lengths = known.get(name), found[f"{name}.lengths"]
        rows = _checked(name, found[name], vector)
        if lengths.dtype != np.int64 or lengths.shape != (count,):
            raise ValueError(f"lengths of {name!r} are {lengths.dtype} {lengths.shape}")
        there = lengths[lengths != -1]
        least, most = (0, len(rows)) if vector is None else (1, len(rows) if vector.multivector else 1)
        if ((there < least) | (there > most)).any() or there.sum() != len(rows):
            raise ValueError(f"lengths of {name!r} do not fit it")
        pieces = np.split(rows, np.cumsum(there)[:-1])
        for number, piece in zip(np.flatnonzero(lengths != -1).tolist(), pieces, strict=False):
            points[number][name] = piece if vector is None or vector.multivector else piece[0]
    return points


def _checked(name: str, rows: NDArray[Any], vector: VectorSchema | None) -> NDArray[Any]:
    """The bytes of a payload key, or the rows of a vector, which Qdrant stores as it had them stored."""
    types, widths = ((np.uint8,), ()) if vector is None else ((np.float16, np.float32), (vector.size,))
    if rows.dtype not in types or rows.ndim == 0 or rows.shape[1:] != widths or not np.isfinite(rows).all():
        raise ValueError(f"{name!r} is {rows.dtype} {rows.shape}, or not finite")
    if vector is None:
        return rows
    rows = rows.astype(np.float32)
    if vector.datatype.startswith("turbo") and vector.name != FDE:
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return rows


def _point(row: dict[str, Any], arrays: Arrays, words: BM25 | None) -> Point:
    payload = _payload(row)
    payload |= {key: base64.b64encode(arrays.pop(key).tobytes()).decode() for key in BLOBS if key in arrays}
    vectors: dict[str, Float32 | Sparse] = dict(arrays)
    if words is not None and "words" in payload:
        vectors[LEXICAL] = words.passage(passage_text(payload.get("title"), payload["text"]))
    return Point(row[_POINT], vectors, payload)


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    payload = json.loads(row[_REST]) if row[_REST] is not None else {}
    if not isinstance(payload, dict) or not set(payload) <= set(KEYS) - set(BLOBS):
        raise ValueError(f"{row[_REST]!r:.80} is not a payload")
    for key, kind in COLUMNS.items():
        if row[key] is not None:
            payload[key] = json.loads(row[key]) if kind is dict else row[key]
    for key, kind in REST.items():
        if key in payload and type(payload[key]) is not kind:
            raise ValueError(f"{key} of document {payload['id']!r} is {payload[key]!r:.80}")
    number, metadata = payload.get("passage", 0), payload.get("metadata", {})
    if type(number) is not int or row[_POINT] != point_id(payload["id"], number):
        raise ValueError(f"point {row[_POINT]} is not passage {number} of document {payload['id']!r}")
    if "passage" in payload and not isinstance(payload.get("text"), str):
        raise ValueError(f"passage {number} of document {payload['id']!r} has no text")
    rest = {key: value for key, value in payload.items() if key != "metadata"}
    for values in (rest, metadata):  # what no document may have, such as a NUL, no store keeps
        Document(id=payload["id"], text="-", title=payload.get("title"), metadata=values)
    return payload
