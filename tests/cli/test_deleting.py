"""Deleting by id and by filter, pruning, and documents that Qdrant refuses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from connector import AsyncConnector, Connector, Document, Encoder
from connector.cli import main
from connector.collection.documents.document_state import scan
from connector.core.errors import DocumentError, InputError, PointsRefused, StoreError
from connector.core.sources import Source
from connector.core.types import point_id
from connector.stores import Point
from tests.conftest import INDEXES
from tests.stores.test_filters import ASKS_NOTHING, NOTHING, filters


@pytest.fixture
def docs(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> Iterator[Connector]:
    with Connector.create(name, **place, recipe="compact", model=encoder, indexes=INDEXES) as connector:
        connector.ingest(documents)
        long = Document(id="long", text="Rye bread is baked of sour dough. " * 6, metadata={"even": True})
        connector.ingest([long], chunk_tokens=20)
        yield connector
        connector.drop()


def is_even(value: bool = True) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=value))])


def ids(connector: Connector) -> set[str]:
    return {id_ for id_, _ in scan(connector.collection)}


def points(connector: Connector) -> int:
    return connector.collection.store.count(connector.collection.physical)


def test_deleting_by_id_deletes_every_passage(docs: Connector) -> None:
    before, passages = points(docs), docs.stats().passages
    assert before == passages
    assert docs.delete(["long", "doc 1", "nothing", "doc 1"]) == 2
    assert ids(docs) == {f"doc {number}" for number in range(12) if number != 1}
    assert points(docs) == 11
    assert "long" not in {hit.id for hit in docs.search("sour rye bread", 12)}
    assert docs.delete(["long", "doc 1"]) == 0


def test_deleting_by_filter_deletes_what_matches(docs: Connector) -> None:
    matching = {"long", *(f"doc {number}" for number in range(0, 12, 2))}
    assert set(docs.matching_ids(filter=is_even())) == matching
    assert docs.delete(filter=is_even()) == 7
    assert ids(docs) == {f"doc {number}" for number in range(1, 12, 2)}
    assert points(docs) == 6
    assert docs.delete(filter=is_even()) == 0


def test_a_deleted_document_can_come_again(docs: Connector, documents: list[Document]) -> None:
    docs.delete(["doc 3"])
    report = docs.ingest(documents)
    assert (report.documents, report.unchanged) == (1, 11)
    assert docs.search("moons of Jupiter", 1)[0].id == "doc 3"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, "either ids or a filter"),
        ({"ids": ["a"], "filter": models.Filter()}, "either ids or a filter"),
        ({"filter": models.Filter()}, "asks for nothing and would match every document"),
        (
            {"filter": models.Filter(should=[models.Filter(must=[]), is_even()])},
            "asks for nothing and would match every document",
        ),
        ({"ids": "doc 1"}, "give a list of texts"),
        ({"ids": [1]}, "give a list of texts"),
    ],
)
def test_what_names_no_documents_deletes_none(docs: Connector, given: dict[str, Any], match: str) -> None:
    before = ids(docs)
    with pytest.raises(InputError, match=match):
        docs.delete(**given)
    assert ids(docs) == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=filters(st.sampled_from(NOTHING)))
def test_a_filter_without_a_condition_never_deletes(docs: Connector, asked: dict[str, Any]) -> None:
    before = points(docs)
    for remove in (docs.delete, docs.matching_ids):
        with contextlib.suppress(InputError, StoreError):  # a server takes no min_count of 0
            assert not remove(filter=models.Filter.model_validate(asked))
    assert points(docs) == before


async def test_an_asynchronous_connector_deletes_nothing_unasked(tmp_path: Path, encoder: Encoder) -> None:
    async with await AsyncConnector.create("docs", path=tmp_path, recipe="dense", model=encoder) as docs:
        await docs.ingest([Document(id="a", text="Rye bread.", metadata={"year": 2000})])
        for asked in ASKS_NOTHING:
            with pytest.raises(InputError, match="asks for nothing"):
                await docs.delete(filter=models.Filter.model_validate(asked))
        assert await docs.count() == 1


def test_pruning_deletes_what_left_the_source(docs: Connector, documents: list[Document]) -> None:
    report = docs.ingest(documents[:5], delete_missing=True)
    assert (report.unchanged, report.deleted_missing) == (5, 8)
    assert ids(docs) == {f"doc {number}" for number in range(5)}
    assert points(docs) == 5
    assert docs.ingest(documents[:5], delete_missing=True).deleted_missing == 0


def test_nothing_is_deleted_if_a_document_was_skipped(docs: Connector, documents: list[Document]) -> None:
    bad = Document(id="doc 0", text="another text of the same id")
    report = docs.ingest([*documents[:5], bad], delete_missing=True, skip_bad=True)
    assert (len(report.bad), report.deleted_missing) == (1, 0)
    assert len(ids(docs)) == 13


def test_not_all_is_deleted_because_nothing_came(docs: Connector) -> None:
    there = docs.count()
    used_up = (it for it in ())
    assert not [*used_up]
    for empty in ([], iter(()), used_up):
        with pytest.raises(InputError, match=f"delete all {there} of"):
            docs.ingest(empty, delete_missing=True)
    assert docs.count() == there
    docs.delete(list(ids(docs)))
    assert docs.ingest([], delete_missing=True).deleted_missing == 0


def test_nothing_is_deleted_if_a_source_skipped_what_it_cannot_read(docs: Connector, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Rye bread.")
    (tmp_path / "mounted").symlink_to(tmp_path / "not there")
    with pytest.raises(DocumentError, match="mounted cannot be read"):
        docs.ingest(Source(tmp_path), delete_missing=True)
    report = docs.ingest(Source(tmp_path, skip_bad=True), delete_missing=True)
    assert (len(report.bad), report.deleted_missing) == (1, 0)
    assert len(ids(docs)) == 14


def test_nothing_is_deleted_if_the_source_fails(docs: Connector, documents: list[Document]) -> None:
    def source() -> Iterator[Document]:
        yield documents[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        docs.ingest(source(), delete_missing=True)
    assert len(ids(docs)) == 13


def refusing(docs: Connector, monkeypatch: pytest.MonkeyPatch, refused: set[str]) -> None:
    """Let the store refuse these points, as a server that takes no text of theirs."""
    store, keep = docs.collection.store, {*refused}
    real = type(store).upsert

    def upsert(self: Any, name: str, points: list[Point]) -> None:
        real(self, name, [point for point in points if point.id not in keep or "text" not in point.payload])
        reasons = {
            point.id: "too strange" for point in points if point.id in keep and "text" in point.payload
        }
        if reasons:
            raise PointsRefused(reasons)

    monkeypatch.setattr(type(store), "upsert", upsert)


def test_a_refused_document_is_named_and_the_others_are_written(
    docs: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    news = [Document(id=f"new {number}", text=f"Quince number {number} is yellow.") for number in range(4)]
    with monkeypatch.context() as patched:
        refusing(docs, patched, {point_id("new 2", 0)})
        report = docs.ingest(news)
    assert report.refused == {"new 2": "too strange"}
    assert report.documents == 3
    assert {"new 0", "new 1", "new 3"} <= ids(docs)
    assert "new 2" not in ids(docs)
    assert docs.ingest(news).documents == 1


def test_a_refused_passage_leaves_its_document_unfinished(
    docs: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Document(id="more", text="Quinces are hard and yellow and sour. " * 8)
    with monkeypatch.context() as patched:
        refusing(docs, patched, {point_id("more", 1)})
        report = docs.ingest([long], chunk_tokens=20)
    assert report.refused == {"more": "too strange"}
    assert docs.stats().documents == 13
    assert docs.ingest([long], chunk_tokens=20).documents == 1, "it is not taken for finished"
    assert docs.stats().documents == 14


def test_a_refused_change_leaves_the_document_as_it_was(
    docs: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        refusing(docs, patched, {point_id("doc 3", 0)})
        report = docs.ingest([Document(id="doc 3", text="Something else.")])
    assert list(report.refused) == ["doc 3"]
    assert docs.search("moons of Jupiter", 1)[0].id == "doc 3"


# Commands


@pytest.fixture
def source(tmp_path: Path, documents: list[Document]) -> Path:
    lines = [json.dumps({"id": it.id, "text": it.text, **it.metadata}) for it in documents]
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(lines))
    return path


def run(*words: Any, code: int = 0, text: str | None = None) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words], input=text)
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_deletes_what_is_missing(source: Path, tmp_path: Path) -> None:
    at = ["--collection", "docs", "--path", tmp_path / "q"]
    run("ingest", source, *at, "--recipe", "dense")
    assert "would be deleted" in run("delete", *at, "--id", "doc 1", "--dry-run")
    assert "deleted 1 documents from 'docs'" in run("delete", *at, "--id", "doc 1", "--id", "nothing")
    even = '{"must": [{"key": "even", "match": {"value": true}}]}'
    assert "nothing was done" in run("delete", *at, "--filter", even, code=1, text="n\n")
    assert json.loads(run("delete", *at, "--filter", even, "--yes", "--json")) == {"found": 6, "deleted": 6}
    for asked in map(json.dumps, ASKS_NOTHING[::5]):
        for how in ("--yes", "--dry-run"):
            assert "asks for nothing" in run("delete", *at, "--filter", asked, how, code=1)
    assert "give one of --id" in run("delete", *at, code=2)
    assert "not a Qdrant filter" in run("delete", *at, "--filter", "{", code=1)
    source.write_text("\n".join(source.read_text().split("\n")[:4]))
    assert "deleted missing" in run("ingest", source, *at, "--delete-missing")
    assert json.loads(run("stats", *at, "--json"))["documents"] == 4


def test_the_command_does_not_delete_by_a_source_with_bad_records(source: Path, tmp_path: Path) -> None:
    at = ["--collection", "docs", "--path", tmp_path / "q"]
    run("ingest", source, *at, "--recipe", "dense")
    source.write_text("not JSON\n" + source.read_text().split("\n")[3])
    assert "nothing was deleted" in run("ingest", source, *at, "--delete-missing", "--skip-bad")
    assert json.loads(run("stats", *at, "--json"))["documents"] == 12


def test_the_command_deletes_nothing_of_a_folder_that_is_not_there_any_more(tmp_path: Path) -> None:
    at = ["--collection", "docs", "--path", tmp_path / "q"]
    (tmp_path / "docs" / "part").mkdir(parents=True)
    for name in ("a.md", "b.md", "part/c.md"):
        (tmp_path / "docs" / name).write_text(f"Text of {name}.")
    run("ingest", tmp_path / "docs", *at, "--recipe", "dense")
    (tmp_path / "docs" / "part").rename(tmp_path / "moved")
    (tmp_path / "docs" / "part").symlink_to(tmp_path / "moved")
    assert "3 are unchanged" in run("ingest", tmp_path / "docs", *at, "--delete-missing")
    (tmp_path / "moved").rename(tmp_path / "gone")
    assert "part cannot be read" in run("ingest", tmp_path / "docs", *at, "--delete-missing", code=1)
    out = run("ingest", tmp_path / "docs", *at, "--delete-missing", "--skip-bad")
    assert "nothing was deleted" in out
    assert json.loads(run("stats", *at, "--json"))["documents"] == 3


def test_the_exit_code_tells_of_refused_documents(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connector.stores import EdgeStore

    real = EdgeStore.upsert

    def upsert(self: Any, name: str, points: list[Point]) -> None:
        real(self, name, [point for point in points if point.payload["id"] != "doc 7"])
        raise PointsRefused({point_id("doc 7", 0): "too strange"})

    monkeypatch.setattr(EdgeStore, "upsert", upsert)
    out = run("ingest", source, "--collection", "docs", "--path", tmp_path / "q", "--recipe", "dense", code=1)
    assert "document 'doc 7': too strange" in out
    assert "refused 1 documents; the others are written" in out
