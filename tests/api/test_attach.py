"""Late interaction beside what other programs keep: they go on as before, and all of it can be taken back."""

from __future__ import annotations

import json
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner
from qdrant_client import QdrantClient, models

from connector import AsyncConnector, Connector, Document, Encoder, load_encoder
from connector.cli import main
from connector.collection.backup import export_collection
from connector.collection.recipe import RECIPES
from connector.core.errors import CollectionError, CollectionNotFound, InputError, StoreLocked
from connector.migrations import Migrations
from connector.stores import Store, open_store
from connector.stores.external import AttachedStore, Layout, recognised
from connector.stores.server.store import ServerStore
from tests.conftest import TEXTS
from tests.server.doubles import double, engine

QUERY = "how do bees share where food is"
WIDTH = 8


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def vector(number: int) -> list[float]:
    return [float(it) for it in np.random.default_rng(number).normal(size=WIDTH)]


def fill(
    client: QdrantClient, payloads: list[dict[str, Any]], named: bool = True, whole: bool = True
) -> None:
    """Collection "docs" of another program; its points are called by numbers, or by UUIDs."""
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config={"dense": params} if named else params)
    client.upsert(
        "docs",
        [
            models.PointStruct(
                id=number if whole else str(uuid.UUID(int=number)),
                vector={"dense": vector(number)} if named else vector(number),
                payload=payload,
            )
            for number, payload in enumerate(payloads)
        ],
    )


def langchain(text: str, number: int) -> dict[str, Any]:
    return {"page_content": text, "metadata": {"number": number, "even": number % 2 == 0}}


def haystack(text: str, number: int) -> dict[str, Any]:
    return {"id": f"h{number}", "content": text, "meta": {"number": number, "even": number % 2 == 0}}


def flat(text: str, number: int) -> dict[str, Any]:
    return {"body": {"en": text}, "number": number, "even": number % 2 == 0}


def snapshot(client: QdrantClient) -> list[tuple[Any, Any, Any]]:
    """What the program has: ids, payloads and vectors, without what is ours."""
    records, _ = client.scroll("docs", limit=1000, with_payload=True, with_vectors=True)

    def own(found: Any) -> Any:
        if isinstance(found, dict):
            found = {key: it for key, it in found.items() if not key.startswith("late_")}
            return found[""] if [*found] == [""] else found
        return found

    return [(it.id, own(it.payload), own(it.vector)) for it in records]


def late(client: QdrantClient) -> list[str]:
    """All that is ours in the collection."""
    records, _ = client.scroll("docs", limit=1000, with_payload=True, with_vectors=True)
    info = client.get_collection("docs").config
    named = info.params.vectors if isinstance(info.params.vectors, dict) else {}
    said = [key for key, it in (info.metadata or {}).items() if key.startswith("late_") and it]
    keys = {key for it in records for key in it.payload or {}} | {*named, *(info.params.sparse_vectors or {})}
    return sorted([key for key in keys if key.startswith("late_")] + said)


