"""A collection is searched and written while it is migrated, as if it were not."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from connector import Connector, Document, Encoder
from connector.collection.collection import Collection
from connector.collection.documents import document_state as documents_module
from connector.collection.documents.passages import payload_of, split_document
from connector.collection.versions.aliases import versions
from connector.core.types import point_id
from connector.encoders.chunking import Chunking
from connector.migrations import Migrations, collect
from connector.stores import Point
from tests.conftest import INDEXES, TEXTS

KEYS = ["id", "passage", "passages", "hash", "title", "full_title", "text", "start", "gap", "metadata"]
COLOURS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink")
THINGS = ("invoice", "letter", "receipt", "contract", "ticket", "stamp", "folder", "parcel", "form", "list")


class Background:
    """A thread that does something again and again until it is left; what it raises fails the test."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failures: list[str] = []
        self.rounds = 0

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._call()
            except BaseException:
                self.failures.append(traceback.format_exc())
                if len(self.failures) > 20:
                    return
            self.rounds += 1

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        if error[0] is None:
            assert not self.failures, f"{len(self.failures)} of {self.rounds} failed:\n{self.failures[0]}"

    def wait(self, rounds: int) -> None:
        """Until it has done this so many times more."""
        ends = time.monotonic() + 120
        wanted = self.rounds + rounds
        while self.rounds < wanted and self._thread.is_alive() and time.monotonic() < ends:
            time.sleep(0.01)


def revisions(folder: Path, up: str, down: str = "pass") -> Path:
    folder.mkdir(exist_ok=True)
    head = 'revision = "0001"\ndown_revision = None\n'
    body = f"{head}\ndef upgrade(ctx):\n    {up}\n\ndef downgrade(ctx):\n    {down}\n"
    (folder / "0001_it.py").write_text(body)
    return folder


@pytest.fixture
def there_and_back(tmp_path: Path) -> Path:
    return revisions(tmp_path / "m", 'ctx.reindex(recipe="compact")', 'ctx.reindex(recipe="pooled")')


def papers(count: int) -> list[Document]:
    """Short documents, no two of which are the same, and none like those of `TEXTS`."""
    chance = random.Random(1)
    return [
        Document(
            id=f"paper {n}",
            text=f"{chance.choice(COLOURS)} {chance.choice(THINGS)} number {n} of {chance.choice(THINGS)}",
            metadata={"n": n},
        )
        for n in range(count)
    ]


