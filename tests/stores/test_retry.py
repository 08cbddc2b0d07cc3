"""Lost requests, lost answers, busy servers, refused points: in the end everything is there, once."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from httpx import Headers
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from connector import Connector, Document, Encoder
from connector.core.errors import CollectionExists, PointsRefused, StoreError, StoreUnavailable
from connector.core.types import point_id
from connector.stores import EdgeStore, Point, ServerStore, Store, open_store
from connector.stores.edge import store as edge_module
from connector.stores.schema import CollectionSchema, VectorSchema
from connector.stores.server import retry as retry_module
from connector.stores.server import store as server_module

WIDTH, TOKEN_WIDTH = 8, 16
SCHEMA = CollectionSchema(
    (
        VectorSchema("cls", WIDTH, "float32"),
        VectorSchema("tokens", TOKEN_WIDTH, "float32", multivector=True),
    )
)


def points(count: int, seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)

    def some(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return [
        Point(
            point_id(str(number), 0),
            {"cls": some(WIDTH), "tokens": some(1 + number % 3, TOKEN_WIDTH)},
            {"n": number},
        )
        for number in range(count)
    ]


def contents(store: Store, name: str = "c") -> dict[str, Any]:
    """Payload and vectors of every point; a point that is given twice is an error."""
    found = list(store.scroll(name, PAYLOAD, ["cls", "tokens"]))
    assert len({record.id for record in found}) == len(found) == store.count(name)
    return {
        record.id: (record.payload, {key: vector.tobytes() for key, vector in record.vectors.items()})
        for record in found
    }


PAYLOAD = ["n", "note", "id", "passage", "text", "metadata", "hash", "passages", "rows", "codes"]

# Faults


class RpcError(grpc.RpcError):
    """As gRPC raises them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._code = grpc.StatusCode[name]

    def code(self) -> Any:
        return self._code

    def details(self) -> str:
        return f"says {self._code.name}"


def answer(status: int, text: str = "try again") -> UnexpectedResponse:
    return UnexpectedResponse(status, "", text.encode(), Headers())


def silence(error: Exception | None = None) -> ResponseHandlingException:
    return ResponseHandlingException(error or httpx.ReadTimeout("timed out"))


PASSING: dict[str, Callable[[], Exception]] = {
    "time-out": silence,
    "refused connection": lambda: silence(httpx.ConnectError("Connection refused")),
    "429 that says when": lambda: ResourceExhaustedResponse("slow down", 0),
    "429 that says when as a date": lambda: QdrantException("Retry-After header value is not …"),
    **{str(status): lambda status=status: answer(status) for status in (408, 429, 500, 502, 503, 504)},
    **{
        name: lambda name=name: RpcError(name)
        for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL")
    },
}
LASTING: dict[str, Callable[[], Exception]] = {
    **{str(status): lambda status=status: answer(status) for status in (400, 401, 403, 404, 409, 413, 422)},
    **{
        name: lambda name=name: RpcError(name)
        for name in ("INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND")
    },
    "an answer of something else": lambda: silence(ValueError("no JSON")),
    "the client's own check": lambda: ValueError("unusable"),
}


class Faulty:
    """A client that carries out one call at a time, and whose calls fail as they are told to.

    Args:
        client: what carries them out.
        plan: given a method's name, what to raise before it is carried out and what after.
    """

    def __init__(
        self, client: QdrantClient, plan: Callable[[str], tuple[Exception | None, Exception | None]]
    ) -> None:
        self.wrapped = client
        self.plan = plan
        self.calls: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.mutex = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.wrapped, name)
        if name.startswith("_") or name == "close" or not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.mutex:
                self.calls[name] += 1
                before, after = self.plan(name)
                if before is not None:
                    self.faults["before"] += 1
                    raise before
                result = attribute(*args, **kwargs)
                if after is not None:
                    self.faults["after"] += 1
                    raise after
                return result

        return call


def by_chance(seed: int, rate: float = 0.4) -> Callable[[str], tuple[Exception | None, Exception | None]]:
    """Any fault that passes, before or after."""
    chance = random.Random(seed)

    def plan(_: str) -> tuple[Exception | None, Exception | None]:
        if chance.random() >= rate:
            return None, None
        fault = PASSING[chance.choice(list(PASSING))]()
        return (fault, None) if chance.random() < 0.5 else (None, fault)

    return plan


