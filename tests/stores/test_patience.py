"""How long a server is waited for: a search is given up in time, an ingest is not; and what it then says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from qdrant_client import QdrantClient

from connector import Connector, Document, Encoder, open_store
from connector.core.deadline import asking, seconds_left, within
from connector.core.errors import AccessDenied, InputError, StoreError, StoreUnavailable
from connector.stores.server.credentials import Secrets
from connector.stores.server.retry import Requests, bounded, failure_of
from tests.server.doubles import double, engine, refusal


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_requests_share_the_seconds_of_a_search(silent: str) -> None:
    client = QdrantClient(url=silent, check_compatibility=False, event_hooks={"request": [bounded]})
    requests = Requests(client, silent)
    begun = time.monotonic()
    with within(0.3):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=f"no Qdrant server answers at {silent}"):
                requests(client.get_collections)
        assert seconds_left() == 0.0
    assert time.monotonic() - begun < 30  # where each try waits for 60 s, and there are eight
    assert seconds_left() is None
    client.close()


def test_only_what_is_asked_counts() -> None:
    with within(5.0):
        time.sleep(0.05)
        assert seconds_left() == 5.0
        with asking():
            time.sleep(0.05)
            left = seconds_left()
        assert left is not None
        assert left < 5.0
        assert seconds_left() == pytest.approx(left, abs=0.05)


def test_other_threads_have_seconds_of_their_own() -> None:
    seen: list[float | None] = []
    with within(1.0):
        thread = threading.Thread(target=lambda: seen.append(seconds_left()))
        thread.start()
        thread.join()
    assert seen == [None]


@pytest.mark.parametrize("timeout", [0, -1, "soon", float("nan")])
def test_a_timeout_that_is_none_is_refused(encoder: Encoder, timeout: object) -> None:
    with Connector.create("c", client=QdrantClient(":memory:"), recipe="dense", model=encoder) as connector:
        connector.ingest([Document(id="1", text="one")])
        assert connector.search("one", timeout=1)
        assert connector.search("one", timeout=None)
        with pytest.raises(InputError, match="timeout"):
            connector.search("one", timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "reason", "passes"),
    [
        (500, "Service internal error: turbo4 datatype storage not yet wired up", False),
        (500, "Service internal error: task 17 panicked", False),
        (501, "Not Implemented", False),
        (500, "Service internal error: 1 of 3 shards failed", True),
        (503, "Service Unavailable", True),
    ],
)
def test_an_answer_that_will_not_change_is_not_asked_for_again(
    status: int, reason: str, passes: bool
) -> None:
    assert failure_of(refusal(reason, status)).passes is passes


def test_a_right_that_is_missing_is_named() -> None:
    answer = failure_of(refusal("Forbidden: Access to collection docs is required", 403))
    error = answer.error("http://there", Secrets([]), 1)
    assert isinstance(error, StoreUnavailable)
    assert "lacks a right at http://there: 403" in str(error)
    assert "collection docs" in str(error)
    assert "refuses the API key" not in str(error)


def test_short_keys_do_not_eat_letters() -> None:
    secrets = Secrets(["ro", "read-only-key", "pass"])
    assert secrets.hide("error: read-only-key") == "error: ***"
    assert secrets.hide("ro passes, pass does not") == "ro passes, *** does not"


@pytest.mark.parametrize("around", ["a:\\n{}", "k=%20{}", "api_key_{}", "{}x", '"{}"'])
def test_long_keys_are_hidden_wherever_they_stand(around: str) -> None:
    secrets = Secrets(["SECRETKEY123", "pass"])
    assert secrets.hide(around.format("SECRETKEY123")) == around.format("***")
    assert secrets.hide("a:\\npass") == "a:\\n***"


def test_a_key_that_lacks_a_right_is_told_which_it_needs() -> None:
    error = failure_of(refusal("Forbidden: Global manage access is required", 403)).error(
        "http://there", Secrets([]), 1
    )
    assert isinstance(error, AccessDenied)
    assert "Global manage access is required" in str(error)
    assert "to write, to manage the server" in str(error)


def test_a_version_that_does_not_come_in_time_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = double("1.18.2")
    answers = iter([refusal("Timeout", 504)])
    plain = engine(client).info

    def info() -> object:
        for error in answers:
            raise error
        return plain()

    monkeypatch.setattr(engine(client), "info", info)
    assert open_store(client=client).capabilities.turbo is False


def test_a_search_that_fails_names_the_nodes_that_do_not_answer(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = double(nodes=3)
    there = engine(client)

    def silent(*_: object, **__: object) -> None:
        raise refusal("Service internal error: 1 of 1 read operations failed: Timeout expired", 504)

    with Connector.create("docs", client=client, recipe="dense", model=encoder) as connector:
        connector.ingest([Document(id="1", text="one")])
        monkeypatch.setattr(there, "query_batch_points", silent)
        with pytest.raises(StoreError, match=r"Timeout expired[^;]*$"):
            connector.search("one", timeout=0.1)  # and nothing is wrong with the nodes
        there.down = 2
        named = "node http://node-2:6335/ is not reached; shard 1 on node http://node-2:6335/ is dead"
        with pytest.raises(StoreError, match=named):
            connector.search("one", timeout=0.1)
