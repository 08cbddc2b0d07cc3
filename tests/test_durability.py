"""A run that is killed and run again ends where a run that was left alone does."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector import Connector, Document, Encoder
from connector.ingest import WINDOW
from connector.stores import open_store

COUNT = 700
WORDS = [
    "river",
    "otter",
    "compiler",
    "bread",
    "yeast",
    "moon",
    "telescope",
    "index",
    "table",
    "ash",
    "violin",
    "string",
    "bee",
    "flower",
    "memory",
    "glacier",
    "lake",
    "wool",
    "friction",
    "lantern",
    "harbour",
    "copper",
    "winter",
    "engine",
    "letter",
    "market",
    "orchard",
    "silver",
    "quickly",
    "slowly",
    "under",
    "above",
    "between",
    "because",
    "although",
    "sings",
    "grinds",
    "rises",
    "falls",
    "carries",
    "forgets",
]

INGEST = """
import sys
from test_durability import create_and_ingest
print("started", flush=True)
create_and_ingest(sys.argv[1], progress=lambda report: print(report.documents, flush=True))
print("finished", flush=True)
"""


def documents() -> list[Document]:
    chance = random.Random(0)
    return [
        Document(
            id=f"doc {number}",
            text=" ".join(chance.choices(WORDS, k=chance.randint(4, 16))),
            metadata={"n": number},
        )
        for number in range(COUNT)
    ]


def create_and_ingest(path: str, progress: Any = None, **options: Any) -> Any:
    """Make the collection unless it is there, and ingest all documents."""
    store = open_store(path=path)
    there = "c" in store.names()
    store.close()
    make = Connector.open if there else Connector.create
    options |= {} if there else {"recipe": "compact"}
    with make("c", path=path, **options) as connector:
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
    create_and_ingest(str(path), model=encoder)
    return contents(path)


def killed(path: Path, lines: int, delay: float) -> list[str]:
    """What another process printed that ingests and is killed `delay` seconds after so many lines."""
    command = [sys.executable, "-c", INGEST, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().strip() for _ in range(lines)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.read().split()
    return printed


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))]
)
def test_a_killed_run_is_finished_exactly_by_the_next(
    tmp_path: Path, seed: int, encoder: Encoder, undisturbed: dict[str, Any]
) -> None:
    chance = random.Random(seed)
    lines = 1 + seed % 3  # "started" and the acknowledged windows, of which the last one is never waited for
    printed = killed(tmp_path, lines, chance.uniform(0, 0.4))
    assert printed[0] == "started"
    acknowledged = max([int(line) for line in printed[1:] if line.isdigit()], default=0)
    found = contents(tmp_path) if acknowledged else {}
    assert len(found) >= acknowledged
    report = create_and_ingest(str(tmp_path), model=encoder)
    assert report.unchanged >= acknowledged
    assert report.unchanged + report.documents == COUNT
    assert contents(tmp_path) == undisturbed


def test_kills_are_in_time() -> None:
    """There are more windows than the test above waits for."""
    assert COUNT > 2 * WINDOW


def test_the_undisturbed_run_is_complete(undisturbed: dict[str, Any]) -> None:
    assert sorted(payload["metadata"]["n"] for payload, _ in undisturbed.values()) == list(range(COUNT))
    for payload, cls in undisturbed.values():
        assert payload["codes"]
        assert np.isfinite(np.frombuffer(cls, np.float32)).all()
