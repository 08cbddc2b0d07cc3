"""Reading and writing bytes: safetensors, Parquet, sealed artifacts, whole files; canonical JSON; batches."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from connector.core.errors import StoreError, require

Arrays = dict[str, NDArray[Any]]


_LARGEST = 1e15
"""Of a learned number; nothing learned comes near, and products of such vectors are still finite."""


def load_arrays(data: bytes) -> Arrays:
    """The arrays of a safetensors file.

    Raises:
        ValueError: the bytes are not such a file, or hold numbers of a type that NumPy lacks.
    """
    try:
        return dict(load(data))
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(f"no safetensors file: {error!r:.200}") from error


def parquet() -> Any:
    """pyarrow with what reads and writes Parquet.

    Raises:
        MissingExtra: it is not installed.
    """
    require("pyarrow.parquet", "parquet")
    return require("pyarrow", "parquet")


def check_learned(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Look whether arrays can be what was learned.

    Raises:
        ValueError: one holds something else than finite floats of a sane size.
    """
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not float(np.abs(array).max(initial=0)) <= _LARGEST:
            raise ValueError(
                f"{name:.80} ({array.dtype}) holds what is not a finite float up to {_LARGEST:g}"
            )


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; when the source fails, what came before is given out first."""
    batch: list[T] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:  # raised again, behind what came before it
        if batch:
            yield batch
        raise
    if batch:
        yield batch


_MAGIC = b"artifact"


_HEADER = len(_MAGIC) + 8 + 32


def sealed(data: bytes) -> bytes:
    """What is stored of an artifact: 8 bytes "artifact", its size, its SHA-256, itself."""
    return _MAGIC + len(data).to_bytes(8, "big") + hashlib.sha256(data).digest() + data


def unsealed(stored: bytes, what: str) -> bytes:
    """The artifact again.

    Args:
        stored: from `sealed`.
        what: names it, for messages.

    Raises:
        StoreError: it is not what was stored.
    """
    data, size, digest = stored[_HEADER:], stored[8:16], stored[16:_HEADER]
    if not stored.startswith(_MAGIC) or int.from_bytes(size, "big") != len(data):
        raise StoreError(
            f"{what} has {len(stored)} bytes and is not an artifact of that size; restore an export"
        )
    if not hmac.compare_digest(hashlib.sha256(data).digest(), digest):
        raise StoreError(f"{what} was changed since it was stored (SHA-256); restore an export")
    return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a part.

    Raises:
        StoreError: it cannot be written; the old content stays.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}; make room, or allow writing") from error
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """16 hexadecimal digits over the canonical JSON of a value."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]
