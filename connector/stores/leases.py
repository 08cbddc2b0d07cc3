"""A key that one process at a time holds on a server, and loses when it stops saying that it lives.

Qdrant has no locks, but inserts and updates that depend on what is there: a key is a point, whose holder
renews it; when it was not renewed for as long as it was promised, another one may take it over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from qdrant_client import QdrantClient, models

from connector.errors import ConnectorError, StoreLocked
from connector.types import point_id

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a key stays taken after its holder was last heard of. Clocks may differ by less than that."""


class ServerLease:
    """A key held on a server.

    Args:
        lost: set when another holder was seen.
        what: names the key and the place, for messages.
    """

    def __init__(self, lost: threading.Event, what: str) -> None:
        self._lost = lost
        self._what = what

    def check(self) -> None:
        """Raises StoreLocked if the lease ran out and another one has taken the key."""
        if self._lost.is_set():
            raise StoreLocked(f"{self._what} was taken over by another process; run the command again")


@contextlib.contextmanager
def hold(
    client: QdrantClient,
    call: Callable[[Callable[[], Any]], Any],
    collection: str,
    key: str,
    location: str,
) -> Iterator[ServerLease]:
    """Hold a key, renewing it in a thread of its own, and release it at the end.

    Args:
        client: the server's.
        call: calls it, and turns its errors into ours.
        collection: where keys are points.
        key: what to hold.
        location: the server, for messages.

    Raises:
        StoreLocked: another process holds it; the message says which, and until when.
    """
    id_, token = point_id(key, 0), uuid.uuid4().hex
    what = f"{key!r} at {location}"

    def read() -> dict[str, Any]:
        found = call(lambda: client.retrieve(collection, [id_]))
        return dict(found[0].payload or {}) if found else {}

    def write(mode: models.UpdateMode, only: models.Filter | None = None) -> None:
        payload = {
            "key": key,
            "token": token,
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
            "until": time.time() + LEASE_SECONDS,
        }
        point = models.PointStruct(id=id_, vector={}, payload=payload)
        call(
            lambda: client.upsert(
                collection,
                [point],
                wait=True,
                ordering=models.WriteOrdering.STRONG,
                update_mode=mode,
                update_filter=only,
            )
        )

    def held_by(name: str) -> models.Filter:
        return models.Filter(must=[models.FieldCondition(key="token", match=models.MatchValue(value=name))])

    write(models.UpdateMode.INSERT_ONLY)
    holder = read()
    if holder.get("token") != token and holder.get("until", 0) < time.time():
        logger.warning("%s was left by %s, which has not been heard of since", what, holder.get("holder"))
        write(models.UpdateMode.UPDATE_ONLY, held_by(str(holder.get("token"))))
        holder = read()
    if holder.get("token") != token:
        left = max(holder.get("until", 0) - time.time(), 0)
        raise StoreLocked(
            f"{what} is held by {holder.get('holder', 'another process')}; wait until it ends, or, if it is "
            f"dead, {left:.0f} s until its lease runs out"
        )
    lost, done = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_SECONDS / 4):
            with contextlib.suppress(ConnectorError):  # the next one may succeed; reading tells if not
                write(models.UpdateMode.UPDATE_ONLY, held_by(token))
                if read().get("token") != token:
                    lost.set()
                    return

    thread = threading.Thread(target=renew, name=f"lease of {key}", daemon=True)
    thread.start()
    try:
        yield ServerLease(lost, what)
    finally:
        done.set()
        thread.join()
        call(
            lambda: client.delete(
                collection,
                models.FilterSelector(
                    filter=models.Filter(
                        must=[
                            models.HasIdCondition(has_id=[id_]),
                            *held_by(token).must,  # type: ignore[misc]
                        ]
                    )
                ),
                wait=True,
            )
        )
