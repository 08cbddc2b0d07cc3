"""A server without Qdrant's turbo types: what is stored in their place, and how it gets them later."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connector import RECIPES, Connector, Document, Encoder
from connector.core.errors import StoreError
from connector.stores import open_store
from tests.server.doubles import Double, double

WITH_TURBO = [name for name, it in RECIPES.items() if "turbo" in f"{it.cls} {it.codec}"]


REVISION = """
from connector.migrations import Context

revision = "0001"
down_revision = None


def upgrade(ctx: Context) -> None:
    ctx.reindex()


def downgrade(ctx: Context) -> None:
    ctx.reindex()
"""


def engine(client: QdrantClient) -> Double:
    assert isinstance(client._client, Double)
    return client._client


def ranking(connector: Connector) -> list[Any]:
    hits = connector.search("what makes bread rise", k=5)
    return [(hit.id, pytest.approx(hit.score, abs=2e-3)) for hit in hits]


def test_there_are_recipes_to_try() -> None:
    assert "default" in WITH_TURBO


@pytest.mark.parametrize("recipe", WITH_TURBO)
def test_an_older_server_stores_float16_in_their_place(
    recipe: str, encoder: Encoder, documents: list[Document], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING, "connector"):
        made = Connector.create("docs", client=double("1.18.2"), model=encoder, recipe=recipe)
    said = [it.message for it in caplog.records if "turbo" in it.message]
    assert len(said) == 1
    assert "float16" in said[0]
    halved = RECIPES[recipe].varied(cls="float16")
    with made, Connector.create("docs", path=tmp_path / "q", model=encoder, recipe=halved) as edge:
        for connector in (made, edge):
            connector.ingest(documents)
        assert made.stats().vectors["cls"] == "float16"
        assert ranking(edge) == ranking(made)
        assert made.recipe.name == recipe
        assert made.stats().bytes_per_passage == edge.stats().bytes_per_passage


def test_it_moves_to_a_newer_server_by_an_export_and_by_a_migration(
    encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    client = double("1.18.2")
    with Connector.create("docs", client=client, model=encoder) as connector:
        connector.ingest(documents)
        connector.export(tmp_path / "export")
    with Connector.restore(tmp_path / "export", path=tmp_path / "q", model=encoder) as moved:
        assert moved.stats().vectors["cls"] == "turbo4"
        assert moved.search("what makes bread rise")[0].id == "doc 2"
    engine(client).version = "1.19.0"
    (tmp_path / "revisions").mkdir()
    (tmp_path / "revisions" / "0001_types.py").write_text(REVISION)
    with Connector.open("docs", client=client, model=encoder) as connector:
        connector.migrations(tmp_path / "revisions").upgrade()
        assert connector.stats().vectors["cls"] == "turbo4"
        assert connector.search("what makes bread rise")[0].id == "doc 2"


def test_an_import_says_what_it_keeps_in_their_place(
    encoder: Encoder, documents: list[Document], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Connector.create("docs", path=tmp_path / "q", model=encoder) as connector:
        connector.ingest(documents)
        connector.export(tmp_path / "export")
    with Connector.restore(tmp_path / "export", client=double("1.18.2"), model=encoder) as moved:
        assert moved.stats().vectors["cls"] == "float16"
        assert "keeps vectors as float16 in their place" in caplog.text
        assert moved.search("what makes bread rise")[0].id == "doc 2"


def test_a_server_that_is_too_old_is_refused_when_it_is_connected_to() -> None:
    store = open_store(client=double("1.17.1"))
    with pytest.raises(StoreError, match=r"is Qdrant 1\.17\.1; upgrade it to 1\.18 or later"):
        _ = store.capabilities
    assert open_store(client=double("dev")).capabilities.turbo
