"""Indexes of metadata: declared, added and dropped; and a strict server, which wants one for each filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from connector import Connector, Document, Encoder
from connector.core.errors import InputError, StoreError
from tests.server.doubles import Double, double

EVEN = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])


@pytest.fixture
def strict() -> QdrantClient:
    return double(strict=True)


def engine(client: QdrantClient) -> Double:
    assert isinstance(client._client, Double)
    return client._client


@pytest.mark.parametrize("make", [Connector.create, Connector.open_or_create])
def test_declared_metadata_is_filtered_by_on_a_strict_server(
    strict: QdrantClient, encoder: Encoder, documents: list[Document], make: Callable[..., Connector]
) -> None:
    indexes = {"even": "bool", "number": "integer"}
    with make("docs", client=strict, model=encoder, recipe="hybrid", indexes=indexes) as connector:
        connector.ingest(documents)
        assert {hit.metadata["even"] for hit in connector.search("bread", filter=EVEN)} == {True}
        assert connector.stats().documents == 12
        assert connector.indexes == indexes
        assert connector.delete(filter=EVEN) == 6
        assert connector.ingest(documents[1:2], delete_missing=True).deleted_missing == 5
    there = engine(strict).indexes["docs__v0001"]
    assert there == {
        "passage": "integer",
        "passages": "integer",
        "words": "integer",
        "metadata.even": "bool",
        "metadata.number": "integer",
    }


def test_a_filter_on_other_metadata_names_the_remedy(
    strict: QdrantClient, encoder: Encoder, documents: list[Document]
) -> None:
    with Connector.create("docs", client=strict, model=encoder, recipe="dense") as connector:
        connector.ingest(documents)
        for call in (lambda: connector.search("bread", filter=EVEN), lambda: connector.delete(filter=EVEN)):
            with pytest.raises(StoreError, match=r"strict mode .*'even'.*\(of kind bool\).*index add even:"):
                call()
        connector.create_index({"even": "bool"})
        assert len(connector.search("bread", filter=EVEN)) == 6
        connector.drop_index("even")
        with pytest.raises(StoreError, match="strict mode"):
            connector.search("bread", filter=EVEN)


def test_a_collection_of_an_earlier_version_gets_what_it_lacks(
    strict: QdrantClient, encoder: Encoder, documents: list[Document], caplog: pytest.LogCaptureFixture
) -> None:
    with Connector.create("docs", client=strict, model=encoder, recipe="dense") as connector:
        connector.ingest(documents)
    Connector.open("docs", client=strict, model=encoder).close()
    assert not caplog.records
    engine(strict).indexes["docs__v0001"].clear()
    with Connector.open("docs", client=strict, model=encoder) as connector:
        assert "no index of passage, passages, words: run connector index add" in caplog.text
        with pytest.raises(StoreError, match="index"):
            connector.stats()
        connector.create_index({})
        assert connector.stats().documents == 12


@pytest.mark.parametrize("place", ["edge", "memory"])
def test_indexes_are_known_wherever_they_are(
    place: str, tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    where: dict[str, Any] = (
        {"path": tmp_path / "q"} if place == "edge" else {"client": QdrantClient(":memory:")}
    )
    with Connector.create("docs", model=encoder, recipe="dense", indexes={"a.b": "keyword"}, **where) as made:
        made.ingest(documents)
        made.create_index({"number": "integer"})
        assert made.indexes == {"a.b": "keyword", "number": "integer"}
        made.create_index({"number": "integer"})
        with pytest.raises(InputError, match=r"of kind integer, not float; drop it first"):
            made.create_index({"number": "float"})
        for wrong in ({"year": "number"}, {"": "integer"}):
            with pytest.raises(InputError, match="cannot be used"):
                made.create_index(wrong)
        made.drop_index("a.b")
        with pytest.raises(InputError, match=r"'a.b' has no index; there: metadata\.number"):
            made.drop_index("a.b")
        assert made.indexes == {"number": "integer"}
        assert len(made.search("bread", filter=EVEN)) == 6
