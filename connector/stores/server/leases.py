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

from qdrant_client import models

from connector.core.errors import ConnectorError, StoreLocked
from connector.core.types import point_id
from connector.stores.server.retry import Requests

logger = logging.getLogger(__name__)


LEASE_SECONDS = 60.0
"""How long a key stays taken after its holder was last heard of."""


_TRIES = 3


Ask = Callable[..., Any]
"""`Requests`, or its `once` where a failure is not worth waiting for."""


class ServerLease:
    """A key on a server, as one holder, or would-be holder, sees it.

    Args:
        requests: to the server.
        collection: where keys are points.
        key: what to hold.
    """

    def __init__(self, requests: Requests, collection: str, key: str) -> None:
        self.what = f"{key!r} at {requests.location}"
        self._requests, self._client = requests, requests.client
        self._collection, self._key, self._id = collection, key, point_id(key, 0)
        self._token = uuid.uuid4().hex
        self._timeout = max(int(LEASE_SECONDS / 4), 1)  # seconds; a request that hangs must not eat the lease
        self._heard = _now()
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
            self.renew(self._requests)
        if self._lost:
            raise StoreLocked(f"{self.what} was taken over by another process; run the command again")

    def renew(self, ask: Ask) -> bool:
        """Hold the key for longer; whether it is still ours."""
        with self._mutex:
            if not self._lost:
                asked = _now()
                self._write(ask, {"token": self._token})
                self._lost = not self._is_ours(self._read(ask))
                self._heard = asked
            return not self._lost

    def take(self) -> None:
        """Take the key if it is free, or was left.

        Raises:
            StoreLocked: another process holds it; the message says which, and until when.
        """
        try:
            holder = self._insert()
            if holder and not self._is_ours(holder) and holder.get("until", 0) < time.time():
                watched = LEASE_SECONDS / 3  # longer than a renewal takes, should the holder's clock be wrong
                logger.warning(
                    "%s was left by %s; taking it over unless it is renewed within %.0f s",
                    self.what,
                    holder.get("holder", "another process"),
                    watched,
                )
                time.sleep(watched)
                self._write(self._requests, holder)
                holder = self._insert()
        except BaseException:  # it may be ours already
            with contextlib.suppress(ConnectorError):
                self.release(self._requests.once)
            raise
        if not self._is_ours(holder):
            left = max(holder.get("until", 0) - time.time(), 0)
            raise StoreLocked(
                f"{self.what} is held by {holder.get('holder', 'another process')}; wait until it ends, or, "
                f"if it is dead, {left:.0f} s until its lease runs out"
            )

    def release(self, ask: Ask) -> None:
        """Leave the key to others, if it is ours."""
        mine = models.Filter(must=[models.HasIdCondition(has_id=[self._id]), *_seen({"token": self._token})])
        selector = models.FilterSelector(filter=mine)
        ask(self._client.delete, self._collection, selector, wait=True, timeout=self._timeout)

    def _is_ours(self, holder: Mapping[str, Any]) -> bool:
        return holder.get("token") == self._token

    def _read(self, ask: Ask) -> dict[str, Any]:
        majority = models.ReadConsistencyType.MAJORITY
        found = ask(
            self._client.retrieve, self._collection, [self._id], consistency=majority, timeout=self._timeout
        )
        return dict(found[0].payload or {}) if found else {}

    def _insert(self) -> dict[str, Any]:
        """Take the key if it is free; gives what is there now."""
        for _ in range(_TRIES):
            self._write(self._requests)
            if there := self._read(self._requests):
                return there
        return {}  # released, taken and released by others again and again

    def _write(self, ask: Ask, there: Mapping[str, Any] | None = None) -> None:
        """Take the key if it is free; or take or renew it, if it is still as it was seen there."""
        payload = {
            "key": self._key,
            "token": self._token,
            "mark": uuid.uuid4().hex,
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
        }

        def write() -> Any:  # also a second attempt holds the key from now on
            until = {"until": time.time() + LEASE_SECONDS}
            return self._client.upsert(
                self._collection,
                [models.PointStruct(id=self._id, vector={}, payload=payload | until)],
                wait=True,
                ordering=models.WriteOrdering.MEDIUM,  # a strong one waits for a leader that is dead
                update_mode=models.UpdateMode.UPDATE_ONLY if there else models.UpdateMode.INSERT_ONLY,
                update_filter=models.Filter(must=_seen(there)) if there else None,
                timeout=self._timeout,
            )

        ask(write)


def _seen(there: Mapping[str, Any]) -> list[Any]:
    """Conditions that hold for a point until another holder, or its own, writes it."""
    return [
        models.FieldCondition(key=key, match=models.MatchValue(value=there[key]))
        for key in ("token", "mark")
        if key in there
    ]


def _now() -> tuple[float, float]:
    """Seconds on two clocks: one is set now and then, the other may stand still while a machine sleeps."""
    return time.time(), time.monotonic()


@contextlib.contextmanager
def hold(requests: Requests, collection: str, key: str) -> Iterator[ServerLease]:
    """Hold a key, renewing it in a thread of its own, and release it at the end.

    Args:
        requests, collection, key: as `ServerLease` has them.

    Raises:
        StoreLocked: another process holds it; the message says which, and until when.
    """
    lease, done = ServerLease(requests, collection, key), threading.Event()
    lease.take()

    def renew() -> None:
        while not done.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(ConnectorError):  # the next one may succeed, and a check asks by itself
                if not lease.renew(requests.once):
                    return

    thread = threading.Thread(target=renew, name=f"lease of {key}", daemon=True)
    thread.start()
    ask: Ask = requests.once  # what failed may have failed because the server is gone
    try:
        yield lease
        ask = requests
    finally:
        done.set()
        thread.join()
        try:
            lease.release(ask)
        except ConnectorError as error:  # no reason to call what was done a failure
            logger.warning(
                "%s stays held for %.0f s, as releasing it failed: %s", lease.what, LEASE_SECONDS, error
            )
