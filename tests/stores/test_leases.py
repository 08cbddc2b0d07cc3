"""A key has one holder at a time, and outlives none of them for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connector.core.errors import InputError, StoreLocked
from connector.stores import ServerStore
from connector.stores.server import leases
from connector.stores.server.leases import ServerLease

KEY = "migration of c"
SHORT = 0.6
"""Seconds of a lease that is to run out."""


class Serial:
    """A client that carries out one call at a time, as a shard of a server does."""

    def __init__(self, client: QdrantClient) -> None:
        self.inner = client
        self.mutex = threading.Lock()
        self.updates = True

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.mutex:
                if name == "upsert" and not self.updates:
                    raise RuntimeError("cut off")
                return attribute(*args, **kwargs)

        return call


@pytest.fixture
def client() -> Iterator[Any]:
    opened = QdrantClient(":memory:")
    yield Serial(opened)
    opened.close()


@pytest.fixture
def store(client: Any) -> ServerStore:
    return ServerStore(client, "here")


def held_by(store: ServerStore) -> list[str]:
    """Tokens of the holders of the key."""
    points, _ = store._client.scroll("connector__locks")
    return [str(point.payload["token"]) for point in points if point.payload]


def leave(client: Any) -> ServerLease:
    """A holder that is cut off from the server from now on, and thinks that it still holds the key."""
    apart = Serial(client.inner)
    holding = ServerStore(apart, "here").lease(KEY)
    lease = holding.__enter__()
    apart.updates = False
    assert isinstance(lease, ServerLease)
    lease.holding = holding  # else it is released when it is collected
    return lease


def back(lease: ServerLease) -> None:
    """The server can be reached again."""
    lease._client.updates = True


def test_a_held_key_is_refused_and_its_holder_named(store: ServerStore) -> None:
    with store.lease(KEY) as lease:
        lease.check()
        with (
            pytest.raises(StoreLocked, match=f"{KEY}.*process [0-9]+ on .* 60 s|{KEY}.*59 s"),
            store.lease(KEY),
        ):
            pass
        lease.check()
        with store.lease("another key"):
            pass


def test_a_released_key_can_be_taken(store: ServerStore) -> None:
    for _ in range(3):
        with store.lease(KEY) as lease:
            lease.check()
        assert held_by(store) == []


def test_an_error_in_the_body_releases_the_key(store: ServerStore) -> None:
    with pytest.raises(InputError, match="mine"), store.lease(KEY):
        raise InputError("mine")
    with store.lease(KEY):
        pass


def test_a_refused_holder_does_not_release_the_key(store: ServerStore) -> None:
    with store.lease(KEY):
        for _ in range(2):
            with pytest.raises(StoreLocked), store.lease(KEY):
                pass
        assert len(held_by(store)) == 1


def test_renewals_keep_the_key(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", SHORT)
    with store.lease(KEY) as lease:
        time.sleep(3 * SHORT)
        with pytest.raises(StoreLocked), store.lease(KEY):
            pass
        lease.check()


@pytest.mark.parametrize("takers", [1, 2, 4])
def test_one_of_several_takes_over_a_key_that_was_left(
    store: ServerStore, client: Any, takers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", SHORT)
    left = leave(client)
    time.sleep(1.2 * SHORT)
    took: list[bool] = []
    begin, end = threading.Barrier(takers), threading.Barrier(takers)

    def take() -> None:
        with ExitStack() as stack:
            begin.wait()
            try:
                stack.enter_context(store.lease(KEY)).check()
                took.append(True)
            except StoreLocked:
                took.append(False)
            end.wait()

    threads = [threading.Thread(target=take) for _ in range(takers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(took) == [False] * (takers - 1) + [True]
    back(left)
    with pytest.raises(StoreLocked, match="taken over"):
        left.check()


def test_a_holder_that_was_suspended_learns_at_its_next_check(
    store: ServerStore, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a renewal of its own tells it, and whichever clock stood still in the meantime."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", SHORT)
    left = leave(client)
    time.sleep(1.2 * SHORT)
    with store.lease(KEY):
        monkeypatch.setattr(leases, "LEASE_SECONDS", 60.0)
        back(left)
        for clocks in [(0.0, time.monotonic()), (time.time(), -1000.0)]:
            left._lost, left._heard = False, clocks
            with pytest.raises(StoreLocked, match="taken over"):
                left.check()


def test_a_late_holder_keeps_a_key_that_nobody_took(
    store: ServerStore, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_SECONDS", SHORT)
    left = leave(client)
    time.sleep(1.2 * SHORT)
    back(left)
    left.check()
    with pytest.raises(StoreLocked), store.lease(KEY):
        pass


def test_a_holder_whose_clock_is_behind_keeps_its_key(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its point seems to have run out long ago, but it renews it."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", SHORT)
    write = store._client.inner.upsert

    def behind(collection: str, points: Any, **kwargs: Any) -> Any:
        points[0].payload["until"] -= 1000
        return write(collection, points, **kwargs)

    monkeypatch.setattr(store._client.inner, "upsert", behind)
    with store.lease(KEY) as lease:
        for _ in range(3):
            with pytest.raises(StoreLocked), store.lease(KEY):
                pass
        lease.check()


def test_a_release_that_fails_is_logged_and_no_error(
    store: ServerStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no way")

    with store.lease(KEY):
        monkeypatch.setattr(store._client.inner, "delete", fail)
    assert "stays held for 60 s" in caplog.text
