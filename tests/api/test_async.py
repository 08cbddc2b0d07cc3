"""The asynchronous façade: the methods and results of `Connector`, while the event loop goes on."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient

from connector import AsyncConnector, Connector, ConnectorError, Document, Encoder
from connector.core.errors import CollectionNotFound, InputError, StoreUnavailable
from connector.stores import open_store
from tests.server.real import SERVER, server

QUERY = "how do bees share where food is"


@pytest.fixture(params=["edge", "memory", SERVER])
async def where(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> AsyncIterator[dict[str, Any]]:
    if request.param == "edge":
        yield {"path": tmp_path / "qdrant"}
    elif request.param == "memory":
        client = QdrantClient(":memory:")
        yield {"client": client}
        client.close()
    else:
        with server(name) as there:
            yield there


def test_it_has_the_methods_of_the_connector_with_the_same_arguments() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(AsyncConnector) == public(Connector) - {"collection", "encoder_of", "migrations"} | {"run"}
    for name in public(AsyncConnector) - {"run"}:
        ours, theirs = (inspect.getattr_static(kind, name) for kind in (AsyncConnector, Connector))
        if inspect.isfunction(theirs):
            assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters, name
        elif isinstance(theirs, classmethod):
            assert [*inspect.signature(ours.__func__).parameters] == [
                *inspect.signature(theirs.__func__).parameters
            ], name


async def test_all_of_it(
    where: dict[str, Any], name: str, documents: list[Document], encoder: Encoder
) -> None:
    async with await AsyncConnector.create(name, recipe="compact", model=encoder, **where) as connector:
        assert (await connector.ingest(documents)).documents == len(documents)
        hits = await connector.search(QUERY, k=3)
        assert hits[0].id == "doc 7"
        assert hits.ms["total"] > 0
        assert (await connector.explain(QUERY, hits[0])).score == pytest.approx(hits[0].score)
        assert (await connector.explain(QUERY, "doc 7")).id == "doc 7"
        assert (await connector.stats()).documents == len(documents)
        assert await connector.get(["doc 7", "none", "doc 1"]) == [documents[7], documents[1]]
        assert (await connector.recipe()).name == "compact"
        assert (await connector.encoder()).fingerprint == encoder.fingerprint
        adaptation = await connector.adapt([(QUERY, "doc 7"), ("what frees memory", "doc 8")])
        assert adaptation.chosen
        assert await connector.matching_ids(["doc 7", "none"]) == ["doc 7"]
        assert await connector.delete(["doc 7"]) == 1
        await connector.refresh()
    async with await AsyncConnector.open(name, model=encoder, **where) as connector:
        assert repr(connector) == f"AsyncConnector({name!r})"
        assert (await connector.search(QUERY, k=1))[0].id != "doc 7"
        await connector.drop()
    with pytest.raises(CollectionNotFound, match=name):
        await AsyncConnector.open(name, **where)


async def test_the_results_are_those_of_the_connector(
    tmp_path: Path, documents: list[Document], encoder: Encoder
) -> None:
    with Connector.create("docs", path=tmp_path, recipe="compact", model=encoder) as connector:
        connector.ingest(documents)
        queries = [document.text[:30] for document in documents]
        expected = [connector.search(query, k=4) for query in queries]
    async with await AsyncConnector.open("docs", path=tmp_path, model=encoder) as connector:
        found = await asyncio.gather(*(connector.search(query, k=4) for query in queries))
    assert [[(it.id, it.score) for it in hits] for hits in found] == [
        [(it.id, pytest.approx(it.score, abs=1e-6)) for it in hits] for hits in expected
    ]


async def test_the_event_loop_goes_on_while_a_thread_works(
    where: dict[str, Any], name: str, documents: list[Document], encoder: Encoder
) -> None:
    class Slow:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(encoder, attribute)

        def encode_queries(self, texts: list[str]) -> Any:
            time.sleep(0.5)
            return encoder.encode_queries(texts)

    slow: Any = Slow()
    async with await AsyncConnector.create(name, model=slow, **where) as connector:
        await connector.ingest(documents)
        searching = asyncio.ensure_future(connector.search(QUERY))
        turns = 0
        while not searching.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert searching.result()[0].id == "doc 7"
        assert turns >= 10
        await connector.drop()


async def test_closed_connectors_and_wrong_clients_are_named(tmp_path: Path, encoder: Encoder) -> None:
    connector = await AsyncConnector.create("docs", path=tmp_path, model=encoder)
    await connector.close()
    await connector.close()
    with pytest.raises(InputError, match="'docs' is closed"):
        await connector.search("otters")
    client: Any = AsyncQdrantClient(":memory:")
    with pytest.raises(InputError, match="AsyncQdrantClient; give a QdrantClient, or the url"):
        Connector.create("docs", client=client, model=encoder)
    with pytest.raises(InputError, match="AsyncQdrantClient; give a QdrantClient, or the url"):
        await AsyncConnector.create("docs", client=client, model=encoder)
    with pytest.raises(StoreUnavailable, match="127"):
        await AsyncConnector.open("docs", url="http://127.0.0.1:9")


async def test_a_connector_that_nobody_waits_for_any_more_is_closed(tmp_path: Path, encoder: Encoder) -> None:
    making = asyncio.ensure_future(AsyncConnector.create("docs", path=tmp_path, model=encoder))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    for _ in range(100):
        try:
            async with await AsyncConnector.open("docs", path=tmp_path, model=encoder):
                return
        except ConnectorError:  # the folder is locked till the other one is closed
            await asyncio.sleep(0.05)
    raise AssertionError("it stays open")


@pytest.mark.parametrize("what", ["ingest", "export", "restore"])
async def test_what_is_cancelled_ends_at_its_next_report(
    what: str, tmp_path: Path, documents: list[Document], encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever closes the connector waits no longer than that; running it again does the rest."""
    monkeypatch.setattr("connector.collection.ingest.WINDOW", 4)
    loop, begun, left = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    reports = list[Any]()

    def progress(*report: Any) -> None:
        reports.append(report)
        loop.call_soon_threadsafe(begun.set)
        left.wait(30)

    connector = await AsyncConnector.create("docs", path=tmp_path / "a", recipe="compact", model=encoder)
    if what != "ingest":
        await connector.ingest(documents)
        await connector.export(tmp_path / "exported")

    def work(**options: Any) -> Any:
        if what == "restore":
            return AsyncConnector.restore(
                tmp_path / "exported", path=tmp_path / "b", model=encoder, **options
            )
        if what == "export":
            return connector.export(tmp_path / "again", **options)
        return connector.ingest(documents, **options)

    working = asyncio.ensure_future(work(progress=progress))
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    left.set()
    await connector.close()
    while any(it.name.startswith("connector") for it in threading.enumerate()):
        await asyncio.sleep(0.01)
    assert len(reports) == 1
    assert not [*tmp_path.glob("again*")]
    connector = await AsyncConnector.open("docs", path=tmp_path / "a", model=encoder)
    assert await connector.count() == (8 if what == "ingest" else len(documents))
    done = await work()
    assert what != "ingest" or (done.unchanged, done.documents) == (8, 4)
    await connector.close()
    if what == "restore":
        assert await done.count() == len(documents)
        await done.close()


