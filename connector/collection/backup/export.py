"""A collection to a folder, which is there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import portalocker

from connector.collection.backup.manifest import (
    ARTIFACT_FILES,
    ARTIFACTS,
    LOCK_FILE,
    MANIFEST_FILE,
    PASSING,
    File,
    Manifest,
    Part,
    ours,
    read_manifest,
)
from connector.collection.backup.part_files import KEYS, arrays, cut, parquet, table
from connector.collection.collection import CANARIES_FILE, Collection
from connector.core.errors import StoreError, TransferError
from connector.stores import Record

Progress = Callable[[str, int, int], None]
"""Told what is done, how many of its points are, and of how many."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        folder: where.
        collection: what was exported.
        documents, passages: how many.
        files: how many, with the manifest.
        bytes: of all of them.
        seconds: wall-clock time.
    """

    folder: str
    collection: str
    documents: int
    passages: int
    files: int
    bytes: int
    seconds: float


def export_collection(
    collection: Collection, folder: str | os.PathLike[str], progress: Progress | None = None
) -> ExportReport:
    """Write all of a collection to a folder: documents, metadata, vectors, codes, and what reads them.

    The folder appears when it is whole; until then `<folder>.partial` is written, which the next run
    replaces. An export that is there is replaced. While the two change places it is `<folder>.old`, and a
    run that finds it so puts it back. Memory is bounded by one part.

    Args:
        collection: to which nobody may write meanwhile; if anybody does, it is noticed at the end.
        folder: missing, or an earlier export.
        progress: called after each part.

    Raises:
        TransferError: something else is at the place, another export is being written there, it cannot be
            written, or the collection changes.
        MissingExtra: pyarrow is not installed.
    """
    collection.check_own("an export holds none of its vectors; make a snapshot of it with Qdrant")
    parquet()
    started = time.perf_counter()
    target = Path(folder).expanduser().resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _recover(target)
        with _partial(target) as partial:
            manifest = _write(collection, partial, progress or (lambda *_: None))
            _replace(target, partial)
        (target / LOCK_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise TransferError(f"{target} cannot be written: {error}; make room, or allow writing") from error
    return ExportReport(
        folder=str(target),
        collection=collection.name,
        documents=manifest.documents,
        passages=manifest.passages,
        files=manifest.count,
        bytes=manifest.size,
        seconds=time.perf_counter() - started,
    )


# Places


def _beside(target: Path, end: str) -> Path:
    return target.parent / (target.name + end)


def _recover(target: Path) -> None:
    """Undo, or finish, what a killed run has left of a replacement, and refuse what is not ours.

    Raises:
        TransferError: something at the places is no export.
    """
    old = _beside(target, ".old")
    for place in (target, old):
        if os.path.lexists(place) and not ours(place):
            raise TransferError(
                f"{place} is there and is no export, or holds other files, too; it is left alone: give "
                "another folder"
            )
    if target.exists():
        read_manifest(target)
        if old.exists():
            shutil.rmtree(old)
    elif old.exists():
        read_manifest(old)
        old.rename(target)


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """An empty folder that this run alone writes.

    Raises:
        TransferError: another run writes there, or it is no folder of ours.
    """
    partial = _beside(target, ".partial")
    partial.mkdir(exist_ok=True)
    if not ours(partial):
        raise TransferError(f"{partial} is there and was not left by an export; move it away")
    lock = portalocker.Lock(partial / LOCK_FILE, "a", timeout=0, fail_when_locked=True)
    try:
        lock.acquire()
    except portalocker.exceptions.LockException as error:
        raise TransferError(f"another export is writing {partial}; wait until it ends") from error
    try:
        for path in partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:
                path.unlink()
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        lock.release()


def _replace(target: Path, partial: Path) -> None:
    old = _beside(target, ".old")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    _sync(target.parent)
    if old.exists():
        shutil.rmtree(old)


def _sync(folder: Path) -> None:
    """Make the names in a folder outlast a loss of power."""
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Contents


def _write(collection: Collection, folder: Path, progress: Progress) -> Manifest:
    store, name = collection.store, collection.physical
    info, total = _whole(collection), store.count(name)
    (folder / ARTIFACTS).mkdir()
    artifacts = [_put(folder, f"{ARTIFACTS}/{key}", data) for key, data in _artifacts(collection, info)]
    parts: list[Part] = []
    documents = passages = points = 0
    states, vectors = hashlib.sha256(), [vector.name for vector in collection.schema.vectors]
    progress("Exporting", 0, total)
    for records in cut(store.scroll(name, KEYS, vectors)):
        number = f"{len(parts):05d}"
        written = _put(folder, f"points-{number}.parquet", table(records))
        with_vectors = _put(folder, f"vectors-{number}.safetensors", arrays(records, collection.schema))
        parts.append(Part(points=len(records), table=written, vectors=with_vectors))
        numbers = [record.payload["passage"] for record in records if "passage" in record.payload]
        documents, passages = documents + numbers.count(0), passages + len(numbers)
        points += len(records)
        for record in records:
            states.update(_state(record))
        progress("Exporting", points, total)
    now = hashlib.sha256()
    for record in store.scroll(name, _STATE):
        now.update(_state(record))
    if now.digest() != states.digest() or _whole(collection) != info:
        raise TransferError(
            f"collection {collection.name!r} changed while it was exported; run the export again when nobody "
            "writes to it"
        )
    manifest = Manifest(
        library=version("qdrant-late-interaction"),
        collection=collection.name,
        info=info,
        documents=documents,
        passages=passages,
        points=points,
        parts=parts,
        artifacts=artifacts,
    ).signed()
    _put(folder, MANIFEST_FILE, manifest.text())
    _sync(folder / ARTIFACTS)
    _sync(folder)
    return manifest


_STATE = ["hash", "passages", "revised"]
"""Of a document, what every change of it changes."""


def _state(record: Record) -> bytes:
    return repr([record.id, *(record.payload.get(key) for key in _STATE)]).encode()


def _whole(collection: Collection) -> dict[str, str]:
    """What the collection says of its content."""
    info = collection.said()
    for key in ("building", "filling", "frozen"):
        if info.get(key):
            raise TransferError(
                f"collection {collection.name!r} is being changed ({key}: {info[key]}); let that end first"
            )
    return {key: value for key, value in info.items() if key not in PASSING}


def _artifacts(collection: Collection, info: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    for key in ARTIFACT_FILES:
        told = key.partition(".")[0]  # "codec" and "frequencies" are in the description if they are there
        if key == CANARIES_FILE:
            with contextlib.suppress(StoreError):
                yield key, collection.store.get_artifact(collection.physical, key)
        elif told in info:
            yield key, collection.store.get_artifact(collection.physical, key)


def _put(folder: Path, name: str, data: bytes) -> File:
    """Write a file for good; its digest is of what was to be written, so that reading finds what was not."""
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return File.of(name, data)