@pytest.mark.parametrize("layout", [langchain, haystack, flat])
@pytest.mark.parametrize(
    "recipe", ["compact", "pooled", "dense", "aligner", "compact:words", "default", "hybrid", "colbert"]
)
def test_hits_are_those_of_a_collection_of_its_own(
    layout: Any,
    recipe: str,
    client: QdrantClient,
    tmp_path: Path,
    documents: list[Document],
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, _, words = recipe.partition(":")
    chosen = RECIPES[base].varied(lexical="english") if words else RECIPES[base]
    if chosen.fusion is not None:  # one of the stores keeps CLS vectors of 4 bits as floats
        chosen = chosen.model_copy(update={"cls": "float32"})
    fill(client, [layout(text, number) for number, text in enumerate(TEXTS)], named=recipe != "pooled")
    before = snapshot(client)
    monkeypatch.setattr(AttachedStore, "check_free", lambda *_: None)
    field = "body.en" if layout is flat else None
    by: Any = "hybrid" if words else "dense"
    with (
        Connector.create("own", path=tmp_path, recipe=chosen, model=encoder) as own,
        Connector.attach("docs", client=client, recipe=chosen, model=encoder, text_field=field) as attached,
    ):
        own.ingest(documents)
        for query in (QUERY, "machine code", "glaciers and lakes"):
            expected = own.search(query, k=5, candidates_by=by)
            found = attached.search(query, k=5, candidates_by=by)
            assert [f"doc {hit.id}" for hit in found] == [hit.id for hit in expected]
            assert [hit.text for hit in found] == [hit.text for hit in expected]
            assert [hit.metadata for hit in found] == [hit.metadata for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=0.1)
        even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
        assert {hit.metadata["even"] for hit in attached.search(QUERY, k=12, filter=even)} == {True}
        only = models.Filter(must=[models.HasIdCondition(has_id=[3])])
        assert [hit.id for hit in attached.search(QUERY, filter=only)] == ["3"]
        if base != "dense":
            hit = attached.search(QUERY, k=1)[0]
            parts = [pair.part for pair in attached.explain(QUERY, hit).pairs]
            assert sum(parts) == pytest.approx(hit.score, abs=0.02)
            assert attached.explain(QUERY, "7").text == TEXTS[7]
        assert attached.stats().documents == attached.stats().passages == len(TEXTS)
        assert attached.get(["7", "99", "not an id"]) == [
            Document("7", TEXTS[7], None, documents[7].metadata)
        ]
        assert attached.matching_ids(["7", "07", "x"]) == ["7"]
    assert snapshot(client) == before


def test_what_is_added_is_taken_back(client: QdrantClient, encoder: Encoder) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)], whole=False)
    before = snapshot(client)
    for recipe in ("pooled", "compact"):
        connector = Connector.attach("docs", client=client, recipe=recipe, model=encoder)
        assert "late_cls" in late(client)
        connector.detach()
        assert late(client) == []
        assert snapshot(client) == before
        assert client.count("connector__artifacts").count == 0
    with pytest.raises(CollectionError, match="another program"):
        Connector.open("docs", client=client)
    with (
        Connector.create("own", client=client, model=encoder) as own,
        pytest.raises(CollectionError, match="drop"),
    ):
        own.detach()


def test_a_server_without_turbo_types_gets_float16_in_their_place(encoder: Encoder) -> None:
    old = double("1.18.2")
    fill(old, [langchain(text, number) for number, text in enumerate(TEXTS)])
    with Connector.attach("docs", client=old, recipe="compact", model=encoder) as connector:
        assert connector.stats().vectors["cls"] == "float16"
        assert len(connector.search(QUERY, k=3)) == 3


def test_indexes_of_the_program_stay_as_they_are(encoder: Encoder, caplog: pytest.LogCaptureFixture) -> None:
    strict = double(strict=True)
    fill(strict, [langchain(text, number) for number, text in enumerate(TEXTS)])
    strict.create_payload_index("docs", "metadata.number", models.PayloadSchemaType.INTEGER)
    with Connector.attach("docs", client=strict, model=encoder, recipe="dense") as connector:
        connector.create_index({"number": "keyword", "other": "keyword"})
        assert "'number' has an index of its program's" in caplog.text
        assert connector.indexes == {"other": "keyword"}
        with pytest.raises(InputError, match="'number' has no index; there: other"):
            connector.drop_index("number")
        assert engine(strict).indexes["docs"].keys() >= {"late_passage", "metadata.other"}
        connector.detach()
    assert engine(strict).indexes["docs"] == {"metadata.number": "integer"}


