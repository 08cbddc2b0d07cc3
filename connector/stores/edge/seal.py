"""The sizes of a shard's files when it was closed, by which damage is seen before the engine stumbles on it.

The engine maps its files: one that was cut off kills the process, one that is missing makes it break off, or
answer without what was in it. A shard that is open has no seal, nor has one whose process was killed.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from connector.core.errors import StoreError
from connector.core.io import write_atomically

SEAL_FILE = "sealed.json"


def seal(home: Path) -> None:
    """Write down the sizes of a collection's files; its shard is closed."""
    with contextlib.suppress(StoreError):  # as on a full disk: then nobody looks
        write_atomically(home / SEAL_FILE, json.dumps(_sizes(home)).encode())


def unseal(home: Path) -> None:
    """Look whether a collection's files are as they were when it was closed.

    Raises:
        StoreError: they are not; the message names one.
    """
    try:
        sealed = json.loads((home / SEAL_FILE).read_bytes())
    except (OSError, ValueError):  # there is none
        return
    there = _sizes(home)
    for file, size in sealed.items():
        if there.get(file) != size:
            now = f"{there[file]:,} bytes" if file in there else "missing"
            raise StoreError(
                f"{home / file} was damaged, or copied over an older copy: when the collection was closed it "
                f"had {size:,} bytes, now it is {now}; restore an export, or the folder from a copy (to open "
                f"it as it is, remove {home / SEAL_FILE})"
            )
    (home / SEAL_FILE).unlink()


def _sizes(home: Path) -> dict[str, int]:
    shard = home / "shard"
    files = (path for path in shard.rglob("*") if path.is_file())
    return {path.relative_to(home).as_posix(): path.stat().st_size for path in files}