class Answers(BaseHTTPRequestHandler):
    """As a server without collections does, after a while."""

    def do_GET(self) -> None:
        time.sleep(0.3)
        body = b'{"result": {"collections": []}, "status": "ok", "time": 0.0}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


async def test_a_slow_server_is_waited_for_by_several_threads_and_not_by_the_event_loop(
    tmp_path: Path, encoder: Encoder
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        store = await asyncio.to_thread(open_store, url=f"http://127.0.0.1:{server.server_port}")
        async with await AsyncConnector.create("docs", path=tmp_path, model=encoder) as connector:
            started = time.perf_counter()
            asking = asyncio.gather(*(connector.run(store.names) for _ in range(4)))
            turns = 0
            while not asking.done():
                await asyncio.sleep(0.01)
                turns += 1
            took = time.perf_counter() - started
        store.close()
        server.shutdown()
        serving.join()
    assert await asking == [[]] * 4
    assert turns >= 10
    assert took < 4 * 0.3


def test_a_connector_outlives_the_event_loop_that_made_it(
    tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    made = asyncio.run(AsyncConnector.create("docs", path=tmp_path, model=encoder))
    asyncio.run(made.ingest(documents))  # type: ignore[arg-type]
    assert asyncio.run(made.search(QUERY, k=1))[0].id == "doc 7"  # type: ignore[arg-type]
    asyncio.run(made.close())


async def test_a_batch_goes_on_after_a_time_out(
    where: dict[str, Any], name: str, documents: list[Document], encoder: Encoder
) -> None:
    def slow() -> Iterator[str]:
        for number in range(4):
            time.sleep(0.2)
            yield f"question {number}"

    async with await AsyncConnector.create(name, recipe="compact", model=encoder, **where) as connector:
        await connector.ingest(documents)
        found = connector.search_batch(slow(), 2, batch_size=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(found), 0.01)
        came = [hits async for hits in found]
        assert len(came) == 4
        alone = await connector.search("question 0", 2)
        assert [hit.id for hit in came[0]] == [hit.id for hit in alone]
        with pytest.raises(InputError, match="give a list of texts"):
            connector.search_batch("question")
