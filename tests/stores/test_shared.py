"""Artifacts and locks: on every node of a cluster, in one collection each, beside what is there already."""

from __future__ import annotations

import base64

import pytest
from qdrant_client import QdrantClient, models

from connector.core.errors import StoreError
from connector.core.io import sealed
from connector.core.types import point_id
from connector.stores import open_store
from connector.stores.schema import CollectionSchema, VectorSchema
from tests.server.doubles import Double, double

SCHEMA = CollectionSchema((VectorSchema("cls", 4, "float32"),))


def engine(client: QdrantClient) -> Double:
    assert isinstance(client._client, Double)
    return client._client


@pytest.mark.parametrize(("nodes", "majority"), [(1, 1), (3, 2), (5, 3)])
def test_artifacts_and_locks_are_on_every_node(nodes: int, majority: int) -> None:
    client = double(nodes=nodes)
    store = open_store(client=client)
    store.create("a", SCHEMA, {})
    store.put_artifact("a", "codec", b"codec")
    with store.lease("a"):
        pass
    for name in ("connector__artifacts", "connector__locks"):
        made = engine(client).made[name]
        assert made["shard_number"] == 1
        assert made["replication_factor"] == nodes
        assert made["write_consistency_factor"] == majority
    assert store.names() == ["a"]


def test_a_collection_is_one_collection_and_drops_its_own_artifacts_alone() -> None:
    client = double(strict=True)
    store = open_store(client=client)
    for name in ("a", "b"):
        store.create(name, SCHEMA, {})
        store.put_artifact(name, "codec", name.encode())
    assert {it.name for it in client.get_collections().collections} == {"a", "b", "connector__artifacts"}
    store.drop("a")
    assert store.get_artifact("b", "codec") == b"b"
    store.create("a", SCHEMA, {})
    with pytest.raises(StoreError, match="has lost its codec"):
        store.get_artifact("a", "codec")


def test_artifacts_of_an_earlier_version_are_read_as_they_are() -> None:
    client = double()
    store = open_store(client=client)
    store.create("a", SCHEMA, {})
    client.create_collection("a__artifacts", vectors_config={})
    payload = {"key": "codec", "data": base64.b64encode(sealed(b"former")).decode()}
    point = models.PointStruct(id=point_id("codec", 0), vector={}, payload=payload)
    client.upsert("a__artifacts", [point])
    assert store.names() == ["a"]
    assert store.get_artifact("a", "codec") == b"former"
    store.put_artifact("a", "codec", b"new")
    assert store.get_artifact("a", "codec") == b"new"
    store.drop("a")
    assert not client.collection_exists("a__artifacts")


def test_what_a_kill_left_without_indexes_gets_them() -> None:
    client = double(strict=True)
    store = open_store(client=client)
    client.create_collection("connector__locks", vectors_config={})
    with store.lease("a"):
        pass
    assert engine(client).indexes["connector__locks"] == {"token": "keyword", "mark": "keyword"}