def test_artifacts_of_another_program_are_not_taken_for_ours(client: QdrantClient, encoder: Encoder) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    for theirs in ("docs__artifacts", "own__v0001__artifacts"):
        client.create_collection(theirs, vectors_config={})
        client.upsert(theirs, [models.PointStruct(id=1, vector={}, payload={"data": "theirs"})])
    Connector.attach("docs", client=client, model=encoder, recipe="compact").detach()
    with Connector.create("own", client=client, model=encoder) as own:
        own.drop()
    assert [client.count(it).count for it in ("docs__artifacts", "own__v0001__artifacts")] == [1, 1]


def test_attaching_again_finds_what_the_program_wrote_since(client: QdrantClient, encoder: Encoder) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS[:6])])
    Connector.attach("docs", client=client, model=encoder).close()
    client.upsert(  # one is new, one replaced, one without text; one changes its text, and one goes
        "docs",
        [
            models.PointStruct(id=7, vector={"dense": vector(7)}, payload=langchain(TEXTS[7], 7)),
            models.PointStruct(id=0, vector={"dense": vector(0)}, payload=langchain(TEXTS[8], 0)),
            models.PointStruct(id=9, vector={"dense": vector(9)}, payload={"metadata": {}}),
        ],
    )
    client.set_payload("docs", {"page_content": TEXTS[9]}, points=[1])
    client.delete("docs", [2])
    with Connector.open("docs", client=client, model=encoder) as connector:
        assert "7" not in {hit.id for hit in connector.search(QUERY, k=12)}
    reports: list[Any] = []
    with Connector.attach("docs", client=client, progress=reports.append) as connector:
        assert (reports[-1].documents, reports[-1].unchanged) == (3, 3)
        assert reports[-1].bad == ["point 9 has no text in 'page_content'"]
        assert connector.search(QUERY, k=1)[0].id == "7"
        assert connector.search("what frees memory", k=1)[0].id == "0"
        assert connector.search("rock into flour", k=1)[0].id == "1"
        assert connector.stats().documents == 6
        assert connector.matching_ids(["2"]) == []


