"""A collection to a folder, which is there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
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
    is_export,
    part_names,
    read_manifest,
)
from connector.collection.backup.part_files import KEYS, arrays, cut, table
from connector.collection.collection import CANARIES_FILE, Collection
from connector.core.errors import StoreError, TransferError
from connector.core.io import parquet
from connector.stores import Record

Progress = Callable[[str, int, int], None]
"""Told what is done, how many of its points are, and of how many."""


def export_collection(
    collection: Collection, folder: str | os.PathLike[str], progress: Progress | None = None
) -> Manifest:
    """Write all of a collection to a folder: documents, metadata, vectors, codes, and what reads them.

    The folder appears when it is whole; until then `<folder>.partial` is written, which the next run
    replaces. An export that is there is replaced. While the two change places it is `<folder>.old`, and a
    run that finds it so puts it back. Memory is bounded by one part.

    Args:
        collection: to which nobody may write in the meantime; if anybody does, it is noticed at the end.
        folder: missing, or an earlier export.
        progress: called after each part.

    Returns:
        The manifest of what was written.

    Raises:
        TransferError: something else is at the place, another export is being written there, it cannot be
            written, or the collection changes.
        MissingExtra: pyarrow is not installed.
    """
    collection.check_own("an export holds none of its vectors; make a snapshot of it with Qdrant")
    parquet()
    target = Path(folder).expanduser().resolve()
    old, partial = (target.with_name(target.name + end) for end in (".old", ".partial"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _made(partial):
            _recover(target, old)
            manifest = _write(collection, partial, progress or (lambda *_: None))
            if target.exists():
                target.rename(old)
            partial.rename(target)
            _sync(target.parent)
            if old.exists():
                shutil.rmtree(old)
        (target / LOCK_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise TransferError(f"{target} cannot be written: {error}; make room, or allow writing") from error
    return manifest


# Places


def _recover(target: Path, old: Path) -> None:
    """Undo, or finish, what a killed run has left of a replacement, and refuse what is not ours.

    Raises:
        TransferError: something at the places is not an export.
    """
    for place in (target, old):
        if os.path.lexists(place) and not is_export(place):
            raise TransferError(
                f"{place} is there and is not an export, or holds other files, too; it is left alone: give "
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
def _made(partial: Path) -> Iterator[None]:
    """Make a folder that this run alone writes, and remove it if it is not finished.

    Raises:
        TransferError: another run writes there, or it is not a folder of ours.
    """
    partial.mkdir(exist_ok=True)
    if not is_export(partial):
        raise TransferError(f"{partial} is there and was not left by an export; move it away")
    try:
        with portalocker.Lock(partial / LOCK_FILE, "a", timeout=0, fail_when_locked=True):
            try:
                shutil.rmtree(partial / ARTIFACTS, ignore_errors=True)
                for path in partial.iterdir():
                    if path.name != LOCK_FILE:
                        path.unlink()
                yield
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except portalocker.exceptions.LockException as error:
        raise TransferError(f"another export is writing {partial}; wait until it ends") from error


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
    info, total = _description(collection), store.count(name)
    (folder / ARTIFACTS).mkdir()
    artifacts = [_put(folder, f"{ARTIFACTS}/{key}", data) for key, data in _artifacts(collection, info)]
    parts: list[Part] = []
    before, after = hashlib.sha256(), hashlib.sha256()
    progress("Exporting", points := 0, total)
    for records in cut(store.scroll(name, KEYS, [vector.name for vector in collection.schema.vectors])):
        table_name, vectors_name = part_names(len(parts))
        written = _put(folder, table_name, table(records))
        with_vectors = _put(folder, vectors_name, arrays(records, collection.schema))
        parts.append(Part(points=len(records), table=written, vectors=with_vectors))
        for record in records:
            before.update(_state(record))
        progress("Exporting", points := points + len(records), total)
    documents, passages = collection.documents(), collection.passages()
    for record in store.scroll(name, _STATE):
        after.update(_state(record))
    if after.digest() != before.digest() or _description(collection) != info:
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


def _description(collection: Collection) -> dict[str, str]:
    """What the collection's metadata say of its content."""
    info = collection.store.info(collection.physical)
    for key in ("building", "filling", "frozen"):
        if info.get(key):
            raise TransferError(
                f"collection {collection.name!r} is being changed ({key}: {info[key]}); let that end first"
            )
    return {key: value for key, value in info.items() if key not in PASSING}


def _artifacts(collection: Collection, info: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    for key in ARTIFACT_FILES:
        if key == CANARIES_FILE:
            with contextlib.suppress(StoreError):
                yield key, collection.store.get_artifact(collection.physical, key)
        elif key.partition(".")[0] in info:  # "codec" and "frequencies" are, if they are there
            yield key, collection.store.get_artifact(collection.physical, key)


def _put(folder: Path, name: str, data: bytes) -> File:
    """Write a file for good; its digest is of what was to be written, so that reading finds what was not."""
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return File.of(name, data)
