"""Indexes of metadata: declared, added and dropped; and a strict server, which wants one for each filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from connector import Connector, Document, Encoder, IndexMissing, open_store
from connector.core.errors import InputError, StoreError, StoreLocked
from tests.server.doubles import double, engine

EVEN = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])


@pytest.fixture
def strict() -> QdrantClient:
    return double(strict=True)


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


def test_a_migration_indexes_what_a_collection_of_an_earlier_version_lacks(
    strict: QdrantClient, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    (tmp_path / "0001_origin.py").write_text(
        'revision = "0001"\nirreversible = "it is a test"\ndown_revision = None\n\n\ndef upgrade(ctx):\n'
        '    ctx.map_payload(lambda it: {**it, "seen": True})\n'
    )
    with Connector.create("docs", client=strict, model=encoder, recipe="dense") as connector:
        connector.ingest(documents)
        engine(strict).indexes["docs__v0001"].clear()
        said: list[str] = []
        connector.migrations(tmp_path, say=said.append).upgrade()
        assert said[0] == "index passage, passages, words, which the library filters by"
        assert engine(strict).indexes["docs__v0001"].keys() == {"passage", "passages", "words"}
        assert connector.stats().documents == 12
        assert all(it.metadata["seen"] for it in connector.get(it.id for it in documents))


def test_indexes_that_are_there_need_no_lock(encoder: Encoder, tmp_path: Path) -> None:
    with Connector.create(
        "docs", path=tmp_path, model=encoder, recipe="dense", indexes={"year": "integer"}
    ) as connector:
        with connector.collection.store.lease("docs"):  # a migration runs
            connector.create_index({"year": "integer"})
            with pytest.raises(StoreLocked):
                connector.create_index({"month": "integer"})
        assert connector.indexes == {"year": "integer"}


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
            with pytest.raises(InputError, match=r"'number' is no kind|that is no key"):
                made.create_index(wrong)
        made.drop_index("a.b")
        with pytest.raises(InputError, match=r"'a.b' has no index; there: number"):
            made.drop_index("a.b")
        assert made.indexes == {"number": "integer"}
        assert len(made.search("bread", filter=EVEN)) == 6


@pytest.mark.parametrize("key", ["my key", "a..b", " ", "a.", '"', "a[x]"])
def test_keys_that_are_none_are_refused_before_anything_is_made(
    key: str, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="that is no key"):
        Connector.create("docs", path=tmp_path, model=encoder, recipe="dense", indexes={key: "keyword"})
    with Connector.create("docs", path=tmp_path, model=encoder, recipe="dense") as connector:
        assert connector.collection.physical == "docs__v0001"
        connector.create_index({'"my key"': "keyword", "parts[].name": "keyword", "jahr": "integer"})
    with pytest.raises(InputError, match="declared twice"):
        Connector.create(
            "other", path=tmp_path, model=encoder, indexes={"y": "keyword", "metadata.y": "integer"}
        )


def test_a_collection_whose_indexes_are_refused_is_not_left_half_made(
    strict: QdrantClient, encoder: Encoder
) -> None:
    with pytest.raises(StoreError, match="index limit reached"):
        Connector.create(
            "docs", client=strict, model=encoder, indexes={f"k{it}": "keyword" for it in range(100)}
        )
    assert open_store(client=strict).names() == []


def test_own_keys_without_an_index_have_another_remedy(strict: QdrantClient, encoder: Encoder) -> None:
    with Connector.create("docs", client=strict, model=encoder, recipe="dense") as connector:
        strict.delete_payload_index("docs__v0001", "passage")
        with pytest.raises(IndexMissing, match=r"add what it lacks: connector index add,"):
            connector.count()
