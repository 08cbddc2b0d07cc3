"""Whoever looks and then writes: another one acts exactly in between, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from qdrant_client import QdrantClient, models

from connector import Connector, Document, Encoder
from connector.api import bulk_ingest
from connector.api import connector as connector_module
from connector.cli import main, options
from connector.collection.backup import export_collection, read_manifest
from connector.collection.collection import Collection
from connector.collection.versions import aliases as aliases_module
from connector.collection.versions.aliases import drop_all, names, versions
from connector.core.errors import (
    CollectionError,
    CollectionExists,
    ConnectorError,
    StoreLocked,
    TransferError,
)
from connector.core.locks import Locks
from connector.evaluation import query_mean as query_mean_module
from connector.migrations import Migrations
from connector.migrations import rebuild as rebuild_module
from connector.migrations import steps_in_place as in_place_module
from connector.scoring.alignment import TopK
from connector.scoring.strategy import Strategy, weighted
from connector.stores.edge.store import EdgeStore
from connector.stores.server.store import ServerStore
from tests.api.test_attach import fill, langchain
from tests.collection.test_dual_write import UP, ZITHER, hooked
from tests.migrations.test_interruptions import Remembering
from tests.migrations.test_runner import steps, write


@pytest.fixture(scope="module")
def quick_encoder(encoder: Encoder) -> Any:
    return Remembering(encoder)


@pytest.fixture
def make(tmp_path: Path, quick_encoder: Any) -> Callable[[], Connector]:
    return lambda: Connector.create("docs", path=tmp_path / "q", recipe="pooled", model=quick_encoder)


@pytest.fixture
def docs(make: Callable[[], Connector], documents: list[Document]) -> Iterator[Connector]:
    with make() as connector:
        connector.ingest(documents[:4])
        yield connector


def upgrade(docs: Connector, folder: Path, *kinds: str) -> None:
    for number, kind in enumerate(kinds, 1):
        write(folder, number, UP[kind])
    Migrations(docs, folder).upgrade()


SCORING = Strategy(TopK(2), weighted(0.5))


def test_a_migration_that_ends_when_a_writer_has_seen_it_is_not_called_cut_off(
    docs: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = Collection(docs.collection.store, "docs")
    collection.write_metadata(frozen="0001.1")
    hooked(monkeypatch, EdgeStore, "lease", before=lambda *_: collection.write_metadata(frozen=None))
    assert docs.ingest([ZITHER]).documents == 1


def test_who_lost_the_lease_in_a_step_does_not_say_that_it_is_done(
    docs: Connector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[bool] = []

    class Lost:
        def check(self) -> None:
            if lost:
                raise StoreLocked("taken over")

    @contextlib.contextmanager
    def lease(*_: Any) -> Iterator[Lost]:
        yield Lost()

    monkeypatch.setattr(EdgeStore, "lease", lease)
    kind = in_place_module.CreatePayloadIndex
    hooked(monkeypatch, kind, "apply", after=lambda *_: lost.append(True))
    write(tmp_path / "m", 1, steps('ctx.create_payload_index("n", "integer")', "pass"))
    migrations = Migrations(docs, tmp_path / "m")
    with pytest.raises(StoreLocked):
        migrations.upgrade()
    assert migrations.ledger.done == []


# Making and dropping


def test_of_two_who_make_a_collection_the_first_one_has_it(
    make: Callable[[], Connector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one comes when the first has made a version to which no name leads."""
    monkeypatch.setattr(aliases_module, "_MAKING_SECONDS", 0.0)

    def make_other(*_: Any) -> None:
        with pytest.raises(StoreLocked):
            make()

    assert hooked(monkeypatch, EdgeStore, "switch", before=make_other) == [0]
    with make() as first:
        assert first.ingest([ZITHER]).documents == 1
        with pytest.raises(CollectionExists):
            make()


