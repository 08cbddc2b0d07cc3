"""What belongs to a server's collections and is no point of theirs: artifacts, and the locks of their names.

Each kind stands in one collection for all, with one shard and as many copies as there are nodes, which is
written to and read by majority: with one node of three dead, a codec is still read, and a node that comes
back brings nothing old with it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from connector.core.errors import AccessDenied, StoreError, StoreUnavailable
from connector.core.io import sealed, unsealed
from connector.core.types import point_id
from connector.stores.server.retry import Requests

ARTIFACTS = "connector__artifacts"


LOCKS = "connector__locks"


FORMER = "__artifacts"
"""After a collection's name, that of the one in which version 0.1 first kept its artifacts."""


MAJORITY = models.ReadConsistencyType.MAJORITY


ORDERING = models.WriteOrdering.MEDIUM
"""Through one leader, which is another one when its node is dead; a strong one would be waited for."""


def is_shared(name: str) -> bool:
    """Whether a collection is none of a user's."""
    return name in (ARTIFACTS, LOCKS, "connector__leases") or name.endswith(FORMER)


def make(requests: Requests, name: str, keys: Sequence[str]) -> None:
    """Make a collection without vectors on all nodes, with indexes, unless it is there.

    Args:
        requests: to the server.
        name: the collection.
        keys: of its payload, by which it is filtered.
    """
    client = requests.client
    if not requests(client.collection_exists, name):
        nodes = _nodes(requests)
        spread: dict[str, Any] = {"replication_factor": nodes, "write_consistency_factor": nodes // 2 + 1}
        try:
            requests(client.create_collection, name, vectors_config={}, shard_number=1, **spread)
        except StoreError:
            if not requests(client.collection_exists, name):  # else another one has just made it
                raise
    if requests.indexes:
        for key in set(keys) - set(requests(client.get_collection, name).payload_schema):
            requests(client.create_payload_index, name, key, models.PayloadSchemaType.KEYWORD, wait=True)


def _nodes(requests: Requests) -> int:
    try:
        return len(getattr(requests(requests.client.cluster_status), "peers", ())) or 1
    except AccessDenied:
        return 1
    except StoreUnavailable:  # what is made with one copy keeps one
        raise
    except StoreError:  # there is no cluster
        return 1


class Artifacts:
    """Bytes beside collections.

    Args:
        requests: to the server.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests, self._client = requests, requests.client

    def put(self, collection: str, key: str, data: bytes, mode: models.UpdateMode) -> None:
        """Keep bytes under a key of a collection; whether they replace others is a matter of the mode."""
        make(self._requests, ARTIFACTS, ["collection"])
        text = base64.b64encode(sealed(data)).decode()
        payload = {"collection": collection, "key": key, "data": text}
        point = models.PointStruct(id=_id(collection, key), vector={}, payload=payload)
        self._requests(
            self._client.upsert,
            ARTIFACTS,
            [point],
            wait=True,
            ordering=ORDERING,
            update_mode=mode,
        )

    def get(self, collection: str, key: str) -> bytes:
        """The bytes that were kept.

        Raises:
            StoreError: there are none.
        """
        where = self._requests.location
        for home, id_ in ((ARTIFACTS, _id(collection, key)), (collection + FORMER, point_id(key, 0))):
            if not self._requests(self._client.collection_exists, home):
                continue
            found = self._requests(self._client.retrieve, home, [id_], consistency=MAJORITY)
            if found and found[0].payload:
                data = base64.b64decode(found[0].payload["data"])
                return unsealed(data, f"{key} of {collection!r} at {where}")
        raise StoreError(f"collection {collection!r} at {where} has lost its {key}; restore a backup")

    def drop(self, collection: str, key: str | None = None) -> None:
        """Delete what was kept under a key, or all of a collection's; what is missing does no harm."""
        ours = models.FieldCondition(key="collection", match=models.MatchValue(value=collection))
        which: Any = models.FilterSelector(filter=models.Filter(must=[ours]))
        if key is not None:
            which = models.PointIdsList(points=[_id(collection, key)])
        if self._requests(self._client.collection_exists, ARTIFACTS):
            self._requests(self._client.delete, ARTIFACTS, which, wait=True, ordering=ORDERING)
        if key is None and self._has_former(collection):
            self._requests(self._client.delete_collection, collection + FORMER)

    def _has_former(self, collection: str) -> bool:
        """Whether artifacts are where version 0.1 kept them; another program may have such a name, too."""
        former = collection + FORMER
        if not self._requests(self._client.collection_exists, former):
            return False
        points, _ = self._requests(self._client.scroll, former, limit=1, with_payload=["key", "data"])
        return any({"key", "data"} <= (point.payload or {}).keys() for point in points)


def _id(collection: str, key: str) -> str:
    return point_id(f"{collection}/{key}", 0)
