"""A collection in strict mode, as a managed cluster has every one, on a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from connector import Connector, Document, Encoder
from connector.core.errors import StoreError
from connector.stores.server.shared import ARTIFACTS, LOCKS
from tests.conftest import INDEXES
from tests.server.real import client, grpc_port, nodes, server

pytestmark = pytest.mark.server

STRICT = models.StrictModeConfig(
    enabled=True,
    unindexed_filtering_retrieve=False,
    unindexed_filtering_update=False,
    max_payload_index_count=100,
)


@pytest.fixture
def place(name: str) -> Iterator[dict[str, Any]]:
    with server(name) as there:
        yield there


def strictly(connector: Connector) -> None:
    """Turn strict mode on for the version that a name leads to, and for what all collections share."""
    there = client(os.environ.get("QDRANT_URL") or nodes()[0])
    for collection in filter(there.collection_exists, (connector.collection.physical, ARTIFACTS, LOCKS)):
        there.update_collection(collection, strict_mode_config=STRICT)
    there.close()


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_a_collection_is_written_searched_counted_and_migrated(
    place: dict[str, Any],
    name: str,
    encoder: Encoder,
    documents: list[Document],
    tmp_path: Path,
    prefer_grpc: bool,
) -> None:
    if prefer_grpc:
        place |= {"prefer_grpc": True, "grpc_port": grpc_port(place["url"])}
    even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
    with Connector.create(name, **place, model=encoder, indexes=INDEXES) as connector:
        strictly(connector)
        connector.ingest(documents)
        strictly(connector)
        assert {it.metadata["even"] for it in connector.search("bread", filter=even)} == {True}
        assert connector.stats().documents == 12
        other = models.Filter(must=[models.FieldCondition(key="other", match=models.MatchValue(value="a"))])
        with pytest.raises(StoreError, match=r"'other'.*connector index add"):
            connector.search("bread", filter=other)
        connector.create_index({"other": "keyword:tenant"})
        assert connector.search("bread", filter=other) == []
        (tmp_path / "0001_tiny.py").write_text(
            'revision = "0001"\ndown_revision = None\n\n'
            'def upgrade(ctx):\n    ctx.reindex(recipe="tiny")\n\n'
            'def downgrade(ctx):\n    ctx.reindex(recipe="default")\n'
        )
        connector.migrations(tmp_path, min_overlap=0).upgrade()
        strictly(connector)
        assert connector.search("bread", filter=even)
        assert connector.delete(filter=even) == 6
        assert connector.ingest(documents[1:2], delete_missing=True).deleted_missing == 5
        connector.drop()


def test_what_a_connector_chooses_is_taken(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> None:
    asked: Any = {"write_ordering": "strong", "read_consistency": 1, "on_disk": True, "on_disk_payload": True}
    with Connector.create(name, **place, model=encoder, recipe="pooled", **asked) as connector:
        connector.ingest(documents)
        assert connector.search(documents[2].text, 1)[0].id == "doc 2"
        params = client(place["url"]).get_collection(connector.collection.physical).config.params
        assert params.on_disk_payload
        assert isinstance(params.vectors, dict)
        assert all(it.on_disk for it in params.vectors.values())
        connector.drop()
