"""A full disk: an error in one line, never the end of the process, and what is open is searched on.

The engine dies of SIGBUS, so whatever fills a disk runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from connector.core.errors import StoreError
from connector.core.types import Sparse, point_id
from connector.stores import EdgeStore, Nearest, Point
from connector.stores.schema import CollectionSchema, VectorSchema

SCHEMA = CollectionSchema((VectorSchema("cls", 64, "turbo4"),), sparse=("lexical",))
DISK = 200 * 2**20


def points(first: int, count: int) -> list[Point]:
    rng = np.random.default_rng(first)
    return [
        Point(
            point_id(str(number), 0),
            {
                "cls": rng.normal(size=64).astype(np.float32),
                "lexical": Sparse(np.arange(20), rng.random(20).astype(np.float32)),
            },
            {"n": number, "codes": rng.bytes(1500).hex()},
        )
        for number in range(first, first + count)
    ]


def amended(number: int) -> Point:
    return Point(point_id(str(number), 0), {}, {"n": -1})


WRITES: dict[str, Callable[[EdgeStore], Any]] = {
    "create": lambda store: store.create("b", SCHEMA, {}),
    "upsert": lambda store: store.upsert("a", points(400, 400)),
    "amend": lambda store: store.amend("a", [amended(number) for number in range(200)]),
    "delete": lambda store: store.delete("a", [point_id(str(number), 0) for number in range(200)]),
    "create_index": lambda store: store.create_index("a", "n", "integer"),
    "finish": lambda store: store.finish("a"),
}


def search(store: EdgeStore) -> int:
    """Reads every point in every way."""
    words = Sparse(np.arange(5), np.ones(5, np.float32))
    found = store.search("a", Nearest(np.ones(64, np.float32), "cls", 20), payload=None)
    assert len(found) == len(store.search("a", Nearest(words, "lexical", 20), payload=None)) == 20
    return sum(1 for _ in store.scroll("a", None, ["cls"]))


def fill(disk: Path, free: int = 0) -> None:
    """Leave about so many bytes."""
    (disk / "fill").unlink(missing_ok=True)
    size, step = 0, 2**24
    with (disk / "fill").open("wb", buffering=0) as file:
        while step >= 1024:
            try:
                if shutil.disk_usage(disk).free - free >= step:
                    os.posix_fallocate(file.fileno(), size, step)
                    os.fsync(file.fileno())
                    size += step
                    continue
            except OSError:
                pass
            step //= 2


def outcome(call: Callable[[EdgeStore], Any], store: EdgeStore) -> Any:
    """What a call returns, or its error."""
    try:
        return call(store)
    except StoreError as error:
        return str(error)


# Mounted disks


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 200 MiB."""
    place, image = tmp_path / "disk", tmp_path / "image"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"]
    try:
        if request.param == "ext4":
            image.touch()
            os.truncate(image, DISK)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
            mount = ["mount", "-o", "loop", str(image)]
        subprocess.run([*mount, place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no {request.param} can be mounted here: {error}")
    yield place
    subprocess.run(["umount", place], check=True)


def in_a_process(disk: Path, program: str, *free: int) -> Any:
    """What a program prints as JSON. It has `disk`, an empty `said` and what is in this file.

    Args:
        disk: where it runs.
        program: is ended by no signal.
        free: its arguments, the bytes to leave on the disk.
    """
    begin = f"from tests.stores.test_full_disk import *\ndisk, said = Path({str(disk)!r}), []\n"
    run = subprocess.run(
        [sys.executable, "-c", begin + program, *map(str, free)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, f"ended by {run.returncode}: {run.stdout} {run.stderr}"
    return json.loads(run.stdout)


MAKE = """
store = EdgeStore(disk / "q")
store.create("a", SCHEMA, {})
store.upsert("a", points(0, 200))
store.upsert("a", points(200, 200))
store.close()
subprocess.run(["cp", "-r", disk / "q", disk / "whole"], check=True)
"""

MAKE_AND_BE_KILLED = """
if os.fork() == 0:
    store = EdgeStore(disk / "q")
    store.create("a", SCHEMA, {})
    for first in range(0, 2000, 500):
        store.upsert("a", points(first, 500))
    os.kill(os.getpid(), 9)
os.wait()
"""

WRITE = """
for name, write in WRITES.items():
    for free in map(int, sys.argv[1:]):
        shutil.rmtree(disk / "q")
        (disk / "fill").unlink(missing_ok=True)
        subprocess.run(["cp", "-r", disk / "whole", disk / "q"], check=True)
        store = EdgeStore(disk / "q")
        if name != "create":
            store.count("a")
        fill(disk, free)
        said.append((name, free, outcome(write, store)))
        if name != "create":
            assert search(store) == store.count("a")
        store.close()
        (disk / "fill").unlink()
        store = EdgeStore(disk / "q")
        assert ("b" in store.names()) == (said[-1] == ("create", free, None))
        expected = {"upsert": 800, "delete": 200}.get(name, 400) if said[-1][-1] is None else 400
        assert store.count("a") == search(store) == expected
        store.close()
print(json.dumps(said))
"""


@pytest.mark.parametrize(
    "frees", [[2**17], pytest.param([2**10, 2**20, 2**22, 2**24, 2**25, 50 * 2**20], marks=pytest.mark.slow)]
)
def test_writing_to_a_full_disk_is_one_error(disk: Path, frees: list[int]) -> None:
    enough = 120 * 2**20
    said = {(name, free): it for name, free, it in in_a_process(disk, MAKE + WRITE, *frees, enough)}
    for name in WRITES:
        assert said[name, enough] is None
        for free in frees:
            line = said[name, free]
            assert str(disk / "q") in line
            assert "make room for" in line
            assert "\n" not in line


OPEN = """
(disk / "fill").unlink(missing_ok=True)
for free in map(int, sys.argv[1:]):
    fill(disk, free)
    store = EdgeStore(disk / "q")
    said.append((free, outcome(search, store)))
    store.close()
print(json.dumps(said))
"""


def test_a_flushed_collection_is_opened_for_searching_with_next_to_no_room(
    disk: Path, request: pytest.FixtureRequest
) -> None:
    """Not where the disk is memory: there reading a hole fills it, and the engine reads whole files."""
    little, much = 5 * 2**18, 80 * 2**20
    said = dict(in_a_process(disk, MAKE + OPEN, 0, little, much))
    assert "make room for" in said[0]
    assert said[little] == 400 or ("make room for" in said[little] and "tmpfs" in request.node.name)
    assert said[much] == 400


def test_what_a_killed_process_left_is_opened_when_there_is_room(disk: Path) -> None:
    """The engine writes anew what the log has."""
    said = dict(in_a_process(disk, MAKE_AND_BE_KILLED + OPEN, 5 * 2**18, 80 * 2**20))
    assert "make room for" in said[5 * 2**18]
    assert said[80 * 2**20] == 2000


# A disk that says that it is full


def usage(free: int) -> Callable[[Path], Any]:
    return lambda _: SimpleNamespace(free=free)


def test_too_little_room_refuses_writes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EdgeStore(tmp_path)
    store.create("a", SCHEMA, {})
    store.upsert("a", points(0, 400))
    monkeypatch.setattr(shutil, "disk_usage", usage(10**6))
    for write in WRITES.values():
        with pytest.raises(StoreError, match=r"the disk has 1\.0 MB; make room for [67]\d\.\d MB more"):
            write(store)
    assert search(store) == 400
    store.close()
    store = EdgeStore(tmp_path)
    with pytest.raises(StoreError, match=r"opening .* needs .* MB of room"):
        store.count("a")
    store.drop("a")
    assert store.names() == []
    store.close()


def test_a_batch_needs_its_size_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in the log and once in a segment; those before it are written."""
    small, large = points(0, 2)
    large.payload["text"] = "x" * 2**25
    store = EdgeStore(tmp_path)
    store.create("a", SCHEMA, {})
    monkeypatch.setattr(shutil, "disk_usage", usage(100 * 2**20))
    with pytest.raises(StoreError, match="make room for"):
        store.upsert("a", [large])
    store.upsert("a", [small])
    monkeypatch.setattr(shutil, "disk_usage", usage(140 * 2**20))
    store.upsert("a", [large])
    assert store.count("a") == 2
    store.close()


def test_what_rewrites_a_collection_needs_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EdgeStore(tmp_path)
    store.create("a", SCHEMA, {})
    store.upsert("a", points(0, 400))
    size = store.disk_bytes("a", log=False)
    monkeypatch.setattr(shutil, "disk_usage", usage(64 * 2**20 + size // 2))
    for name in ("create_index", "finish"):
        with pytest.raises(StoreError, match="make room for"):
            WRITES[name](store)
    monkeypatch.setattr(shutil, "disk_usage", usage(64 * 2**20 + size * 2))
    for name in ("create_index", "finish"):
        WRITES[name](store)
    store.close()