def once(
    method: str, before: Exception | None = None, after: Exception | None = None
) -> Callable[[str], tuple[Exception | None, Exception | None]]:
    """One fault, at the first call of a method."""
    waiting = [(before, after)]
    return lambda name: waiting.pop() if name == method and waiting else (None, None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and more attempts than any run of bad luck."""
    monkeypatch.setattr(retry_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retry_module, "ATTEMPTS", 40)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    opened = QdrantClient(":memory:")
    yield opened
    opened.close()


def store_of(client: Any) -> ServerStore:
    return ServerStore(client, "http://qdrant.test:6333")


SEEDS = [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 60))]


def use(store: Store) -> dict[str, Any]:
    """Everything that writes, and what is there at the end."""
    written = points(30)
    store.create("c", SCHEMA, {"uid": "mine", "format": "1"})
    store.upsert("c", written)
    store.set_info("c", {"codec": "a"})
    store.put_artifact("c", "key", b"old")
    store.put_artifact("c", "key", b"new")
    store.delete("c", [point.id for point in written[20:]])
    store.amend("c", [replace(it, payload={"note": "amended"}) for it in points(25, seed=1)[10:]])
    store.create("d", SCHEMA, {"uid": "other"})
    store.switch("alias", "c")
    store.switch("alias", "d")
    store.upsert("alias", written[:3])
    store.switch("gone", "c")
    store.switch("gone", None)
    store.create("e", SCHEMA, {"uid": "third"})
    store.drop("e")
    with store.lease("key") as lease:
        lease.check()
    with store.lease("key"):
        pass
    return {
        "names": store.names(),
        "aliases": store.aliases(),
        "info": store.info("c"),
        "artifact": store.get_artifact("c", "key"),
        "claimed": store.claim_artifact("d", "codec", b"first"),
        "claimed again": store.claim_artifact("d", "codec", b"second"),
        "c": contents(store),
        "d": contents(store, "alias"),
    }


# Retries


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_over_faults_ends_as_one_without(client: QdrantClient, seed: int) -> None:
    undisturbed = QdrantClient(":memory:")
    faulty = Faulty(client, by_chance(seed))
    found = use(store_of(faulty))
    assert faulty.faults["before"] > 5
    assert faulty.faults["after"] > 5
    assert found == use(store_of(undisturbed))
    undisturbed.close()


def documents(count: int = 40) -> list[Document]:
    chance = random.Random(0)
    words = ["otter", "river", "compiler", "bread", "moon", "table", "violin", "flower", "lake", "under"]
    return [
        Document(
            id=f"doc {n}", text=" ".join(chance.choices(words, k=chance.randint(4, 30))), metadata={"n": n}
        )
        for n in range(count)
    ]


def ingested(client: Any, encoder: Encoder) -> dict[str, Any]:
    """What is there when documents were written, and a third of them changed and written again."""
    changed = [replace(it, text=it.text + " again") if n % 3 == 0 else it for n, it in enumerate(documents())]
    with Connector.create("c", client=client, recipe="compact", model=encoder) as connector:
        for given in (documents(), changed):
            connector.ingest(given, chunk_tokens=12)
        report = connector.ingest(changed, chunk_tokens=12)
        assert (report.unchanged, report.documents) == (len(changed), 0)
        return contents(connector.collection.store)


@pytest.fixture(scope="module")
def undisturbed(encoder: Encoder) -> dict[str, Any]:
    client = QdrantClient(":memory:")
    found = ingested(client, encoder)
    client.close()
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 20))])
def test_documents_ingested_over_faults_are_those_without(
    client: QdrantClient, seed: int, encoder: Encoder, undisturbed: dict[str, Any]
) -> None:
    faulty = Faulty(client, by_chance(seed))
    assert ingested(faulty, encoder) == undisturbed
    assert faulty.faults["after"] > 5
    assert {payload["id"] for payload, _ in undisturbed.values()} == {it.id for it in documents()}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_failure_that_passes_is_tried_again_and_logged_once(
    client: QdrantClient, fault: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    faults = [fault() for _ in range(5)]
    store = store_of(Faulty(client, lambda _: (faults.pop() if faults else None, None)))
    assert store.names() == []
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("connector.stores.server.retry", logging.WARNING)
    assert "http://qdrant.test:6333" in record.getMessage()


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_attempts_are_bounded_and_the_last_answer_is_told(
    client: QdrantClient, fault: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retry_module, "ATTEMPTS", 4)
    faulty = Faulty(client, lambda _: (fault(), None))
    with pytest.raises(StoreError, match=r"http://qdrant\.test:6333.*4 attempts") as caught:
        store_of(faulty).names()
    assert faulty.calls["get_collections"] == 4
    said = fault()
    silent = isinstance(said, ResponseHandlingException) or (
        isinstance(said, RpcError) and said.code().name not in ("RESOURCE_EXHAUSTED", "INTERNAL")
    )
    assert isinstance(caught.value, StoreUnavailable) == silent
    text = said.details() if isinstance(said, RpcError) else getattr(said, "content", str(said).encode())
    assert (text if isinstance(text, str) else text.decode()) in str(caught.value)


def test_a_server_that_keeps_failing_is_not_asked_what_it_holds_at_length(
    client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_module, "FIRST_PAUSE", 0.0)
    faulty = Faulty(client, lambda _: (answer(503, "no backend"), None))
    with pytest.raises(StoreError, match=f"no backend.*{retry_module.ATTEMPTS} attempts"):
        store_of(faulty).count("c")
    assert faulty.calls == {"count": retry_module.ATTEMPTS, "collection_exists": 1}


@pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING)
def test_a_failure_that_lasts_is_not_tried_again(
    client: QdrantClient, fault: Callable[[], Exception]
) -> None:
    faulty = Faulty(client, lambda _: (fault(), None))
    with pytest.raises(StoreError) as caught:
        store_of(faulty).names()
    assert faulty.calls["get_collections"] == 1
    assert "attempts" not in str(caught.value)


def test_a_server_that_says_when_to_come_again_is_waited_for(client: QdrantClient) -> None:
    plan = once("get_collections", before=ResourceExhaustedResponse("slow down", 1))
    started = time.perf_counter()
    store_of(Faulty(client, plan)).names()
    assert 1 <= time.perf_counter() - started < 2.5


def test_nothing_is_waited_for_that_comes_too_late(client: QdrantClient) -> None:
    faulty = Faulty(client, lambda _: (ResourceExhaustedResponse("come tomorrow", 86400), None))
    started = time.perf_counter()
    with pytest.raises(StoreError, match="come tomorrow"):
        store_of(faulty).names()
    assert faulty.calls["get_collections"] == 1
    assert time.perf_counter() - started < 1


@pytest.mark.usefixtures("quick")
def test_a_collection_whose_acknowledgement_was_lost_is_ones_own(client: QdrantClient) -> None:
    store = store_of(Faulty(client, once("create_collection", after=silence())))
    store.create("c", SCHEMA, {"uid": "mine"})
    assert store.info("c") == {"uid": "mine"}
    with pytest.raises(CollectionExists):
        store.create("c", SCHEMA, {"uid": "mine"})


@pytest.mark.usefixtures("quick")
def test_a_collection_that_another_one_made_meanwhile_is_not_ones_own(client: QdrantClient) -> None:
    def plan(name: str) -> tuple[Exception | None, Exception | None]:
        if name != "create_collection" or client.collection_exists("c"):
            return None, None
        store_of(client).create("c", SCHEMA, {"uid": "another's"})
        return silence(), None

    with pytest.raises(CollectionExists):
        store_of(Faulty(client, plan)).create("c", SCHEMA, {"uid": "mine"})
    assert store_of(client).info("c") == {"uid": "another's"}


def test_what_a_collection_says_of_itself_is_one_request(client: QdrantClient) -> None:
    faulty = Faulty(client, lambda _: (None, None))
    store = store_of(faulty)
    store.create("c", SCHEMA, {"uid": "mine"})
    store.switch("alias", "c")
    faulty.calls.clear()
    assert store.info("c") == store.info("alias") == {"uid": "mine"}
    assert faulty.calls == {"get_collection": 2}


# Refusals


BAD = "the server will not take this"


class Picky:
    """A client that refuses requests with too many points, and some points always.

    Args:
        client: what carries requests out.
        most: points of a request.
        bad: points that it never takes, by id.
        status: what it answers to those.
    """

    def __init__(self, client: QdrantClient, most: int, bad: Sequence[str] = (), status: int = 400) -> None:
        self.wrapped = client
        self.most, self.bad, self.status = most, set(bad), status
        self.taken: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def upsert(self, name: str, rows: Sequence[Any], **kwargs: Any) -> Any:
        if len(rows) > self.most:
            raise answer(413, "Payload too large")
        if self.bad & {row.id for row in rows}:
            raise answer(self.status, BAD)
        self.taken += [row.id for row in rows]
        return self.wrapped.upsert(name, rows, **kwargs)


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("bad", [[], [0], [39], [3, 4, 5, 17, 38]], ids=str)
def test_refused_points_are_named_and_the_others_written_in_order(
    client: QdrantClient, most: int, status: int, bad: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_REQUEST_BYTES", 20_000)
    written = points(40)
    picky = Picky(client, most, [written[number].id for number in bad], status)
    store = store_of(picky)
    store.create("c", SCHEMA, {})
    if bad:
        with pytest.raises(PointsRefused) as caught:
            store.upsert("c", written)
        assert caught.value.reasons.keys() == picky.bad
        assert all(BAD in reason and str(status) in reason for reason in caught.value.reasons.values())
    else:
        store.upsert("c", written)
    assert picky.taken == [point.id for number, point in enumerate(written) if number not in bad]
    assert contents(store).keys() == set(picky.taken)


def test_when_all_of_several_points_are_refused_it_is_no_fault_of_theirs(client: QdrantClient) -> None:
    written = points(8)
    store = store_of(Picky(client, 100, [point.id for point in written]))
    store.create("c", SCHEMA, {})
    with pytest.raises(StoreError, match=BAD) as caught:
        store.upsert("c", written)
    assert type(caught.value) is StoreError
    with pytest.raises(PointsRefused, match=BAD) as one:
        store.upsert("c", written[:1])
    assert list(one.value.reasons) == [written[0].id]


def unusable(point: Point, how: str) -> Point:
    vectors = dict(point.vectors)
    if how == "width of a vector":
        vectors["cls"] = np.ones(WIDTH + 1, np.float32)
    elif how == "width of rows":
        vectors["tokens"] = np.ones((2, TOKEN_WIDTH + 1), np.float32)
    elif how == "no rows":
        vectors["tokens"] = np.ones((0, TOKEN_WIDTH), np.float32)
    elif how == "unknown vector":
        vectors["unknown"] = np.ones(3, np.float32)
    elif how == "payload":
        return replace(point, payload={"n": object()})
    elif how == "id":
        return replace(point, id="no UUID")
    return replace(point, vectors=vectors)


HOW = ["width of a vector", "width of rows", "no rows", "unknown vector", "payload", "id"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_engines_refuse_points_that_do_not_fit_and_leave_no_trace_of_them(
    place: dict[str, Any], name: str, how: str, there: bool
) -> None:
    """Neither now nor after another opening, which reads the end of an embedded engine's log again."""
    store = open_store(**place)
    store.create(name, SCHEMA, {})
    old = points(12)
    store.upsert(name, old[:1] + ([*old[5:7], old[11]] if there else []))
    new = points(12, seed=1)
    sent = [unusable(it, how) if number in (5, 6, 11) else it for number, it in enumerate(new)]
    with pytest.raises(PointsRefused) as caught:
        store.upsert(name, sent)
    assert caught.value.reasons.keys() == {sent[number].id for number in (5, 6, 11)}
    kept = [old[5], old[6], old[11]] if there else []
    expected = {it.id: it for number, it in enumerate(new) if number not in (5, 6, 11)}
    expected |= {it.id: it for it in kept}
    for _ in range(2):
        found = contents(store, name)
        assert found.keys() == expected.keys()
        for id_, (payload, vectors) in found.items():
            assert payload == expected[id_].payload
            assert vectors["cls"] == np.asarray(expected[id_].vectors["cls"]).tobytes()
            assert vectors["tokens"] == np.asarray(expected[id_].vectors["tokens"]).tobytes()
        store.close()
        store = open_store(**place)
    store.upsert(name, new)
    assert store.count(name) == 12
    store.drop(name)
    store.close()


# Edge


class Shard:
    """A shard whose updates fail as they are told to.

    Args:
        shard: what carries them out.
        plan: what to raise before an update is carried out, and what after; forgotten when raised.
    """

    def __init__(self, shard: Any, plan: list[tuple[Exception | None, Exception | None]]) -> None:
        self.wrapped, self.plan = shard, plan

    def __call__(self, call: Callable[[Any], Any]) -> Any:
        return self.wrapped(lambda engine: call(Engine(engine, self.plan)))


class Engine(Shard):
    """The engine's shard in it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def update(self, operation: Any) -> None:
        before, after = self.plan.pop() if self.plan else (None, None)
        if before is not None:
            raise before
        self.wrapped.update(operation)
        if after is not None:
            raise after


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("plan", [(FULL, None), (None, FULL)], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, 5, 1000])
def test_what_an_embedded_engine_fails_to_write_is_written_by_the_next_try(
    tmp_path: Path, plan: Any, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(path=tmp_path / "qdrant")
    assert isinstance(store, EdgeStore)
    store.create("c", SCHEMA, {})
    plans, open_shard = [plan] * times, edge_module.EdgeStore._shard
    monkeypatch.setattr(EdgeStore, "_shard", lambda self, name: Shard(open_shard(self, name), plans))
    if times == 1:  # the halves are taken
        store.upsert("c", points(20))
    elif times == 5:  # 20, 10, 5, 2 and 1 points
        with pytest.raises(PointsRefused) as caught:
            store.upsert("c", points(20))
        assert list(caught.value.reasons) == [points(20)[0].id]
    else:
        with pytest.raises(StoreError, match="No space left") as failed:
            store.upsert("c", points(20))
        assert type(failed.value) is StoreError
    plans.clear()
    store.upsert("c", points(20))
    before = contents(store)
    assert before.keys() == {point.id for point in points(20)}
    store.close()
    store = open_store(path=tmp_path / "qdrant")
    assert contents(store) == before
    store.close()
