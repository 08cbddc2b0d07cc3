"""`get` gives back what was put in, however it was split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import Connector, Document, Encoder
from connector.collection.documents.passages import joined, split_document
from connector.encoders.chunking import Chunking
from connector.migrations import Migrations
from connector.stores import Point
from tests.conftest import TEXTS
from tests.encoders.test_titles import chunkings, texts, words

SPLIT = {"chunk_tokens": 12, "chunk_overlap": 4}
TEXT = "\n " + "\n\n".join(TEXTS[:6]) + "  with\ta co\u00adoperative\u200b end.\n"
TITLE = words(200)
DOCUMENTS = [
    Document(id="split", text=TEXT, title="Of many things", metadata={"n": 1}),
    Document(id="word", text="unhappily" * 11 + " " + "otterly" * 14),
    Document(id="titled", text=f"{words(400)}\n", title=TITLE),
    Document(id="short", text=" one\n"),
]

Make = Callable[..., Connector]


@pytest.fixture
def make(place: dict[str, Any], name: str, encoder: Encoder) -> Iterator[Make]:
    """Makes the collection of a recipe on an engine."""
    made: list[Connector] = []

    def create(recipe: str = "dense") -> Connector:
        made.append(Connector.create(name, **place, recipe=recipe, model=encoder))
        return made[-1]

    yield create
    for connector in made:
        connector.close()


@given(texts(80), st.none() | st.integers(1, 300).map(words), chunkings() | st.just(Chunking()))
@settings(max_examples=150, deadline=None)
def test_the_passages_of_any_text_join_to_it(
    encoder: Encoder, text: str, title: str | None, chunking: Chunking
) -> None:
    passages = split_document(Document(id="a", text=text, title=title), encoder, chunking)[::-1]
    assert joined(passages) == text
    assert all(not it.gap.strip() for it in passages)
    assert [text[it.start or 0 :].startswith(it.text) for it in passages] == [True] * len(passages)


@pytest.mark.parametrize("recipe", ["dense", "pooled", "compact"])
def test_get_gives_back_what_was_put_in_and_ingesting_that_changes_nothing(make: Make, recipe: str) -> None:
    connector = make(recipe)
    assert connector.ingest(DOCUMENTS, **SPLIT).passages > 20
    ids = [it.id for it in DOCUMENTS]
    assert connector.get(ids) == DOCUMENTS
    again = connector.ingest(connector.get(ids), **SPLIT)
    assert (again.documents, again.unchanged) == (0, len(DOCUMENTS))


@given(st.lists(texts(40), min_size=1, max_size=3), chunkings())
@settings(max_examples=8, deadline=None)
def test_any_texts_come_back_from_a_store_as_they_were(
    encoder: Encoder, tmp_path_factory: pytest.TempPathFactory, some: list[str], chunking: Chunking
) -> None:
    given = [Document(id=f"{number}", text=text, title=text[:300]) for number, text in enumerate(some)]
    options: Any = {"chunk_tokens": chunking.tokens, "chunk_overlap": chunking.overlap}
    path = tmp_path_factory.mktemp("any")
    with Connector.create("c", path=path, recipe="dense", model=encoder) as connector:
        connector.ingest(given, **options)
        assert connector.get([it.id for it in given]) == given
        assert connector.ingest(connector.get([it.id for it in given]), **options).unchanged == len(given)


def test_to_get_change_and_ingest_adds_the_change_alone(make: Make) -> None:
    """A text of 1,007 characters grew to 1,267, 1,656, 2,193 and 2,926."""
    connector, text = make(), TEXT
    for change in range(4):
        connector.ingest([Document(id="a", text=text)], chunk_tokens=60, chunk_overlap=20)
        assert connector.get(["a"])[0].text == text
        text = f"{connector.get(['a'])[0].text}{change}"
    assert text == f"{TEXT}0123"


def test_other_white_space_between_passages_is_written_without_encoding(make: Make) -> None:
    connector = make()
    first = Document(id="a", text=" ".join(TEXTS))
    connector.ingest([first], chunk_tokens=10)
    place = connector.collection.store.retrieve(
        connector.collection.physical, [connector.collection.point_id("a", 1)], ["start"]
    )
    (record,) = place.values()
    start = record.payload["start"]
    wider = replace(first, text=f"{first.text[: start - 1]}\n\n{first.text[start:]}")
    report = connector.ingest([wider], chunk_tokens=10)
    assert (report.documents, report.metadata_updated) == (0, 1)
    assert connector.get(["a"]) == [wider]
    assert connector.ingest([first], chunk_tokens=10).metadata_updated == 1
    assert connector.get(["a"]) == [first]


# Titles


def test_a_title_that_does_not_fit_is_cut_counted_and_kept(
    make: Make, encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    connector = make("compact")
    (document,) = (it for it in DOCUMENTS if it.id == "titled")
    with caplog.at_level(logging.WARNING):
        report = connector.ingest([document, DOCUMENTS[0]], chunk_tokens=200, chunk_overlap=100)
    assert (report.passages, report.truncated, report.titles_cut) == (5, 0, 1)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "titles of 1 of 2 documents" in warning
    assert connector.get(["titled"]) == [document]
    (hit,) = connector.search(words(30), 1)
    assert hit.title == words(encoder.window // 4)
    assert connector.explain(words(30), hit).text == f"{hit.title} {hit.text}"
    longer = replace(document, title=f"{TITLE} and more")
    assert connector.ingest([longer], chunk_tokens=200, chunk_overlap=100).documents == 1
    assert connector.get(["titled"]) == [longer]


def test_a_title_longer_than_the_window_leaves_room_for_a_text_that_is_not_split(make: Make) -> None:
    connector = make()
    report = connector.ingest([Document(id="a", text="Sourdough bread rises.", title=words(400))])
    assert (report.titles_cut, report.truncated, report.tokens_lost) == (1, 0, 0)
    assert connector.get(["a"])[0].title == words(400)


# Wherever they go


def test_an_export_and_a_migration_carry_it(tmp_path: Path, encoder: Encoder) -> None:
    ids = [it.id for it in DOCUMENTS]
    with Connector.create("c", path=tmp_path / "q", recipe="pooled", model=encoder) as connector:
        connector.ingest(DOCUMENTS, **SPLIT)
        connector.export(tmp_path / "exported")
        folder = tmp_path / "migrations"
        folder.mkdir()
        (folder / "0001_it.py").write_text(
            '"""Codes."""\nrevision = "0001"\ndown_revision = None\n\n\ndef upgrade(ctx):\n'
            '    ctx.reindex(recipe="compact")\n\n\ndef downgrade(ctx):\n    ctx.reindex(recipe="pooled")\n'
        )
        Migrations(connector, folder).upgrade()
        assert connector.recipe.name == "compact"
        assert connector.get(ids) == DOCUMENTS
        assert connector.ingest(DOCUMENTS, **SPLIT).unchanged == len(DOCUMENTS)
    with Connector.restore(tmp_path / "exported", path=tmp_path / "r", model=encoder) as connector:
        assert connector.get(ids) == DOCUMENTS
        assert connector.ingest(DOCUMENTS, **SPLIT).unchanged == len(DOCUMENTS)


# Before


def without_places(connector: Connector) -> None:
    """Make the collection what an earlier version wrote."""
    collection = connector.collection
    vectors = [vector.name for vector in collection.schema.vectors]
    old = [
        Point(
            it.id,
            dict(it.vectors),
            {key: of for key, of in it.payload.items() if key not in ("start", "gap")},
        )
        for it in collection.store.scroll(collection.physical, None, vectors)
    ]
    collection.store.upsert(collection.physical, old)


def test_what_was_split_before_places_were_stored_is_joined_and_said(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    connector, given = make(), Document(id="a", text=" ".join(TEXTS), metadata={"n": 1})
    connector.ingest([given, DOCUMENTS[3]], **SPLIT)
    without_places(connector)
    with caplog.at_level(logging.WARNING):
        assert connector.get(["short"]) == [DOCUMENTS[3]]
        assert not caplog.records
        (found,) = connector.get(["a"])
    assert set(given.text.split()) <= set(found.text.split())
    assert found.text.count("\n") == connector.stats().passages - 2
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "1 documents" in warning
    assert "earlier version" in warning
    assert connector.ingest([given], **SPLIT).unchanged == 1, "what was encoded is the same"
    report = connector.ingest([replace(given, metadata={"n": 2})], **SPLIT)
    assert (report.documents, report.metadata_updated) == (0, 1), "which gives its passages their places"
    assert connector.get(["a"]) == [replace(given, metadata={"n": 2})]
