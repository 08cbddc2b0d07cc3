"""Whether a disk has room and may be written, looked at before the engine maps files on it.

The engine writes through mapped files that are mostly holes. Where the disk has no page for a hole, the
system ends the process (SIGBUS), and there is no error that anybody could catch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from connector.core.errors import StoreError

_SPARE = 64 * 2**20
"""Bytes to be left beside what is written: a segment of the log and one of points, 32 MiB each. Of it comes
what the next flush writes, some hundred bytes a point, and what the engine moves to change a point."""


_OPENING = 2**20
"""Bytes to be left when a shard is opened: the engine writes small files, of which 15 KiB were seen."""


def check_writes(place: Path, size: int = 0) -> None:
    """Look for room to write some bytes.

    Args:
        place: a shard that is open, or the folder to make one in.
        size: bytes that are written.

    Raises:
        StoreError: there is not enough.
    """
    _check_room(place, f"writing to {place}", _SPARE + size + _holes(place))


def check_opens(shard: Path) -> None:
    """Look whether the engine can open a shard; one that was flushed takes next to no room.

    Raises:
        StoreError: it may not be written, or there is not enough room to do again what the log has.
    """
    if shard.is_dir():  # else the engine says what is missing
        check_writable(shard, *shard.rglob("*"))
        _check_room(shard, f"opening {shard}", _OPENING + _unflushed(shard / "wal") + _holes(shard))


def check_writable(*paths: Path) -> None:
    """Raises StoreError unless this process may write all of these that are there."""
    for path in paths:
        if path.exists() and not os.access(path, os.W_OK):
            raise StoreError(
                f"{path} is read-only, and Qdrant Edge writes to its files even to search them; copy the "
                "folder, while nobody writes to it, to where you may write (cp -r, chmod -R u+w) and open "
                "the copy, or import an export there"
            )


def files(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """The files of a folder: path, length, and the bytes that it takes, as the engine's have holes."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the engine removes files as it goes
            if path.is_file():
                status = path.stat()
                size = status.st_size  # Windows does not say how many blocks
                yield path, size, getattr(status, "st_blocks", -(-size // 512)) * 512


def _check_room(place: Path, doing: str, need: int) -> None:
    free = shutil.disk_usage(place).free
    if free < need:
        raise StoreError(
            f"{doing} needs {need / 1e6:,.1f} MB of room, and the disk has {free / 1e6:,.1f} MB; make room "
            f"for {(need - free) / 1e6:,.1f} MB more, as a full disk would end this process"
        )


def _unflushed(log: Path) -> int:
    """Bytes of the log that opening does again: the entries after the last flush.

    Its segments, the closed ones named by the number of their first entry, begin with 8 bytes; an entry is
    its length in 8 bytes, itself, and a checksum of 4, filled up to a multiple of 8.
    """
    try:
        flushed = int(json.loads((log / "first-index").read_bytes())["ack_index"]) or -1  # 0: of none, or one
    except (OSError, ValueError, KeyError, TypeError):
        flushed = -1
    number = total = 0
    for path in sorted(log.glob("*-*[0-9]"), key=lambda it: (it.name[0], len(it.name), it.name)):
        if path.name.startswith("closed-"):
            number = int(path.name.removeprefix("closed-"))
        length, at = path.stat().st_size, 8
        with path.open("rb") as file:
            while at < length and file.seek(at) and (size := int.from_bytes(file.read(8), "little")):
                total += size if number > flushed else 0
                number, at = number + 1, at + -(-(size + 12) // 8) * 8
    return min(total, sum(taken for _, _, taken in files(log)))


def _holes(place: Path) -> int:
    """Bytes that reading a shard takes where it lies in memory: there, whoever reads a hole fills it.

    Payloads and sparse vectors are only read where they were written.
    """
    device = place.stat().st_dev
    with contextlib.suppress(OSError):  # what is no Linux has no such list
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        mount = f" {os.major(device)}:{os.minor(device)} "
        if any(mount in it and " - tmpfs " in it for it in mounts):
            segments = files(place / "segments")
            unread = {"payload_storage", "store"}
            return sum(max(0, size - taken) for it, size, taken in segments if it.parent.name not in unread)
    return 0
