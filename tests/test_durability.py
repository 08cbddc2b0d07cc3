"""A run that is killed and run again ends where a run that was left alone does."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Document, Encoder, IngestReport
from connector.errors import CollectionExists
from connector.ingest import WINDOW
from connector.stores import open_store

COUNT = 700
STEMS = ("otter", "river", "compiler", "bread", "moon", "table", "violin", "flower", "lake", "engine")
WORDS = [stem + end for stem in STEMS for end in ("", "s", "less", " of", " under", " forgets")]

INGEST = """
import sys
from connector import load_encoder
from test_durability import create_and_ingest
encoder = load_encoder()
encoder.fingerprint
print("started", flush=True)
create_and_ingest(sys.argv[1], encoder, lambda report: print(report.documents, flush=True))
print("finished", flush=True)
"""


def documents() -> list[Document]:
    chance = random.Random(0)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(4, 16))) for _ in range(COUNT)]
    return [Document(id=f"doc {n}", text=text, metadata={"n": n}) for n, text in enumerate(texts)]


def create_and_ingest(
    path: str, encoder: Encoder, progress: Callable[[IngestReport], None] | None = None
) -> IngestReport:
    """Make the collection unless it is there, and ingest all documents."""
    try:
        connector = Connector.create("c", path=path, recipe="compact", model=encoder)
    except CollectionExists:
        connector = Connector.open("c", path=path, model=encoder)
    with connector:
        return connector.ingest(documents(), progress=progress)


def contents(path: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Payload and CLS vector of every point."""
    store = open_store(path=path)
    keys = ["id", "passage", "text", "metadata", "hash", "passages", "rows", "codes", "title"]
    found = {
        record.id: (record.payload, record.vectors["cls"].tobytes())
        for record in store.scroll("c", keys, ["cls"])
    }
    store.close()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("undisturbed")
    create_and_ingest(str(path), encoder)
    return contents(path)


def killed(path: Path, lines: int, delay: float) -> list[int]:
    """What another process says that it has written, killed `delay` seconds after so many windows."""
    command = [sys.executable, "-c", INGEST, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        printed = [process.stdout.readline() for _ in range(lines)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.readlines()
    return [int(line) for line in printed if line.strip().isdigit()]


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_run_is_finished_exactly_by_the_next(
    tmp_path: Path, seed: int, encoder: Encoder, undisturbed: dict[str, Any]
) -> None:
    """Of the three windows, the last one is never waited for, so that the kill comes in time."""
    delay = random.Random(seed).uniform(0, 0.5)
    acknowledged = max(killed(tmp_path, seed % 3, delay), default=0)
    found = contents(tmp_path) if acknowledged else {}
    assert len(found) >= acknowledged
    if seed == 0:
        assert len(found) < COUNT, "the kill came too late to test anything"
    assert found.items() <= undisturbed.items()
    report = create_and_ingest(str(tmp_path), encoder)
    assert report.unchanged >= acknowledged
    assert report.unchanged + report.documents == COUNT
    assert contents(tmp_path) == undisturbed


def test_the_undisturbed_run_is_complete(undisturbed: dict[str, Any]) -> None:
    payloads = [payload for payload, _ in undisturbed.values()]
    assert sorted(payload["metadata"]["n"] for payload in payloads) == list(range(COUNT))
    assert all(payload["codes"] and payload["hash"] for payload in payloads)
    assert COUNT > 2 * WINDOW
