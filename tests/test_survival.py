"""Long trials: damaged files, each opened by a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Encoder
from connector.core.errors import ConnectorError
from tests.collection.test_ingest import Nursery, documents

SECONDS = 60
"""For which a process may look before it hangs."""

QUERIES = [document.text for document in documents()[:400:10]]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(__name__)
    yield nursery
    nursery.close()


# Damage


def answers(connector: Connector) -> list[Any]:
    """What a user is told; scores and further hits move a little when the engine counts words again."""
    best = [hits[0].id if hits else None for hits in map(connector.search, QUERIES)]
    return [best, {document.id: document.text for document in connector.get([it.id for it in documents()])}]


def look(encoder: Encoder, path: str) -> None:
    """Say what is found in a folder, and that it can be written; or the error."""
    signal.alarm(SECONDS)  # which ends the process whatever it waits for
    try:
        with Connector.open("c", path=path, model=encoder) as connector:
            print(json.dumps(answers(connector)), flush=True)
            connector.ingest(documents()[:5])
    except ConnectorError as error:
        print(f"{type(error).__name__}: {error}", flush=True)


WORK: dict[str, Callable[..., Any]] = {"look": look}

DAMAGES: dict[str, Callable[[Path], Any]] = {
    "removed": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "halved": lambda file: os.truncate(file, file.stat().st_size // 2),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, nursery: Nursery) -> tuple[Path, Any]:
    """A folder with a collection that was written several times, and what it answers when it is opened."""
    path = tmp_path_factory.mktemp("whole") / "q"
    with Connector.create("c", path=path, model=encoder) as connector:
        for begin in range(0, 400, 100):
            connector.ingest(documents()[begin : begin + 100])
        connector.delete(["doc 1", "doc 101"])
        connector.collection.store.create_index("c", "metadata.n", "integer")
    looked_at = copied(path, path.with_name("looked at"))
    return path, json.loads(nursery.run("look", str(looked_at))[0][1])


def copied(path: Path, to: Path) -> Path:
    subprocess.run(["cp", "-r", "--sparse=always", path, to], check=True)
    return to


def files(path: Path) -> list[Path]:
    """All files of a folder of collections, in an order that does not hang on names drawn at random."""
    found = [it.relative_to(path) for it in path.rglob("*") if it.is_file()]
    return sorted(found, key=lambda it: re.sub(r"[0-9a-f]{8}(-[0-9a-f-]{27})?", "", str(it)))


MOST = 50
"""Files; each is damaged in every way."""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(MOST))
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named_or_does_no_harm(
    number: int, how: str, tmp_path: Path, whole: tuple[Path, Any], nursery: Nursery
) -> None:
    path, expected = whole
    there = files(path)
    assert len(there) <= MOST, "raise MOST, so that every file is damaged"
    if number >= len(there):
        pytest.skip(f"there are {len(there)} files")
    file = there[number]
    DAMAGES[how](copied(path, tmp_path / "q") / file)
    printed = [line for _, line in nursery.run("look", str(tmp_path / "q"))]
    shutil.rmtree(tmp_path / "q")
    assert printed[-1:] == ["finished"], f"{file} {how}: the process has ended otherwise: {printed}"
    if not re.match(r"\w*(Error|NotFound|Locked): ", printed[-2]):
        assert json.loads(printed[0]) == expected, f"{file} {how}: other answers"


# Memory

OFTEN = """
import sys
from pathlib import Path
from connector import Connector, Reranker
for number in range(200):
    how = (Connector.open, Connector.open_or_create)[number % 2]
    with how("c", path=sys.argv[1]) as connector:
        hits = connector.search("an otter of the river")
        connector.ingest([])
    if number % 5 == 0:
        Reranker().rank("an otter", [hit.text for hit in hits])
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell it")
def test_what_is_opened_and_closed_often_takes_no_more(whole: tuple[Path, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-c", OFTEN, str(copied(whole[0], tmp_path / "q"))]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = [int(line) for line in run.stdout.split()]
    print([round(it / 1e6) for it in taken[::10]])
    assert len(taken) == 200
    assert max(taken[10:]) - taken[9] < 100e6
