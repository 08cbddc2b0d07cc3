"""Servers that are not at hand: qdrant-client's in-memory engine, which refuses what they refuse.

What they answer was taken from servers of these versions, and from Qdrant's description of strict mode.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from httpx import Headers
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.local.qdrant_local import QdrantLocal

MOST_INDEXES = 100
"""Of one collection, in strict mode."""


NEEDS: dict[str, tuple[str, ...]] = {
    "range": ("integer", "float"),
    "match": ("keyword", "integer", "bool", "uuid", "text"),
    "geo_bounding_box": ("geo",),
    "geo_radius": ("geo",),
    "geo_polygon": ("geo",),
}
"""Kinds of index that serve a condition; one that is not here is served by any."""


FILTERED = (
    "query_points",
    "query_batch_points",
    "query_points_groups",
    "scroll",
    "count",
    "facet",
    "delete",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "clear_payload",
    "delete_vectors",
    "upsert",
    "update_vectors",
    "batch_update_points",
)


class Double(QdrantLocal):
    """An engine in memory that answers as a server would.

    Args:
        version: of the server.
        strict: whether every new collection is in strict mode, as a managed cluster has it.
        nodes: of the cluster; with one it is none.

    Attributes:
        made: how each collection was created.
        indexes: the payload keys of each collection that have an index, and its kind.
        asked: the methods that were called, and what each was given by name.
        down: a node that does not answer the others.
    """

    def __init__(self, version: str = "1.19.0", strict: bool = False, nodes: int = 1) -> None:
        super().__init__(location=":memory:")
        self.version, self.strict, self.nodes = version, strict, nodes
        self.made: dict[str, dict[str, Any]] = {}
        self.indexes: dict[str, dict[str, str]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.down: int | None = None

    def info(self) -> models.VersionInfo:
        return models.VersionInfo(title="qdrant - vector search engine", version=self.version)

    def cluster_status(self) -> Any:
        if self.nodes == 1:
            return models.ClusterStatusOneOf(status="disabled")
        peers = {str(it): models.PeerInfo(uri=_uri(it)) for it in range(self.nodes)}
        failures = {} if self.down is None else {_uri(self.down): models.MessageSendErrors(count=3)}
        return models.ClusterStatusOneOf1.model_construct(
            status="enabled", peer_id=0, peers=peers, message_send_failures=failures
        )

    def collection_cluster_info(self, collection_name: str) -> models.CollectionClusterInfo:  # noqa: ARG002
        """One shard a node."""
        shards = [
            models.RemoteShardInfo(
                shard_id=number - 1,
                peer_id=number,
                state=models.ReplicaState.DEAD if number == self.down else models.ReplicaState.ACTIVE,
            )
            for number in range(1, self.nodes)
        ]
        return models.CollectionClusterInfo(
            peer_id=0, shard_count=self.nodes, local_shards=[], remote_shards=shards, shard_transfers=[]
        )

    def create_collection(self, collection_name: str, *args: Any, **options: Any) -> bool:
        self._check_types(options.get("vectors_config"))
        done = super().create_collection(collection_name, *args, **options)
        self.made[collection_name], self.indexes[collection_name] = options, {}
        return done

    def create_vector_name(self, collection_name: str, *args: Any, **options: Any) -> Any:
        self._check_types([*args, options])
        return super().create_vector_name(collection_name, *args, **options)

    def create_payload_index(
        self, collection_name: str, field_name: str, field_schema: Any = None, **_: Any
    ) -> Any:
        self.asked.append(("create_payload_index", {"field_name": field_name, "field_schema": field_schema}))
        there = self.indexes[self._physical(collection_name)]
        if self.strict and len(there) >= MOST_INDEXES and field_name not in there:
            raise refusal(f"Payload index limit reached: {MOST_INDEXES}. Help: Remove an index")
        there[field_name] = str(getattr(getattr(field_schema, "type", field_schema), "value", field_schema))
        return self._default_update_result()

    def delete_payload_index(self, collection_name: str, field_name: str, **_: Any) -> Any:
        self.indexes[self._physical(collection_name)].pop(field_name, None)
        return self._default_update_result()

    def get_collection(self, collection_name: str, **options: Any) -> models.CollectionInfo:
        info = super().get_collection(collection_name, **options)
        info.config.strict_mode_config = models.StrictModeConfigOutput(enabled=self.strict)
        info.payload_schema = {
            key: models.PayloadIndexInfo(data_type=models.PayloadSchemaType(kind), points=0)
            for key, kind in self.indexes[self._physical(collection_name)].items()
        }
        return info

    def _physical(self, name: str) -> str:
        return str(self.aliases.get(name, name))

    def _check_types(self, *parts: Any) -> None:
        old = tuple(map(int, self.version.split(".")[:2])) < (1, 19)
        if old and "turbo4" in json.dumps(parts, default=_plain):
            raise refusal("Service internal error: turbo4 datatype storage not yet wired up", 500)

    def _check_filters(self, name: str, *parts: Any) -> None:
        there = {it.replace('"', ""): kind for it, kind in self.indexes.get(self._physical(name), {}).items()}
        for key, needs in filtered(json.loads(json.dumps(parts, default=_plain))):
            kind = there.get(key.replace('"', ""))  # as quoted parts of a path are the same key
            if kind is None or (needs and kind not in needs):
                wanted = ", ".join(needs) or "any"
                raise refusal(
                    f'Bad request: Index required but not found for "{key}" of one of the following types: '
                    f"[{wanted}]. Help: Create an index for this key or use a different filter.",
                )


def _watched(method: str) -> Any:
    plain = getattr(QdrantLocal, method)

    @functools.wraps(plain)
    def call(self: Double, collection_name: str, *args: Any, **options: Any) -> Any:
        self.asked.append((method, options))
        if self.strict:
            self._check_filters(collection_name, args, options)
        return plain(self, collection_name, *args, **options)

    return call


for _method in (*FILTERED, "retrieve"):
    setattr(Double, _method, _watched(_method))


def double(version: str = "1.19.0", strict: bool = False, nodes: int = 1) -> QdrantClient:
    """A client of such a server; its `_client` is the `Double`."""
    client = QdrantClient(":memory:")
    client._client.close()
    client._client = Double(version, strict, nodes)
    return client


def engine(client: QdrantClient) -> Double:
    """What answers this client."""
    assert isinstance(client._client, Double)
    return client._client


def _uri(node: int) -> str:
    return f"http://node-{node}:6335/"


def refusal(reason: str, status: int = 400) -> UnexpectedResponse:
    """What a client raises for this answer."""
    content = json.dumps({"status": {"error": reason}, "time": 0.0}).encode()
    return UnexpectedResponse(status, "Bad Request", content, Headers())


def filtered(node: Any, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """The payload keys that filters in a request look at, and the kinds of index that would serve each."""
    if isinstance(node, list):
        for item in node:
            yield from filtered(item, prefix)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("key"), str) and any(it in node for it in (*NEEDS, "is_empty", "values_count")):
        given = next((it for it in NEEDS if node.get(it) is not None), None)
        yield prefix + node["key"], _needs(given, node)
        return
    if isinstance(nested := node.get("nested"), dict):
        yield from filtered(nested["filter"], f"{prefix}{nested['key']}[].")
        return
    for key, value in node.items():
        if key in ("is_empty", "is_null") and isinstance(value, dict):
            yield prefix + value["key"], ()
        elif key not in ("payload", "vector", "vectors"):
            yield from filtered(value, prefix)


def _needs(given: str | None, node: dict[str, Any]) -> tuple[str, ...]:
    if given == "range" and any(isinstance(it, str) for it in node["range"].values()):
        return ("datetime",)
    if given == "match":
        match node["match"]:
            case {"value": bool()}:
                return ("bool",)
            case {"value": int()} | {"any": [int(), *_]} | {"except": [int(), *_]}:
                return ("integer",)
            case {"text": _} | {"text_any": _} | {"phrase": _}:
                return ("text",)
            case _:
                return ("keyword", "uuid")
    return () if given is None else NEEDS[given]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return str(value)
