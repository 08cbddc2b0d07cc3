"""What the tests share: the real default model, real text, and stores of every engine."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient
from threadpoolctl import threadpool_limits

from connector import Document, Encoder, load_encoder
from tests.server.real import SERVER, server

TEXTS = [
    "The river otter holds hands with its mate while it sleeps, so that they do not drift apart.",
    "A compiler turns the source of a program into machine code before the program runs.",
    "Sourdough bread rises because wild yeast and bacteria ferment the flour.",
    "The moons of Jupiter were first seen through a telescope in January 1610.",
    "An index makes a database find rows without reading the whole table.",
    "Volcanic ash from the eruption grounded aeroplanes all over the continent.",
    "The violin is tuned in fifths, from the low G string up to the high E string.",
    "Bees tell each other where the flowers are by dancing in the hive.",
    "A garbage collector frees memory that no variable of the program refers to any more.",
    "Glaciers grind rock into a fine flour that colours mountain lakes turquoise.",
    "The interpreter reads a program line by line and runs it at once.",
    "Wool felts when its scales interlock under heat, water and friction.",
]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The default model, from its package."""
    return load_encoder()


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Twelve short documents with metadata {"number": 0…11, "even": bool}."""
    return [
        Document(id=f"doc {number}", text=text, metadata={"number": number, "even": number % 2 == 0})
        for number, text in enumerate(TEXTS)
    ]


INDEXES = {"number": "integer", "even": "bool"}
"""Of that metadata, without which a server in strict mode takes no filter on it."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=["edge", "memory", SERVER])
def place(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Arguments of `open_store`, `Connector.create` and `Connector.open` for each engine."""
    if request.param == "edge":
        yield {"path": tmp_path / "qdrant"}
    elif request.param == "memory":
        client = QdrantClient(":memory:")
        yield {"client": client}
        client.close()
    else:
        with server(name) as there:
            yield there


@pytest.fixture
def name() -> str:
    """A collection name that no other test uses, as a server outlives a test."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, which the machine has, driven without a window."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install '.[dev]'"
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    with driver.sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


# One thread a process: where several share the cores, the threads of each wait for those of the others,
# and everything takes ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch and scipy, loaded later, and for subprocesses
threadpool_limits(1, "blas")  # for numpy, loaded already
