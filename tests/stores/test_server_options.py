"""What a server's user may choose: gRPC, ordering and consistency, disk or memory, and indexes of tenants."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from qdrant_client import grpc as messages
from qdrant_client import models

from connector import Connector, Document, Encoder, open_store
from connector.cli.parameters import Index
from connector.core.deadline import within
from connector.core.errors import InputError, StoreUnavailable
from connector.stores import Nearest, Point
from connector.stores.edge import convert
from connector.stores.schema import CollectionSchema, Distribution, VectorSchema
from connector.stores.server.retry import failure_of
from tests.server.doubles import double, engine

CLS = VectorSchema("cls", 4, "float32")
TOKENS = VectorSchema("tokens", 4, "float32", multivector=True)
ID = "00000000-0000-0000-0000-000000000001"


class Server(messages.QdrantServicer, messages.CollectionsServicer):  # type: ignore[misc]
    """Says its version, and has no collection; to ask for aliases takes it longer than anybody waits."""

    def HealthCheck(self, *_: Any) -> Any:
        return messages.HealthCheckReply(title="qdrant", version="1.19.0")

    def List(self, *_: Any) -> Any:
        return messages.ListCollectionsResponse()

    def ListAliases(self, _: Any, context: Any) -> Any:
        while context.is_active():
            time.sleep(0.01)
        return messages.ListAliasesResponse()


@pytest.fixture
def grpc_port() -> Iterator[int]:
    """Of a server over gRPC, which is all that there is."""
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        messages.add_QdrantServicer_to_server(Server(), server)
        messages.add_CollectionsServicer_to_server(Server(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield int(port)
        server.stop(None).wait()


def test_a_server_is_asked_over_grpc_within_the_seconds_of_a_search(grpc_port: int) -> None:
    store = open_store(url="http://127.0.0.1:1", prefer_grpc=True, grpc_port=grpc_port)
    assert store.names() == []
    begun = time.monotonic()
    with within(0.3), pytest.raises(StoreUnavailable, match="DEADLINE_EXCEEDED"):
        store.aliases()
    assert time.monotonic() - begun < 30  # where a call has 60 s, and there are eight
    store.close()


def test_a_port_where_nothing_speaks_grpc_is_known_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StoreUnavailable, match=f"UNAVAILABLE.*{port}"):
        open_store(url="http://127.0.0.1:1", prefer_grpc=True, grpc_port=port)


@pytest.mark.parametrize(
    ("code", "reason", "passes"),
    [
        ("INTERNAL", "Service internal error: 1 of 3 shards failed", True),
        ("INTERNAL", "Service internal error: turbo4 datatype storage not yet wired up", False),
        ("INVALID_ARGUMENT", "Wrong input", False),
        ("UNAVAILABLE", "failed to connect", True),
    ],
)
def test_grpc_says_what_rest_says(code: str, reason: str, passes: bool) -> None:
    class Answer(grpc.RpcError):  # type: ignore[misc]
        def code(self) -> Any:
            return grpc.StatusCode[code]

        def details(self) -> str:
            return reason

    assert failure_of(Answer()).passes is passes


def test_points_are_written_and_read_as_is_asked() -> None:
    client = double()
    store = open_store(client=client, write_ordering="strong", read_consistency="majority")
    store.create("a", CollectionSchema((CLS,)), {})
    engine(client).asked.clear()
    store.upsert("a", [Point(ID, {"cls": np.ones(4, np.float32)}, {"id": "1"})])
    store.amend("a", [Point(ID, {}, {"id": "2"})])
    store.retrieve("a", [ID], None)
    store.search("a", Nearest(np.ones(4, np.float32), "cls", 1), payload=None)
    assert len(list(store.scroll("a", None))) == 1
    store.delete("a", [ID])
    asked = engine(client).asked
    writes = {name: it["ordering"] for name, it in asked if "ordering" in it}
    reads = {name: it["consistency"] for name, it in asked if "consistency" in it}
    assert writes == dict.fromkeys(("upsert", "batch_update_points", "delete"), models.WriteOrdering.STRONG)
    assert reads == dict.fromkeys(
        ("retrieve", "query_batch_points", "scroll"), models.ReadConsistencyType.MAJORITY
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"write_ordering": "strongest"}, "write_ordering is 'strongest'; it should be 'weak', 'medium' or"),
        ({"read_consistency": 0}, "read_consistency is 0"),
        ({"grpc_port": 0}, "grpc_port is 0"),
        ({"prefer_grpc": "yes"}, "prefer_grpc is 'yes'"),
    ],
)
def test_what_cannot_be_chosen_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_store(client=double(), **wrong)
    with pytest.raises(InputError, match=says):
        Connector.open("docs", client=double(), **wrong)


def test_what_has_no_effect_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_store(path=tmp_path, prefer_grpc=True, read_consistency=2).close()
        open_store(client=double(), prefer_grpc=True, read_consistency=2)
        open_store(client=double(), write_ordering="weak")
    assert [it.getMessage() for it in caplog.records] == [
        "with path, prefer_grpc, read_consistency has no effect; give the url of a server",
        "with client, prefer_grpc has no effect; give the url of a server",
    ]


@pytest.mark.parametrize("on_disk", [None, True, False])
def test_vectors_and_payload_lie_where_is_asked(on_disk: bool | None, encoder: Encoder) -> None:
    client = double()
    with Connector.create(
        "docs", client=client, model=encoder, recipe="pooled", on_disk=on_disk, on_disk_payload=on_disk
    ) as connector:
        metadata = connector.collection.metadata
    made = engine(client).made["docs__v0001"]
    on = {name: it.on_disk for name, it in made["vectors_config"].items()}
    assert on == {"cls": on_disk, "tokens": on_disk is not False}, "token vectors are many, and read last"
    assert made["on_disk_payload"] is on_disk
    kept = Distribution() if metadata.copies is None else metadata.copies
    assert kept == Distribution(on_disk=on_disk, on_disk_payload=on_disk), "later versions are made alike"


def test_edge_keeps_them_there_too() -> None:
    schema = CollectionSchema((CLS,), ("lexical",), Distribution(on_disk=True, on_disk_payload=False))
    made = convert.config(schema)
    assert {str(it.memory) for it in made.vectors.values()} == {"Memory.Cold"}
    assert {str(it.memory) for it in made.sparse_vectors.values()} == {"Memory.Cold"}
    assert str(made.payload_memory) == "Memory.Cached"


def test_tenants_are_indexed_as_such(tmp_path: Path, encoder: Encoder, documents: list[Document]) -> None:
    client = double(strict=True)
    for place in ({"client": client}, {"path": tmp_path}):
        with Connector.create(
            "docs", **place, model=encoder, recipe="dense", indexes={"customer": "keyword:tenant"}
        ) as connector:
            theirs = [Document(id=it.id, text=it.text, metadata={"customer": it.id}) for it in documents]
            connector.ingest(theirs)
            condition = models.FieldCondition(key="customer", match=models.MatchValue(value="doc 2"))
            hits = connector.search("bread", filter=models.Filter(must=[condition]))
            assert [it.id for it in hits] == ["doc 2"]
            assert connector.indexes == {"customer": "keyword:tenant"}
    made = {it["field_name"]: it["field_schema"] for name, it in engine(client).asked if "field_name" in it}
    assert made["metadata.customer"] == models.KeywordIndexParams(type="keyword", is_tenant=True)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("year:integer", ("year", "integer")),
        ("customer:keyword:tenant", ("customer", "keyword:tenant")),
        ("dc:title:text", ("dc:title", "text")),
        ("dc:creator:uuid:tenant", ("dc:creator", "uuid:tenant")),
    ],
)
def test_an_index_is_named_on_a_command_line(text: str, pair: tuple[str, str]) -> None:
    assert Index().convert(text, None, None) == pair
