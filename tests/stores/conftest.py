"""The store suite runs on every engine that is at hand, and on doubles of those that are not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from tests.server.doubles import double

DOUBLES = {"plain": double, "strict": lambda: double(strict=True), "older": lambda: double("1.18.2")}


@pytest.fixture(params=["edge", "memory", *DOUBLES, "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Arguments of `open_store`, `Connector.create` and `Connector.open` for each engine."""
    if request.param == "edge":
        yield {"path": tmp_path / "qdrant"}
    elif request.param == "server":
        if "QDRANT_URL" not in os.environ:
            pytest.skip("QDRANT_URL is not set; set it to test against a server")
        yield {"url": os.environ["QDRANT_URL"], "api_key": os.environ.get("QDRANT_API_KEY")}
    else:
        client = DOUBLES[request.param]() if request.param in DOUBLES else QdrantClient(":memory:")
        yield {"client": client}
        client.close()
