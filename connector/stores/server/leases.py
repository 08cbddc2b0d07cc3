"""A key that one process at a time holds on a server, and loses when it stops saying that it lives.

Qdrant has no locks, but inserts and updates that depend on what is there: a key is a point, whose holder
renews it; when it was not renewed for as long as it was promised, another one may take it over. Each renewal
leaves another mark, and a key is taken over only with the mark that was seen when it had run out, so of two
takers one wins, and none wins against a holder that was merely late.

What a lease cannot do is stop a holder that is suspended between a check and what it does next. Check before
every write, and make writes that do no harm when they come late.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qdrant_client import QdrantClient, models

from connector.core.errors import ConnectorError, StoreLocked
from connector.core.ids import point_id

logger = logging.getLogger(__name__)


LEASE_SECONDS = 60.0
"""How long a key stays taken after its holder was last heard of."""


_TRIES = 3


Call = Callable[[Callable[[], Any]], Any]
"""Calls the client, and turns its errors into ours."""


class _Key:
    """The point of a key, as one would-be holder sees it."""

    def __init__(self, client: QdrantClient, collection: str, key: str) -> None:
        self.token = uuid.uuid4().hex
        self._client = client
        self._collection = collection
        self._key = key
        self._id = point_id(key, 0)
        self._timeout = max(int(LEASE_SECONDS / 4), 1)  # seconds; a request that hangs must not eat the lease

    def read(self, call: Call) -> dict[str, Any]:
        found = call(
            lambda: self._client.retrieve(
                self._collection,
                [self._id],
                consistency=models.ReadConsistencyType.MAJORITY,
                timeout=self._timeout,
            )
        )
        return dict(found[0].payload or {}) if found else {}

    def insert(self, call: Call) -> dict[str, Any]:
        """Take the key if it is free; gives what is there now."""
        for _ in range(_TRIES):
            self._write(call, models.UpdateMode.INSERT_ONLY)
            if there := self.read(call):
                return there
        return {}  # released, taken and released by others again and again

    def update(self, call: Call, there: Mapping[str, Any]) -> None:
        """Take or renew the key if it is as it was seen."""
        self._write(call, models.UpdateMode.UPDATE_ONLY, models.Filter(must=_seen(there)))

    def delete(self, call: Call) -> None:
        """Release the key if it is ours."""
        mine = models.Filter(must=[models.HasIdCondition(has_id=[self._id]), *_seen({"token": self.token})])
        selector = models.FilterSelector(filter=mine)
        call(lambda: self._client.delete(self._collection, selector, wait=True, timeout=self._timeout))

    def _write(self, call: Call, mode: models.UpdateMode, only: models.Filter | None = None) -> None:
        payload = {
            "key": self._key,
            "token": self.token,
            "mark": uuid.uuid4().hex,
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
        }

        def write() -> Any:  # also a second attempt holds the key from now on
            until = {"until": time.time() + LEASE_SECONDS}
            return self._client.upsert(
                self._collection,
                [models.PointStruct(id=self._id, vector={}, payload=payload | until)],
                wait=True,
                ordering=models.WriteOrdering.STRONG,
                update_mode=mode,
                update_filter=only,
                timeout=self._timeout,
            )

        call(write)


def _seen(there: Mapping[str, Any]) -> list[Any]:
    """Conditions that hold for a point until another holder, or its own, writes it."""
    return [
        models.FieldCondition(key=key, match=models.MatchValue(value=there[key]))
        for key in ("token", "mark")
        if key in there
    ]


class ServerLease:
    """A key held on a server.

    Args:
        key: the key, taken.
        call: calls the server.
        what: names the key and the place, for messages.
        asked: when its taking was asked for, as `_now` says.
    """

    def __init__(self, key: _Key, call: Call, what: str, asked: tuple[float, float]) -> None:
        self._key = key
        self._call = call
        self._what = what
        self._heard = asked
        self._lost = False
        self._mutex = threading.Lock()

    def check(self) -> None:
        """Raises StoreLocked if the lease ran out and another one has taken the key.

        The server is asked when renewals are overdue, as after the process was suspended.

        Raises:
            StoreLocked: another one has taken it.
            StoreError: renewals are overdue, and the server does not answer.
        """
        if max(now - then for now, then in zip(_now(), self._heard, strict=True)) > LEASE_SECONDS / 2:
            self.renew(self._call)
        if self._lost:
            raise StoreLocked(f"{self._what} was taken over by another process; run the command again")

    def renew(self, call: Call) -> bool:
        """Hold the key for longer; whether it is still ours."""
        with self._mutex:
            if not self._lost:
                asked = _now()
                self._key.update(call, {"token": self._key.token})
                self._lost = self._key.read(call).get("token") != self._key.token
                self._heard = asked
            return not self._lost


def _now() -> tuple[float, float]:
    """Seconds on two clocks: one is set now and then, the other may stand still while a machine sleeps."""
    return time.time(), time.monotonic()


@contextlib.contextmanager
def hold(
    client: QdrantClient, call: Call, once: Call, collection: str, key: str, location: str
) -> Iterator[ServerLease]:
    """Hold a key, renewing it in a thread of its own, and release it at the end.

    Args:
        client: the server's.
        call: calls it, again while its failures may pass.
        once: calls it once.
        collection: where keys are points.
        key: what to hold.
        location: the server, for messages.

    Raises:
        StoreLocked: another process holds it; the message says which, and until when.
    """
    point, what, asked = _Key(client, collection, key), f"{key!r} at {location}", _now()
    _take(point, call, once, what)
    lease, done = ServerLease(point, call, what, asked), threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(ConnectorError):  # the next one may succeed, and a check asks by itself
                if not lease.renew(once):
                    return

    thread = threading.Thread(target=renew, name=f"lease of {key}", daemon=True)
    thread.start()
    how = once  # what failed may have failed because the server is gone
    try:
        yield lease
        how = call
    finally:
        done.set()
        thread.join()
        try:
            point.delete(how)
        except ConnectorError as error:  # no reason to call what was done a failure
            logger.warning("%s stays held for %.0f s, as releasing it failed: %s", what, LEASE_SECONDS, error)


def _take(point: _Key, call: Call, once: Call, what: str) -> None:
    try:
        holder = point.insert(call)
        if holder and holder.get("token") != point.token and holder.get("until", 0) < time.time():
            watched = LEASE_SECONDS / 3  # longer than a renewal takes, should the holder's clock be wrong
            logger.warning(
                "%s was left by %s; taking it over unless it is renewed within %.0f s",
                what,
                holder.get("holder", "another process"),
                watched,
            )
            time.sleep(watched)
            point.update(call, holder)
            holder = point.insert(call)
    except BaseException:  # it may be ours already
        with contextlib.suppress(ConnectorError):
            point.delete(once)
        raise
    if holder.get("token") != point.token:
        left = max(holder.get("until", 0) - time.time(), 0)
        raise StoreLocked(
            f"{what} is held by {holder.get('holder', 'another process')}; wait until it ends, or, if it is "
            f"dead, {left:.0f} s until its lease runs out"
        )