@pytest.fixture
def made(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> Iterator[Callable[..., Connector]]:
    """Makes the collection by recipe default, with twelve documents that are asked for, and some others."""
    opened: list[Connector] = []

    def make(count: int) -> Connector:
        indexes = {**INDEXES, "draft": "integer", "group": "integer"}
        connector = Connector.create(name, **place, recipe="pooled", model=encoder, indexes=indexes)
        opened.append(connector)
        connector.ingest([*documents, *papers(count)])
        return connector

    yield make
    for connector in opened:
        if not connector._closed:
            connector.drop()


class Reader:
    """Searches for documents that are there all the time."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self._number = 0

    def __call__(self) -> None:
        self._number += 1
        number = self._number % len(TEXTS)
        hits = self.connector.search(TEXTS[number], 5)
        assert len(hits) == 5
        assert hits[0].id == f"doc {number}"
        assert hits[0].text == TEXTS[number]


# Searches


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_search_is_right_while_a_collection_is_migrated_there_and_back(
    made: Callable[..., Connector],
    there_and_back: Path,
    count: int,
) -> None:
    connector = made(count)
    migrations = Migrations(connector, there_and_back)
    recipes = []
    with Background(Reader(connector)) as searches:
        for move in (migrations.upgrade, lambda: migrations.downgrade("base")):
            searches.wait(5)
            move()
            recipes.append(connector.recipe.name)
            searches.wait(5)
    print(f"{searches.rounds} searches")
    assert recipes == ["compact", "pooled"]
    assert searches.rounds >= 20, f"only {searches.rounds} searches ran"
    assert connector.stats().documents == len(TEXTS) + count


def test_every_search_is_right_while_old_versions_are_collected(
    made: Callable[..., Connector],
    there_and_back: Path,
    place: dict[str, Any],
    encoder: Encoder,
) -> None:
    """Also of a connector that was opened before and has not been told."""
    connector = made(10)
    with Connector.open(connector.name, **place, model=encoder) as other:
        migrations = Migrations(connector, there_and_back)
        with Background(Reader(other)) as theirs, Background(Reader(connector)) as ours:
            for move in (migrations.upgrade, lambda: migrations.downgrade("base"), migrations.upgrade):
                theirs.wait(3)
                move()
                assert len(collect(connector)) == 1
                theirs.wait(3)
                ours.wait(3)
        assert other.search(TEXTS[0], 1)[0].id == "doc 0"
        assert other.recipe.name == "compact"
    assert len(versions(connector.collection.store, connector.name)) == 1


# Writes


class Writer:
    """Writes, changes and deletes documents, and knows what was acknowledged.

    Attributes:
        known: the acknowledged documents, each with how it was split.
    """

    def __init__(self, connector: Connector, seed: int = 0) -> None:
        self.connector = connector
        self.known: dict[str, tuple[Document, int | None]] = {}
        self.done: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._drawn = 0

    def __call__(self) -> None:
        calls = [self.write, self.write, self.change, self.change, self.delete, self.delete_by_filter]
        call = self._chance.choice(calls)
        call()
        self.done[call.__name__] += 1
        if self._chance.random() < 0.3:
            self.look()

    def document(self, id_: str) -> Document:
        """A new text of one to a hundred words."""
        self._drawn += 1
        words = [f"{self._chance.choice(COLOURS)} {self._chance.choice(THINGS)}" for _ in range(50)]
        text = f"draft{self._drawn} " + " ".join(words[: self._chance.choice((1, 2, 25, 50))])
        group = self._chance.randrange(8)
        return Document(id=id_, text=text, metadata={"draft": self._drawn, "group": group})

    def write(self) -> None:
        self._ingest([self.document(f"written {self._drawn}") for _ in range(self._chance.randint(1, 3))])

    def change(self) -> None:
        if self.known:
            ids = self._chance.sample(sorted(self.known), min(3, len(self.known)))
            self._ingest([self.document(id_) for id_ in ids])

    def _ingest(self, documents: list[Document]) -> None:
        chunk_tokens = self._chance.choice((None, 12))
        self.connector.ingest(documents, chunk_tokens=chunk_tokens)
        self.known |= {it.id: (it, chunk_tokens) for it in documents}

    def delete(self) -> None:
        ids = self._chance.sample(sorted(self.known), min(2, len(self.known)))
        assert self.connector.delete(ids) == len(ids)
        for id_ in ids:
            del self.known[id_]

    def delete_by_filter(self) -> None:
        group = self._chance.randrange(8)
        ids = [id_ for id_, (it, _) in self.known.items() if it.metadata["group"] == group]
        if len(ids) > len(self.known) / 3:
            return
        match = models.FieldCondition(key="group", match=models.MatchValue(value=group))
        assert self.connector.delete(filter=models.Filter(must=[match])) == len(ids)
        for id_ in ids:
            del self.known[id_]

    def look(self) -> None:
        """What was acknowledged is found, and what was deleted is not."""
        written = [f"written {n}" for n in self._chance.sample(range(self._drawn + 1), 1)]
        assert self.connector.matching_ids(written) == [id_ for id_ in written if id_ in self.known]
        ids = self._chance.sample(sorted(self.known), min(1, len(self.known)))
        for id_ in ids:
            document, _ = self.known[id_]
            number = models.FieldCondition(
                key="draft", match=models.MatchValue(value=document.metadata["draft"])
            )
            hits = self.connector.search("a letter", 3, filter=models.Filter(must=[number]))
            assert [hit.id for hit in hits] == [id_]
            assert hits[0].text in document.text


def expected(writer: Writer, others: list[Document], encoder: Encoder) -> dict[str, dict[str, Any]]:
    """The points of what was acknowledged."""
    known = [*writer.known.values(), *((it, None) for it in others)]
    passages = [
        passage
        for document, chunk_tokens in known
        for passage in split_document(document, encoder, Chunking(chunk_tokens, 0))
    ]
    return {point_id(it.document.id, it.number): payload_of(it) for it in passages}


def stored(collection: Collection) -> dict[str, dict[str, Any]]:
    """The points that are there, marks of unfinished documents too."""
    records = list(collection.store.scroll(collection.physical, KEYS, ["cls"]))
    assert all(len(record.vectors) == 1 for record in records)
    return {record.id: record.payload for record in records}


def assert_vectors_fit(collection: Collection, encoder: Encoder) -> None:
    """Each passage has the vector of its own text, not of an earlier one."""
    for record in collection.store.scroll(collection.physical, ["text", "title"], ["cls"]):
        (made,) = encoder.encode_documents([record.payload["text"]])
        assert float(made.cls @ record.vectors["cls"]) > 0.99, record.payload


def test_what_is_written_while_a_version_is_made_is_in_it(
    made: Callable[..., Connector],
    there_and_back: Path,
    encoder: Encoder,
    documents: list[Document],
) -> None:
    connector = made(60)
    migrations = Migrations(connector, there_and_back)
    writer = Writer(connector)
    with Background(writer) as writes:
        for move, recipe in (
            (migrations.upgrade, "compact"),
            (lambda: migrations.downgrade("base"), "pooled"),
        ):
            writes.wait(10)
            move()
            assert connector.recipe.name == recipe
            writes.wait(10)
    print(dict(writer.done))
    assert stored(connector.collection) == expected(writer, [*documents, *papers(60)], encoder)
    assert_vectors_fit(connector.collection, encoder)


def test_what_is_written_while_payloads_are_changed_is_changed_or_as_it_was_written(
    made: Callable[..., Connector],
    tmp_path: Path,
    encoder: Encoder,
    documents: list[Document],
) -> None:
    folder = revisions(
        tmp_path / "m",
        'ctx.map_payload(lambda m: {**m, "mapped": True})',
        'ctx.map_payload(lambda m: {k: v for k, v in m.items() if k != "mapped"})',
    )
    connector = made(60)
    migrations, writer = Migrations(connector, folder), Writer(connector)
    old = {point_id(it.id, 0) for it in (*documents, *papers(60))}
    with Background(writer) as writes:
        for _ in range(3):
            writes.wait(1)
            migrations.upgrade()
            assert old <= mapped(connector)
            writes.wait(1)
            migrations.downgrade("base")
            assert not old & mapped(connector)
        migrations.upgrade()
        writes.wait(1)
    assert old <= mapped(connector)
    found = stored(connector.collection)
    for payload in found.values():
        payload["metadata"].pop("mapped", None)
    assert found == expected(writer, [*documents, *papers(60)], encoder)


def mapped(connector: Connector) -> set[str]:
    """The points whose metadata were changed."""
    records = connector.collection.store.scroll(connector.collection.physical, ["metadata"])
    return {record.id for record in records if "mapped" in record.payload.get("metadata", {})}


def test_what_is_written_while_words_are_added_is_found_by_words(
    made: Callable[..., Connector],
    tmp_path: Path,
    encoder: Encoder,
    documents: list[Document],
) -> None:
    folder = revisions(tmp_path / "m", 'ctx.add_vector("lexical", "english")', 'ctx.drop_vector("lexical")')
    connector = made(60)
    migrations, writer = Migrations(connector, folder), Writer(connector)
    with Background(writer) as writes:
        for _ in range(3):
            writes.wait(1)
            migrations.upgrade()
            writes.wait(1)
            migrations.downgrade("base")
        writes.wait(1)
        migrations.upgrade()
        writes.wait(3)
    assert stored(connector.collection) == expected(writer, [*documents, *papers(60)], encoder)
    assert_found_by_words(connector, [it for it, _ in writer.known.values()])


def assert_found_by_words(connector: Connector, documents: list[Document]) -> None:
    """By the word that each of them has alone; and no earlier text of it is."""
    for document in documents:
        hits = connector.search(document.text.split()[0], 1, candidates_by="lexical", rerank=None)
        assert [hit.id for hit in hits] == [document.id], document


def test_what_is_written_while_old_versions_are_collected_is_kept(
    made: Callable[..., Connector], there_and_back: Path, encoder: Encoder, documents: list[Document]
) -> None:
    connector = made(10)
    migrations, writer = Migrations(connector, there_and_back), Writer(connector)
    with Background(writer) as writes:
        for move in (migrations.upgrade, lambda: migrations.downgrade("base"), migrations.upgrade):
            move()
            assert collect(connector)
            writes.wait(5)
    assert stored(connector.collection) == expected(writer, [*documents, *papers(10)], encoder)


def test_documents_are_found_though_their_version_is_collected_meanwhile(
    made: Callable[..., Connector], there_and_back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector, moved = made(0), list[bool]()

    def late(*arguments: Any) -> Any:
        if not moved:
            moved.append(True)
            Migrations(connector, there_and_back).upgrade()
            assert collect(connector)
        return scan(*arguments)

    scan, even = documents_module.scan, models.FieldCondition(key="even", match=models.MatchValue(value=True))
    with monkeypatch.context() as patched:
        patched.setattr(documents_module, "scan", late)
        found = connector.matching_ids(filter=models.Filter(must=[even]))
    assert moved
    assert sorted(found) == [f"doc {n}" for n in (0, 10, 2, 4, 6, 8)]


def test_points_are_amended_though_one_of_them_is_deleted_meanwhile(
    made: Callable[..., Connector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a migration that fills or maps points would fail over a writer that deletes one."""
    connector = made(0)
    store, physical = connector.collection.store, connector.collection.physical
    look, cls, gone = store.retrieve, np.eye(1, 384, dtype=np.float32)[0], list[str]()

    def retrieve(*arguments: Any) -> Any:
        found = look(*arguments)
        if not gone:
            gone.append("doc 1")
            store.delete(physical, [point_id("doc 1", 0)])
        return found

    with monkeypatch.context() as patched:
        patched.setattr(store, "retrieve", retrieve)
        store.amend(physical, [Point(point_id(f"doc {n}", 0), {"cls": cls}, {"m": n}) for n in range(3)])
    amended = {
        it.payload["m"]: it.vectors["cls"][0] for it in store.scroll(physical, ["m"], ["cls"]) if it.payload
    }
    assert amended == {0: pytest.approx(1), 2: pytest.approx(1)}


# Many threads


def test_eight_threads_find_what_is_acknowledged_while_one_ingests(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> None:
    acknowledged = list(documents[:1])
    found: list[str] = []

    def search() -> None:
        document = random.choice(acknowledged)
        assert connector.search(document.text, 3)[0].id == document.id
        found.append(document.id)

    with Connector.create(name, **place, model=encoder, recipe="compact") as connector:
        connector.ingest(acknowledged)
        with contextlib.ExitStack() as stack:
            searches = [stack.enter_context(Background(search)) for _ in range(8)]
            for start in range(1, len(documents)):
                window = documents[start : start + 1] + papers(100)[9 * start - 9 : 9 * start]
                connector.ingest(
                    window, progress=lambda it, them=window: acknowledged.extend(them[: it.documents])
                )
            for each in searches:
                each.wait(3)
        assert len(acknowledged) >= 100
        for document in acknowledged:
            assert connector.search(document.text, 3)[0].id == document.id
        connector.drop()