def test_who_would_make_what_another_one_has_just_made_opens_it(
    make: Callable[[], Connector], tmp_path: Path, quick_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_first(*_: Any) -> None:
        with make() as first:
            first.ingest([ZITHER])

    hooked(monkeypatch, connector_module, "load_encoder", before=make_first)
    place = {"path": tmp_path / "q", "recipe": "pooled", "model": quick_encoder}
    with Connector.open_or_create("docs", **place) as second:
        assert second.count() == 1
        assert not second.created


def test_what_is_being_migrated_is_not_dropped(
    docs: Connector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(*_: Any) -> None:
        with pytest.raises(StoreLocked):
            docs.drop()

    assert hooked(monkeypatch, rebuild_module, "verify", after=drop) == [0]
    upgrade(docs, tmp_path / "m", "reindex")
    assert docs.count() == 4
    store = docs.collection.store
    docs.drop()
    assert names(store) == store.names() == []


def test_a_collection_that_is_made_while_one_of_its_name_is_dropped_is_not_dropped(
    docs: Connector, make: Callable[[], Connector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases_module, "_MAKING_SECONDS", 0.0)

    def make_next(*_: Any) -> None:
        with pytest.raises(StoreLocked):
            make()

    assert hooked(monkeypatch, EdgeStore, "switch", after=make_next) == [0]
    docs.drop()
    with make() as other:
        assert other.count() == 0


def test_a_failed_ingest_does_not_drop_what_another_one_has_written(
    tmp_path: Path, quick_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had made the collection, and had counted nothing in it."""
    place = {"path": tmp_path / "q", "model": quick_encoder}
    acknowledged: list[str] = []

    def write_there(*_: Any) -> None:
        with contextlib.suppress(ConnectorError), Connector.open("docs", **place) as other:
            other.ingest([ZITHER])
            acknowledged.append(ZITHER.id)

    def fail() -> Iterator[Document]:
        hooked(monkeypatch, Collection, "passages", after=write_there)
        yield from ()
        raise KeyError

    with pytest.raises(KeyError), bulk_ingest.opened("docs", recipe="pooled", **place) as made:
        made.ingest(fail())
    with contextlib.closing(EdgeStore(tmp_path / "q")) as store:
        assert ("docs" in names(store)) == bool(acknowledged)


def test_a_collection_that_is_not_to_be_dropped_has_its_name_again(docs: Connector) -> None:
    store = docs.collection.store
    drop_all(store, "docs", unless=lambda: store.aliases() == {})
    assert docs.count() == 4
    with pytest.raises(ZeroDivisionError):
        drop_all(store, "docs", unless=lambda: bool(1 / 0))
    assert docs.count() == 4


def test_only_the_versions_are_collected_that_were_shown(
    docs: Connector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the question stands, a migration makes an old version of the one that was in use."""
    folder = tmp_path / "m"
    upgrade(docs, folder, "reindex")
    hooked(monkeypatch, options, "confirm", before=lambda *_: upgrade(docs, folder, "reindex", "recode"))
    place = ["--collection", "docs", "--path", str(tmp_path / "q")]
    done = CliRunner().invoke(main, ["migrate", "gc", *place], input="y\n")
    assert done.exit_code == 0, done.output
    assert versions(docs.collection.store, "docs") == ["docs__v0002", "docs__v0003"]


# Scoring


def test_what_is_being_migrated_is_not_adapted(
    docs: Connector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = docs.collection

    def adapt(*_: Any) -> None:
        with pytest.raises(StoreLocked):
            before.adapt(SCORING)

    assert hooked(monkeypatch, rebuild_module, "verify", after=adapt) == [0]
    upgrade(docs, tmp_path / "m", "recode")
    with pytest.raises(CollectionError, match="migrated in the meantime"):
        before.adapt(SCORING)
    docs.collection.adapt(SCORING)
    assert docs.collection.strategy == SCORING


def test_nobody_is_asked_by_a_mean_of_queries_that_is_only_tried(
    tmp_path: Path, encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [("bees", "doc 7"), ("otters", "doc 0")]
    with Connector.create("docs", path=tmp_path / "q", model=encoder) as docs:
        docs.ingest(documents)
        seen: list[Any] = []

        def look(*_: Any) -> None:
            seen.append(docs.collection.read_metadata().query_mean)

        hooked(monkeypatch, query_mean_module, "_quality", after=look, times=2)
        docs.adapt_to_queries([f"what is number {number}" for number in range(50)], examples)
        assert seen == [None, None]


# Another program's collection


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    fill(client, [langchain(f"Text number {number}.", number) for number in range(4)])
    yield client
    client.close()


def test_a_detachment_leaves_what_was_attached_again(
    client: QdrantClient, quick_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Connector.attach("docs", client=client, recipe="compact", model=quick_encoder)
    other = Connector.open("docs", client=client, model=quick_encoder)

    def again(*_: Any) -> None:
        other.detach()
        Connector.attach("docs", client=client, recipe="pooled", model=quick_encoder).close()

    hooked(monkeypatch, ServerStore, "lease", before=again)
    with pytest.raises(CollectionError):
        first.detach()
    with Connector.open("docs", client=client, model=quick_encoder) as attached:
        assert len(attached.search("number", 4)) == 4


def test_attaching_looks_again_when_it_has_the_lease(
    client: QdrantClient, quick_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's name leads to another collection of its own since."""
    store = ServerStore(client, "here")
    store.switch("name", "docs")
    client.create_collection("other", vectors_config={})
    points = [
        models.PointStruct(id=number, vector={}, payload=langchain("A text.", number)) for number in (0, 1)
    ]
    client.upsert("other", points)
    hooked(monkeypatch, ServerStore, "lease", before=lambda *_: store.switch("name", "other"))
    with Connector.attach("name", client=client, recipe="compact", model=quick_encoder) as attached:
        assert attached.collection.physical == "other"
        assert attached.count() == 2
    assert not client.get_collection("docs").config.metadata


# Folders and threads


def test_an_export_is_not_spoilt_by_another_one_that_finds_it_changing_places(
    docs: Connector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    before = export_collection(docs.collection, folder)
    docs.ingest([ZITHER])
    moves: list[Any] = []

    def export_too(*_: Any) -> None:
        monkeypatch.undo()
        with pytest.raises(TransferError, match="another export"):
            export_collection(docs.collection, folder)
        moves.append(True)

    hooked(monkeypatch, Path, "rename", after=export_too)
    after = export_collection(docs.collection, folder)
    assert moves
    assert read_manifest(folder) == after != before
    assert sorted(it.name for it in tmp_path.iterdir() if it.name.startswith("out")) == ["out"]


def test_threads_that_ask_for_a_lock_at_once_are_given_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found, locks = list[Any](), Locks()
    hooked(monkeypatch, threading, "RLock", after=lambda: found.append(locks["key"]))
    assert locks["key"] is found[0] is locks["key"]
