"""A folder whose files were damaged: what is wrong is said before the engine stumbles on it, and mended."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from connector.cli import main
from connector.core.errors import CollectionNotFound, InputError, StoreError
from connector.stores import EdgeStore, Point, open_store
from connector.stores.schema import CollectionSchema, VectorSchema

SCHEMA = CollectionSchema(vectors=(VectorSchema(name="cls", size=4, datatype="float32"),))

POINTS = [Point(f"00000000-0000-0000-0000-{it:012}", {"cls": np.ones(4, np.float32)}, {}) for it in range(9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with collections a__v0001 (as a), a__v0002 and b, closed."""
    folder = tmp_path / "qdrant"
    with opened(folder) as store:
        for name in ("a__v0001", "a__v0002", "b"):
            store.create(name, SCHEMA, {"of": name})
            store.upsert(name, POINTS)
        store.switch("a", "a__v0001")
        store.set_info("b", {"codec": "late"})
    return folder


class opened:
    """A store of a folder, closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._store = EdgeStore(folder)

    def __enter__(self) -> EdgeStore:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


def said(folder: Path) -> dict[str, object]:
    with opened(folder) as store:
        whole = {name: (store.info(name), store.count(name)) for name in store.names()}
        return {**whole, "aliases": store.aliases()}


LOSSES: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda it: it.write_bytes(b""),
    "halved": lambda it: os.truncate(it, it.stat().st_size // 2),
}


@pytest.mark.parametrize("how", LOSSES)
def test_a_registry_that_is_lost_is_made_of_what_the_collections_say(folder: Path, how: str) -> None:
    before = said(folder)
    LOSSES[how](folder / "registry.json")
    files = sorted(folder.rglob("*"))
    with opened(folder) as store:
        for call in (store.names, store.aliases, lambda: store.create("new", SCHEMA, {})):
            with pytest.raises(StoreError, match=r"registry\.json .*connector repair --path"):
                call()
    if how == "removed":
        with opened(folder) as store, pytest.raises(StoreError, match=r"are there: a__v0001, a__v0002, b"):
            store.count("a")
    assert sorted(folder.rglob("*")) == files
    done = CliRunner().invoke(main, ["repair", "--path", str(folder)])
    assert done.output == f"{folder} holds a, a__v0002, b again.\n"
    assert said(folder) == before
    again = CliRunner().invoke(main, ["repair", "--path", str(folder)])
    assert again.exit_code == 1
    assert "needs no repair" in again.output


def test_no_collection_is_begun_beside_lost_ones(folder: Path) -> None:
    (folder / "registry.json").unlink()
    (folder.parent / "docs.jsonl").write_text('{"id": "1", "text": "one"}\n')
    command = ["ingest", str(folder.parent / "docs.jsonl"), "--collection", "new", "--path", str(folder)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert "connector repair" in done.output


def test_a_folder_of_an_earlier_version_describes_its_collections_when_it_is_written(folder: Path) -> None:
    for home in folder.glob("collections/*"):
        (home / "collection.json").unlink()
    before = said(folder)  # opening it will do
    (folder / "registry.json").unlink()
    with opened(folder) as store:
        assert store.repair() == (["a", "a__v0002", "b"], [])
    assert said(folder) == before


def test_a_repair_guesses_nothing(folder: Path) -> None:
    (folder / "registry.json").unlink()
    (home,) = folder.glob("collections/b-*")
    copy = home.with_name("b-copied")
    shutil.copytree(home, copy)
    with opened(folder) as store, pytest.raises(StoreError, match=r"one of two that say they are 'b'"):
        store.repair()
    assert not (folder / "registry.json").exists()
    (copy / "collection.json").write_text("{}")
    with opened(folder) as store:
        assert store.repair() == (["a", "a__v0002", "b"], [copy])


def test_a_repair_keeps_what_it_replaces_and_leaves_what_is_newer(folder: Path) -> None:
    registry = folder / "registry.json"
    registry.write_text('{"format": 2, "collections": {}}')
    with opened(folder) as store, pytest.raises(StoreError, match=r"upgrade this library$"):
        store.repair()
    assert registry.read_text() == '{"format": 2, "collections": {}}'
    registry.write_text("half of it")
    with opened(folder) as store:
        store.repair()
    assert registry.with_name("registry.json.damaged").read_text() == "half of it"


def test_a_registry_that_cannot_be_read_is_not_replaced(folder: Path) -> None:
    (folder / "registry.json").unlink()
    (folder / "registry.json").mkdir()
    with opened(folder) as store, pytest.raises(StoreError, match=r"registry\.json cannot be read"):
        store.repair()
    assert (folder / "registry.json").is_dir()


def test_nothing_can_be_made_of_what_says_nothing(folder: Path) -> None:
    for home in folder.glob("collections/*"):
        (home / "collection.json").unlink()
    (folder / "registry.json").unlink()
    with opened(folder) as store, pytest.raises(StoreError, match=r"holds no collection\.json.*restore"):
        store.repair()


def test_what_was_dropped_stays_dropped(folder: Path) -> None:
    with opened(folder) as store:
        store.drop("b")
    (folder / "registry.json").unlink()
    with opened(folder) as store:
        assert store.repair() == (["a", "a__v0002"], [])


def test_there_is_nothing_to_repair_where_nothing_is(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path / "none")
    with pytest.raises(InputError, match="there is no folder"):
        store.repair()
    assert not (tmp_path / "none").exists()


def test_a_create_that_was_killed_leaves_no_lost_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a shard, and no registry says its name; the next one begins anew."""

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, opened(tmp_path / "qdrant") as store:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nobody clears up after a kill
        patch.setattr("connector.stores.edge.store.Entry", killed)
        with pytest.raises(SystemExit):
            store.create("a", SCHEMA, {})
    assert list(tmp_path.glob("qdrant/collections/*/shard"))
    with opened(tmp_path / "qdrant") as store:
        assert store.names() == []
        store.create("a", SCHEMA, {})
        assert store.names() == ["a"]


