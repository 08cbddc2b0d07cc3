"""Processes that are forked off one with an open folder: they are refused, and the parent loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from connector import AsyncConnector, Connector, Document, Encoder, Reranker
from connector.core.errors import StoreError, StoreLocked
from connector.core.forks import Mutex
from connector.stores import open_store

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # The test runner has threads of its own, which is what is tried here.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

SECONDS = 60


def in_child(what: Callable[[], object]) -> None:
    """Do something in a process that is forked off; it must not raise, hang or die."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        code = 1
        try:
            what()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(StoreError, match=r"opened before this process was forked off .*server"):
        call()


@pytest.fixture
def connector(tmp_path: Path, encoder: Encoder, documents: list[Document]) -> Connector:
    made = Connector.create("docs", path=tmp_path / "qdrant", recipe="colbert", model=encoder)
    made.ingest(documents)
    return made


def test_what_was_opened_before_a_fork_is_refused_after_it(
    connector: Connector, documents: list[Document]
) -> None:
    store, scrolled = connector.collection.store, connector.collection.scroll_passages(["id"])
    next(scrolled)

    def child() -> None:
        for call in (
            lambda: connector.search("otter"),
            connector.stats,
            connector.count,
            lambda: connector.ingest([Document(id="new", text="new")]),
            lambda: connector.delete(["doc 1"]),
            connector.drop,
            store.names,
            lambda: store.count("docs__v0001"),
            lambda: store.switch("docs", None),
        ):
            refused(call)
        assert "docs" in repr(connector)
        connector.close()

    in_child(child)
    with connector:
        assert connector.count() == len(documents)


def test_two_children_and_a_parent_that_write_at_once_lose_nothing(
    connector: Connector, encoder: Encoder, tmp_path: Path
) -> None:
    """What the children write is refused, and what the parent writes is there when the folder is reopened."""

    def child() -> None:
        for number in range(20):
            refused(lambda number=number: connector.ingest([Document(id=f"child {number}", text="lost")]))
        with pytest.raises(StoreLocked):
            Connector.open("docs", path=tmp_path / "qdrant", model=encoder)
        connector.close()

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=child) for _ in range(2)]
    for it in children:
        it.start()
    wanted = [Document(id=f"parent {number}", text=f"kept {number}") for number in range(20)]
    for document in wanted:
        connector.ingest([document])
    for it in children:
        it.join(SECONDS)
        assert it.exitcode == 0
    with pytest.raises(StoreLocked):  # a child's close has not released the parent's lock
        in_another(tmp_path)
    connector.close()
    with Connector.open("docs", path=tmp_path / "qdrant", model=encoder) as again:
        assert [it.id for it in again.get([it.id for it in wanted])] == [it.id for it in wanted]
        assert again.count() == 12 + 20


def in_another(folder: Path) -> None:
    """Open the folder in a new process; raises what it raises there."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(_open, (folder / "qdrant",))


def _open(folder: Path) -> None:
    open_store(path=folder).close()


ENDS = """
import os, signal, sys
from pathlib import Path
sys.modules["fastembed"] = None  # its onnxruntime hangs in any child that ends in order
from connector.stores import EdgeStore, Point
from connector.stores.schema import CollectionSchema, VectorSchema
import numpy as np

folder = Path(sys.argv[1])
store = EdgeStore(folder)
store.create("a", CollectionSchema(vectors=(VectorSchema(name="cls", size=4, datatype="float32"),)), {})
ids = [f"00000000-0000-0000-0000-{it:012}" for it in range(500)]
points = [Point(it, {"cls": np.ones(4, np.float32)}, {}) for it in ids]
store.upsert("a", points)
files = lambda: {it: it.stat().st_mtime_ns for it in folder.rglob("*") if it.is_file()}
before = files()
if os.fork() == 0:
    signal.alarm(60)
    if sys.argv[2] == "closes":
        store.close()
    if sys.argv[2] == "forgets":
        del store
    sys.exit(0)
assert os.wait()[1] == 0
assert not (changed := {it for it in files() if files()[it] != before.get(it)}), changed
store.upsert("a", points[:1])
store.close()
assert EdgeStore(folder).count("a") == 500
"""


@pytest.mark.parametrize("way", ["ends", "closes", "forgets"])
def test_a_child_that_ends_leaves_the_files_alone(tmp_path: Path, way: str) -> None:
    """The engine flushes when it is let go, here to files that are the parent's."""
    subprocess.run([sys.executable, "-c", ENDS, tmp_path / "qdrant", way], check=True, timeout=2 * SECONDS)


def test_a_folder_is_opened_in_a_child_once_the_parent_has_closed_it(
    connector: Connector, encoder: Encoder, tmp_path: Path
) -> None:
    inherited, parent_has_closed = connector, multiprocessing.get_context("fork").Event()

    def child() -> None:
        parent_has_closed.wait(SECONDS)
        refused(inherited.count)
        with Connector.open("docs", path=tmp_path / "qdrant", model=encoder) as own:
            assert own.search("an animal that sleeps", k=1)[0].id == "doc 0"
            own.ingest([Document(id="of a child", text="written by a child")])

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    connector.close()
    parent_has_closed.set()
    process.join(SECONDS)
    assert process.exitcode == 0
    with Connector.open("docs", path=tmp_path / "qdrant", model=encoder) as again:
        assert [it.id for it in again.get(["of a child"])] == ["of a child"]


def test_encoders_and_rerankers_go_on_in_a_child(encoder: Encoder) -> None:
    reranker, texts = Reranker(encoder), ["A file is locked by a process.", "Bread rises."] * 20
    query, scores = encoder.encode_queries(["a lock"])[0].tokens, reranker.scores("a lock", texts)

    def child() -> None:
        np.testing.assert_allclose(encoder.encode_queries(["a lock"])[0].tokens, query, atol=1e-5)
        np.testing.assert_allclose(reranker.scores("a lock", texts), scores, atol=1e-4)

    in_child(child)


def test_an_asynchronous_connector_is_refused_and_hangs_in_no_thread(
    connector: Connector, tmp_path: Path, encoder: Encoder
) -> None:
    connector.close()
    opened = asyncio.run(AsyncConnector.open("docs", path=tmp_path / "qdrant", model=encoder))
    asyncio.run(opened.search("otter"))
    in_child(lambda: refused(lambda: asyncio.run(opened.search("otter"))))
    asyncio.run(opened.close())


def test_a_connection_is_refused_after_a_fork() -> None:
    store = open_store(client=QdrantClient(":memory:"))
    in_child(lambda: refused(store.names))
    assert store.names() == []


def test_a_lock_that_another_thread_held_is_free_in_a_child() -> None:
    mutex, held, done = Mutex(), threading.Event(), threading.Event()

    def hold() -> None:
        with mutex:
            held.set()
            done.wait(SECONDS)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(SECONDS)
    assert not mutex.acquire(blocking=False)
    with contextlib.ExitStack() as end:
        end.callback(thread.join)
        end.callback(done.set)
        in_child(lambda: mutex.acquire() and mutex.release())
