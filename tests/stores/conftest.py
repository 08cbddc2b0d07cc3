"""The store suite runs on every engine that is at hand, and on doubles of those that are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from tests.server.doubles import double
from tests.server.real import SERVER, server

DOUBLES = {"plain": double, "strict": lambda: double(strict=True), "older": lambda: double("1.18.2")}


@pytest.fixture(params=["edge", "memory", *DOUBLES, SERVER])
def place(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Arguments of `open_store`, `Connector.create` and `Connector.open` for each engine."""
    if request.param == "edge":
        yield {"path": tmp_path / "qdrant"}
    elif request.param == "server":
        with server(name) as there:
            yield there
    else:
        client = DOUBLES[request.param]() if request.param in DOUBLES else QdrantClient(":memory:")
        yield {"client": client}
        client.close()