def test_an_attachment_that_was_cut_off_is_finished(
    client: QdrantClient, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    monkeypatch.setattr("connector.collection.ingest.WINDOW", 4)
    monkeypatch.setattr("connector.collection.pipeline.WAITING", 4)

    def stop(report: Any) -> None:
        if report.documents >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Connector.attach("docs", client=client, model=encoder, progress=stop)
    with Connector.open("docs", client=client, model=encoder) as connector:
        assert "attach again" in caplog.text
        assert 0 < connector.stats().documents < len(TEXTS)
    reports: list[Any] = []
    with Connector.attach("docs", client=client, model=encoder, progress=reports.append) as connector:
        assert connector.stats().documents == len(TEXTS)
        assert reports[-1].unchanged >= 4
    caplog.clear()
    Connector.open("docs", client=client, model=encoder).close()
    assert caplog.text == ""


@pytest.mark.parametrize("cut", ["set_info", "create_vector_name", "update_vectors"])
def test_wherever_it_is_cut_off(
    cut: str, client: QdrantClient, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    before = snapshot(client)
    name = {"set_info": "update_collection", "update_vectors": "batch_update_points"}.get(cut, cut)
    whole, calls = getattr(client, name), []

    def fails(*args: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(client, name, fails)
        try:
            Connector.attach("docs", client=client, recipe="pooled", model=encoder).close()
        except KeyboardInterrupt:
            assert len(calls) == 2
    assert snapshot(client) == before
    with Connector.attach("docs", client=client, recipe="pooled", model=encoder) as connector:
        assert connector.stats().documents == len(TEXTS)
        assert connector.search(QUERY, k=1)[0].id == "7"


def test_points_of_another_program_are_not_for_us_to_write(
    client: QdrantClient, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    before = snapshot(client)
    with Connector.attach("docs", client=client, model=encoder) as connector:
        with pytest.raises(CollectionError, match="attach again"):
            connector.ingest(documents)
        with pytest.raises(CollectionError, match="it deletes them"):
            connector.delete(["1"])
        with pytest.raises(CollectionError, match="detach it"):
            connector.drop()
        with pytest.raises(CollectionError, match="attach it again"):
            Migrations(connector, tmp_path)
        with pytest.raises(CollectionError, match="snapshot"):
            export_collection(connector.collection, tmp_path / "export")
        adaptation = connector.adapt([(QUERY, "7"), ("what frees memory", "8")], save=True)
        assert adaptation.chosen
    assert snapshot(client) == before


def test_wrong_collections_and_fields_are_named(
    client: QdrantClient, encoder: Encoder, tmp_path: Path
) -> None:
    def attach(name: str = "docs", **more: Any) -> None:
        Connector.attach(name, client=client, model=encoder, **more).close()

    with pytest.raises(CollectionNotFound, match="'docs'"):
        attach()
    fill(client, [flat(text, number) for number, text in enumerate(TEXTS)])
    with pytest.raises(CollectionError, match="points have the payload keys 'body', 'even', 'number'; name"):
        attach()
    with pytest.raises(CollectionError, match="no text stands in 'bodi'"):
        attach(text_field="bodi")
    assert late(client) == []
    attach(text_field="body.en")
    attach()
    with pytest.raises(InputError, match="detach it first, or leave the fields out"):
        attach(text_field="body.en", metadata_field="number")
    with pytest.raises(InputError, match="recipe 'default', not 'pooled'"):
        attach(recipe="pooled")
    with Connector.create("own", client=client, model=encoder):
        pass
    with pytest.raises(CollectionError, match="one of this library's own"):
        attach("own")
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection("empty", vectors_config={"dense": params})
    with pytest.raises(CollectionError, match="no point"):
        attach("empty")
    attach("empty", text_field="page_content")
    with pytest.raises(InputError, match="holds collections of this library alone"):
        Connector.attach("docs", client=open_store(path=tmp_path / "edge"))
    with open_store(client=client).lease("docs"), pytest.raises(StoreLocked):
        attach()
    client.create_collection("taken", vectors_config={"dense": params})
    taken = {"page_content": "otters", "metadata": {}, "late_hash": 1}
    client.upsert("taken", [models.PointStruct(id=1, vector={"dense": [1, 2]}, payload=taken)])
    with pytest.raises(CollectionError, match="'late_hash', which attaching would write"):
        attach("taken")
    client.create_collection("unnamed", vectors_config=params)
    client.upsert("unnamed", [models.PointStruct(id=1, vector=[1, 2], payload=langchain("otters", 1))])
    with pytest.raises(CollectionError, match="'unnamed' has an unnamed vector"):
        attach("unnamed")
    client.upsert("unnamed", [models.PointStruct(id=2, vector=[1, 2], payload=langchain("otters", 2))])


async def test_the_asynchronous_facade_attaches(encoder: Encoder) -> None:
    client = QdrantClient(":memory:")
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config={"dense": params})
    points = [
        models.PointStruct(id=number, vector={"dense": vector(number)}, payload=langchain(text, number))
        for number, text in enumerate(TEXTS)
    ]
    client.upsert("docs", points)
    connector = await AsyncConnector.attach("docs", client=client, model=encoder)
    assert (await connector.search(QUERY, k=1))[0].id == "7"
    await connector.detach()
    client.close()


def test_layouts_are_recognised() -> None:
    node = {
        "_node_content": json.dumps({"text": "otters", "metadata": {"year": 1}}),
        "year": 1,
        "doc_id": "a",
    }
    found = recognised([node], None, None)
    assert found == Layout(text="_node_content", node=True)
    assert (found.text_of(node), found.metadata_of(node)) == ("otters", {"year": 1})
    assert found.text_of({"_node_content": "no JSON"}) is None
    assert found.text_of({"_node_content": "[1]"}) is None
    assert recognised([langchain("a", 1)], None, None) == Layout(text="page_content", metadata="metadata")
    assert recognised([haystack("a", 1)], None, None) == Layout(text="content", metadata="meta")
    assert recognised([{"page_content": "a"}], "page_content", None) == Layout(text="page_content")
    assert recognised([], "body", "more") == Layout(text="body", metadata="more")
    plain = Layout(text="a.b")
    assert plain.text_of({"a": {"b": " "}}) is None
    assert plain.text_of({"a": ["b"]}) is None
    assert plain.text_of({"a.b": "dots in a key"}) == "dots in a key"
    assert plain.metadata_of({"a": 1, "c": 2, "late_codes": "…", "late_fee": 3}) == {"c": 2, "late_fee": 3}


def test_langchain_goes_on(client: QdrantClient, encoder: Encoder) -> None:
    qdrant = pytest.importorskip("langchain_qdrant")
    embeddings = pytest.importorskip("langchain_core.embeddings")
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config={"dense": params})

    def store() -> Any:
        embedding = embeddings.DeterministicFakeEmbedding(size=WIDTH)
        return qdrant.QdrantVectorStore(client, "docs", embedding, vector_name="dense")

    theirs = store()
    added = theirs.add_texts(TEXTS, metadatas=[{"number": number} for number in range(len(TEXTS))])
    ids = [str(uuid.UUID(it)) for it in added]
    before = theirs.similarity_search_with_score(TEXTS[3], k=4)
    with Connector.attach("docs", client=client, model=encoder) as connector:
        hit = connector.search(QUERY, k=1)[0]
        assert (hit.id, hit.text, hit.metadata) == (ids[7], TEXTS[7], {"number": 7})
    after = theirs.similarity_search_with_score(TEXTS[3], k=4)
    assert [document for document, _ in after] == [document for document, _ in before]
    assert [score for _, score in after] == pytest.approx([score for _, score in before])
    assert len(theirs.max_marginal_relevance_search(TEXTS[3], k=3)) == 3
    (new,) = theirs.add_texts(["Seahorses sleep holding on to grass."], metadatas=[{"number": 12}])
    theirs.delete([ids[7]])
    assert store().get_by_ids([new])[0].page_content.startswith("Seahorses")
    with Connector.attach("docs", client=client, model=encoder) as connector:
        assert connector.search("seahorses", k=1)[0].id == str(uuid.UUID(new))
        assert ids[7] not in {hit.id for hit in connector.search(QUERY, k=20)}


def test_llama_index_goes_on(client: QdrantClient, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttachedStore, "check_free", lambda *_: None)  # its vector has no name
    qdrant = pytest.importorskip("llama_index.vector_stores.qdrant")
    schema = pytest.importorskip("llama_index.core.schema")
    stores = pytest.importorskip("llama_index.core.vector_stores.types")
    with warnings.catch_warnings():  # it makes payload indexes, which a client without a server has not
        warnings.simplefilter("ignore", UserWarning)
        theirs = qdrant.QdrantVectorStore("docs", client=client)
        nodes = [
            schema.TextNode(text=text, metadata={"number": number}, embedding=vector(number))
            for number, text in enumerate(TEXTS)
        ]
        theirs.add(nodes)
        query = stores.VectorStoreQuery(query_embedding=vector(3), similarity_top_k=3)
        before = theirs.query(query)
        with Connector.attach("docs", client=client, model=encoder) as connector:
            hit = connector.search(QUERY, k=1)[0]
            assert (hit.id, hit.text, hit.metadata) == (nodes[7].node_id, TEXTS[7], {"number": 7})
            seven = models.FieldCondition(key="number", match=models.MatchValue(value=7))
            found = connector.search("anything", filter=models.Filter(must=[seven]))
            assert [it.id for it in found] == [nodes[7].node_id]
        after = qdrant.QdrantVectorStore("docs", client=client).query(query)
    assert after.ids == before.ids
    assert [it.metadata for it in after.nodes] == [it.metadata for it in before.nodes]
    assert [it.text for it in after.nodes] == [it.text for it in before.nodes]


def test_the_model_is_the_one_that_attached(client: QdrantClient) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    Connector.attach("docs", client=client).close()
    with Connector.open("docs", client=client) as connector:
        assert connector.encoder.fingerprint == load_encoder().fingerprint


def test_the_commands(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(**given: Any) -> Store:
        return open_store(client=client) if "url" in given else open_store(**given)

    monkeypatch.setattr("connector.stores.open_store", opened)
    monkeypatch.setattr(
        "connector.api.connector.open_store", lambda **given: given.get("client") or opened(url="")
    )
    fill(client, [flat(text, number) for number, text in enumerate(TEXTS)])
    before = snapshot(client)
    at = ["--collection", "docs", "--url", "http://localhost:6333"]

    def invoke(*words: str) -> str:
        run = CliRunner().invoke(main, [*words, *at])
        assert run.exit_code == 0, run.output
        return run.stdout

    refused = CliRunner().invoke(main, ["attach", *at])
    assert refused.exit_code == 1
    assert "--text-field" in refused.stderr
    planned = invoke("attach", "--text-field", "body.en", "--plan")
    assert "12 points of 'docs' would get 'default'" in planned
    assert "text in 'body.en', metadata in all other keys" in planned
    assert TEXTS[0][:40] in planned
    assert json.loads(invoke("attach", "--text-field", "body.en", "--plan", "--json"))["points"] == len(TEXTS)
    assert late(client) == []
    assert "12 documents into 'docs'" in invoke("attach", "--text-field", "body.en")
    assert "12 points of 'docs' would get 'default'; 12 have it" in invoke("attach", "--plan")
    again = json.loads(invoke("attach", "--json"))
    assert (again["documents"], again["unchanged"]) == (0, 12)
    assert json.loads(invoke("search", QUERY, "-k", "1", "--json"))["hits"][0]["id"] == "7"
    assert "detached from 'docs'" in invoke("detach", "--yes")
    assert late(client) == []
    assert snapshot(client) == before
    assert CliRunner().invoke(main, ["attach", "--collection", "docs"]).exit_code == 2


def put(client: QdrantClient, payloads: dict[Any, dict[str, Any]], named: str = "dense", **more: Any) -> None:
    """Another collection "docs", with these points."""
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config={named: params}, **more)
    points = [
        models.PointStruct(id=id_, vector={named: vector(1)}, payload=it) for id_, it in payloads.items()
    ]
    client.upsert("docs", points)


@pytest.mark.parametrize(
    ("taken", "payload", "metadata", "named"),
    [
        ("late_cls", {}, {}, "late_cls"),
        ("late_words", {"late_words": ["a"]}, {}, "dense"),
        ("late_x", {}, {"late_x": "y"}, "dense"),
    ],
)
def test_names_that_are_taken_are_refused_before_anything_is_written(
    taken: str,
    payload: dict[str, Any],
    metadata: dict[str, Any],
    named: str,
    client: QdrantClient,
    encoder: Encoder,
) -> None:
    texts = {number: langchain(text, number) for number, text in enumerate(TEXTS)}
    put(client, {**texts, 99: {**texts[1], **payload}}, named, metadata={"owner": "me", **metadata})
    before = client.scroll("docs", limit=99, with_vectors=True), client.get_collection("docs").config
    with pytest.raises(CollectionError, match=f"{taken}'"):
        Connector.attach("docs", client=client, model=encoder)
    with pytest.raises(CollectionError, match="another program"):
        Connector.open("docs", client=client)
    assert (
        client.scroll("docs", limit=99, with_vectors=True),
        client.get_collection("docs").config,
    ) == before


def test_a_text_field_of_our_own_is_refused(client: QdrantClient, encoder: Encoder) -> None:
    put(client, {1: langchain("otters", 1)})
    for field in ("late_hash", ""):
        with pytest.raises(InputError, match="not a payload key of the program's"):
            Connector.attach("docs", client=client, model=encoder, text_field=field)
    for field in (5, ["body"]):
        given: Any = field
        with pytest.raises(InputError, match=r"text_field is .*; it should be a valid string"):
            Connector.attach("docs", client=client, model=encoder, text_field=given)


def test_points_whose_payload_was_replaced_are_found_again_after_attaching_again(
    client: QdrantClient, encoder: Encoder
) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    with Connector.attach("docs", client=client, model=encoder) as connector:
        client.overwrite_payload("docs", langchain(TEXTS[7], 70), points=[7])
        client.overwrite_payload("docs", {"other": 1}, points=[3])
        client.delete_payload("docs", ["late_codes"], points=[5])
        client.clear_payload("docs", points_selector=[4])
        for rerank in ("client", None):
            chosen: Any = rerank
            found = {hit.id for hit in connector.search(QUERY, k=12, rerank=chosen)}
            assert not found & {"7", "3", "4"}
            assert len(found) >= 8
        with pytest.raises(CollectionError, match="attach to it again"):
            connector.explain(QUERY, "5")
    with Connector.attach("docs", client=client, model=encoder) as connector:
        best = connector.search(QUERY, k=12)
        assert (best[0].id, best[0].metadata) == ("7", {"number": 70, "even": True})
        assert not {hit.id for hit in best} & {"3", "4"}


def test_texts_are_looked_for_among_points_that_have_none(client: QdrantClient, encoder: Encoder) -> None:
    pictures = {number: {"image": "x"} for number in range(100)}
    put(client, {**pictures, 500: {"text": TEXTS[7], "year": 3}})
    reports: list[Any] = []
    with Connector.attach("docs", client=client, model=encoder, progress=reports.append) as connector:
        (hit,) = connector.search(QUERY)
        assert (hit.id, hit.metadata) == ("500", {"year": 3})
        assert len(reports[-1].bad) == 100
        dense = models.Filter(must=[models.HasVectorCondition(has_vector="dense")])
        assert [it.id for it in connector.search(QUERY, filter=dense)] == ["500"]


def test_a_text_that_was_changed_cannot_be_explained_until_it_is_attached_again(
    client: QdrantClient, encoder: Encoder
) -> None:
    fill(client, [langchain(text * 3, number) for number, text in enumerate(TEXTS)])
    with Connector.attach("docs", client=client, model=encoder) as connector:
        client.set_payload("docs", {"page_content": "Taxes rise."}, points=[7])
        hit = next(hit for hit in connector.search(QUERY, k=12) if hit.id == "7")
        with pytest.raises(CollectionError, match="changed since it was attached; attach"):
            connector.explain(QUERY, hit)


def test_searches_go_on_while_the_program_writes_and_attaching_runs(
    client: QdrantClient, encoder: Encoder
) -> None:
    fill(client, [langchain(text, number) for number, text in enumerate(TEXTS)])
    stopped, failures = threading.Event(), list[Exception]()

    def repeat(call: Any) -> None:
        while not stopped.is_set():
            try:
                call()
            except Exception as error:
                failures.append(error)

    def attach() -> None:
        Connector.attach("docs", client=client, model=encoder).close()

    attach()
    with Connector.open("docs", client=client, model=encoder) as connector:
        for call in (lambda: connector.search(QUERY, k=12), attach):
            threading.Thread(target=repeat, args=[call], daemon=True).start()
        store = open_store(client=client)  # whose turn the others take, too
        for round_ in range(40):
            number = round_ % len(TEXTS)
            point = models.PointStruct(
                id=number, vector={"dense": vector(number)}, payload=langchain(TEXTS[number], round_)
            )
            cast(ServerStore, store)._call(client.upsert, "docs", [point])
            time.sleep(0.05)
        stopped.set()
        time.sleep(1)
    assert failures == []