def closed_files(folder: Path) -> Iterator[Path]:
    return (it for it in folder.glob("collections/b-*/shard/**/*") if it.is_file())


@pytest.mark.parametrize("how", LOSSES)
def test_a_damaged_file_is_named_before_the_engine_opens_it(folder: Path, how: str) -> None:
    sizes = {it: it.stat().st_size for it in closed_files(folder)}
    assert len(sizes) > 10
    for file in [it for it, size in sizes.items() if size]:
        whole = file.read_bytes()
        LOSSES[how](file)
        with opened(folder) as store, pytest.raises(StoreError, match=f"{file.name} was damaged.*restore"):
            store.count("b")
        file.write_bytes(whole)
    with opened(folder) as store:
        assert store.count("b") == len(POINTS)


def test_files_that_others_put_there_do_no_harm(folder: Path) -> None:
    for home in folder.glob("collections/*/shard"):
        (home / ".DS_Store").write_bytes(b"x")
    with opened(folder) as store:
        assert store.count("b") == len(POINTS)


def test_a_seal_is_off_while_a_collection_is_open(folder: Path) -> None:
    (home,) = folder.glob("collections/b-*")
    seal = home / "sealed.json"
    assert json.loads(seal.read_text())["shard/edge_config.json"] > 0
    with opened(folder) as store:
        store.count("b")
        assert not seal.exists()
    assert seal.exists()


def test_a_panic_of_the_engine_is_a_store_error(folder: Path) -> None:
    """What pyo3 raises is no `Exception`, so that nothing but a bare `except` would catch it."""
    for home in folder.glob("collections/b-*"):  # as after a kill: nothing says what the files were
        (home / "sealed.json").unlink()
        for file in home.glob("shard/segments/*/vector_storage-cls/vectors/status.dat"):
            os.truncate(file, 0)
    with opened(folder) as store, pytest.raises(StoreError, match=r"broke off at .*restore an export"):
        store.count("b")


def test_an_unknown_collection_is_still_unknown(folder: Path) -> None:
    with opened(folder) as store, pytest.raises(CollectionNotFound):
        store.count("c")
    open_store(path=folder).close()
