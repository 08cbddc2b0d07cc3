"""Haystack's own tests of document stores, and pipelines of its real components."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # read when it is imported
pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers import MultiQueryTextRetriever
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import DeserializationError, SerializationError
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.telemetry._telemetry import telemetry
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as async_suite
from haystack.utils import Secret
from haystack.utils.filters import document_matches_filter

import connector
from connector import Connector, Encoder
from connector.collection.recipe import RECIPES
from connector.core.errors import DocumentError, IndexMissing, InputError, RecipeError
from connector.core.types import point_id
from connector.integrations.haystack import (
    LateInteractionDocumentStore,
    LateInteractionRanker,
    LateInteractionRetriever,
)
from connector.integrations.haystack.conversion import on_payload
from tests.cli.test_deleting import refusing
from tests.conftest import TEXTS
from tests.server.doubles import double

QUERY = "How do bees tell each other where flowers are?"
DOCUMENTS = [
    Document(id=f"doc {number}", content=text, meta={"number": number, "even": number % 2 == 0})
    for number, text in enumerate(TEXTS)
]
EVEN = {"field": "meta.even", "operator": "==", "value": True}


@pytest.fixture
def document_store(tmp_path: Path, encoder: Encoder) -> Iterator[LateInteractionDocumentStore]:
    store = LateInteractionDocumentStore("docs", path=tmp_path / "q", recipe="dense", model=encoder)
    yield store
    store.close()


@pytest.fixture(scope="module")
def filled(encoder: Encoder) -> LateInteractionDocumentStore:
    """The twelve documents, behind a client."""
    client = QdrantClient(":memory:")
    store = LateInteractionDocumentStore("docs", client=client, recipe="compact", model=encoder)
    assert store.write_documents(DOCUMENTS) == len(DOCUMENTS)
    return store


def by_id(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda it: it.id)


class InAnyOrder:
    """Points are in the order of their hashes."""

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        assert by_id(received) == by_id(expected)


class TestStandard(InAnyOrder, suite.DocumentStoreBaseExtendedTests, suite.CountDocumentsByFilterTest):
    @pytest.fixture
    def document_store(self, document_store: Any) -> Any:
        return document_store

    def test_write_documents(self, document_store: Any) -> None:
        assert document_store.write_documents(DOCUMENTS[:2]) == 2
        with pytest.raises(DuplicateDocumentError, match="'doc 1' is there already"):
            document_store.write_documents(DOCUMENTS[1:3])
        self.assert_documents_are_equal(document_store.filter_documents(), DOCUMENTS[:2])


class TestStandardAsync(
    InAnyOrder,
    async_suite.CountDocumentsAsyncTest,
    async_suite.CountDocumentsByFilterAsyncTest,
    async_suite.DeleteAllAsyncTest,
    async_suite.DeleteByFilterAsyncTest,
    async_suite.DeleteDocumentsAsyncTest,
    async_suite.FilterDocumentsAsyncTest,
    async_suite.UpdateByFilterAsyncTest,
    async_suite.WriteDocumentsAsyncTest,
):
    @pytest.fixture
    def document_store(self, document_store: Any) -> Any:
        return document_store

    async def test_write_documents_async(self, document_store: Any) -> None:
        assert await document_store.write_documents_async(DOCUMENTS[:2]) == 2
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async(DOCUMENTS[1:3])
        assert await document_store.count_documents_async() == 2
        await document_store.close_async()


# Filters, against Haystack's own reading of them

VALUES = [None, True, False, 0, 1, 1.0, 0.5, -3, 2**60, 2**60 + 1, "a", "1", "true", "", "2020-01-02"]
DATES = [
    "2020-01-02",
    "2020-01-02T00:00:00",
    "2020-01-02T10:30:00",
    "2020-01-02T10:30:00+00:00",
    "2021-05-06",
]
# Haystack's own stores take any text for a date that dateutil makes one of, such as "1".
STORED = [
    *(it for it in VALUES if it != "1"),
    *DATES,
    ["a"],
    ["a", "b"],
    [1],
    [None],
    ["2020-01-02"],
    {},
    {"in": "a"},
    [{"in": "a"}],
]
METAS = [
    {},
    *({"x": value} for value in STORED),
    {"x y": {"-": 1}},
    {"x.in": "a"},
    {"metadata": {"x": 1}},
]
FIELDS = ["meta.x", "x", "meta.x.in", "meta.x y.-", "meta.metadata.x", "meta.gone", "id"]
EQUALITY = st.builds(
    lambda field, operator, value: {"field": field, "operator": operator, "value": value},
    st.sampled_from(FIELDS),
    st.sampled_from(["==", "!="]),
    st.sampled_from([*VALUES, *DATES, "meta 3"]),
)
MEMBERSHIP = st.builds(
    lambda field, operator, value: {"field": field, "operator": operator, "value": value},
    st.sampled_from(FIELDS),
    st.sampled_from(["in", "not in"]),
    st.lists(st.sampled_from([*VALUES, *DATES, "meta 3"]), max_size=3),
)
ORDER = st.builds(
    lambda field, operator, value: {"field": field, "operator": operator, "value": value},
    st.sampled_from(FIELDS[:-1]),
    st.sampled_from([">", ">=", "<", "<="]),
    st.sampled_from([None, True, 0, 1, 0.5, -3, *DATES]),
)
FILTERS = st.recursive(
    st.one_of(EQUALITY, MEMBERSHIP, ORDER),
    lambda inner: st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=5,
)


def matches(filters: dict[str, Any], document: Document) -> bool:
    """What Haystack says; where it cannot compare what a document has, the document does not match."""
    if "conditions" in filters:
        each = [matches(it, document) for it in filters["conditions"]]
        return {"AND": all(each), "OR": any(each), "NOT": not all(each)}[filters["operator"]]
    try:
        return document_matches_filter(filters, document)
    except (FilterError, TypeError):
        return False


@pytest.fixture(scope="module", params=["edge", "memory"])
def metas(request: Any, tmp_path_factory: Any, encoder: Encoder) -> LateInteractionDocumentStore:
    place = (
        {"path": tmp_path_factory.mktemp("metas")}
        if request.param == "edge"
        else {"client": QdrantClient(":memory:")}
    )
    store = LateInteractionDocumentStore("metas", recipe="dense", model=encoder, **place)
    store.write_documents(
        [Document(id=f"meta {n}", content=f"text {n}", meta=meta) for n, meta in enumerate(METAS)]
    )
    return store


@settings(max_examples=150, deadline=None)
@given(filters=FILTERS)
def test_filters_mean_what_haystack_means(
    metas: LateInteractionDocumentStore, filters: dict[str, Any]
) -> None:
    everything = metas.filter_documents()
    expected = [it.id for it in everything if matches(filters, it)]
    assert sorted(it.id for it in metas.filter_documents(filters)) == sorted(expected)


def test_decimals_equal_what_was_stored(document_store: LateInteractionDocumentStore) -> None:
    numbers = np.sort(np.random.default_rng(0).random(60)).tolist()
    document_store.write_documents([Document(content=f"{it}", meta={"x": it}) for it in numbers])
    for n, number in enumerate(numbers):
        for operator, count in {"==": 1, "!=": 59, ">=": 60 - n, ">": 59 - n, "<=": n + 1, "<": n}.items():
            filters = {"field": "meta.x", "operator": operator, "value": number}
            assert document_store.count_documents_by_filter(filters) == count


def test_dates_without_a_zone_are_in_utc(document_store: LateInteractionDocumentStore) -> None:
    document_store.write_documents([Document(content="noon", meta={"date": "2020-01-02T12:00:00"})])
    for value, there in {"2020-01-02T13:00:00+02:00": True, "2020-01-02T15:00:00+02:00": False}.items():
        found = document_store.filter_documents({"field": "meta.date", "operator": ">", "value": value})
        assert bool(found) is there


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"field": "content", "operator": "==", "value": "a"}, "field 'content' cannot"),
        ({"field": "author.name", "operator": "==", "value": "a"}, "such as meta.year"),
        ({"field": 'meta.a"b', "operator": "==", "value": "a"}, "cannot be compared so"),
        ({"field": "meta.", "operator": "==", "value": "a"}, "cannot be compared so"),
        ({"field": None, "operator": "==", "value": "a"}, "field None"),
        ({"field": "id", "operator": ">", "value": 1}, "field 'id'"),
        ({"field": "meta.a", "operator": "contains", "value": 1}, "'contains' is unknown"),
        ({"field": "meta.a", "operator": [], "value": 1}, "is unknown"),
        ({"field": "meta.a", "operator": "==", "value": ["a"]}, "cannot be compared with =="),
        ({"field": "meta.a", "operator": "in", "value": [{}]}, "cannot be compared with =="),
        ({"field": "meta.a", "operator": "in", "value": "a"}, "must be a list"),
        ({"field": "meta.a", "operator": "<", "value": "yesterday"}, "ISO 8601"),
        ({"field": "meta.a", "operator": "<", "value": float("inf")}, "finite"),
        ({"operator": "XOR", "conditions": []}, "'XOR' is unknown"),
        ({"operator": "AND", "conditions": {}}, "give a list"),
        ({"operator": "AND", "conditions": ["a"]}, "is not a dictionary"),
    ],
)
def test_filters_that_say_nothing_are_refused(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError, match=message):
        on_payload(filters)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"operator": "AND", "conditions": []},
        {"operator": "NOT", "conditions": [{"operator": "OR", "conditions": []}]},
        {"field": "meta.year", "operator": "not in", "value": []},
        {
            "operator": "OR",
            "conditions": [
                {"operator": "AND", "conditions": []},
                {"field": "meta.year", "operator": "==", "value": 1},
            ],
        },
    ],
)
def test_what_changes_documents_needs_a_filter(
    filled: LateInteractionDocumentStore, filters: dict[str, Any]
) -> None:
    for change in (filled.delete_by_filter, lambda it: filled.update_by_filter(it, {"a": 1})):
        with pytest.raises(FilterError, match="every document"):
            change(filters)
    assert filled.count_documents() == len(DOCUMENTS)


def test_one_of_none_is_nothing(filled: LateInteractionDocumentStore) -> None:
    filled.delete_documents([])
    assert filled.delete_by_filter({"field": "meta.year", "operator": "in", "value": []}) == 0
    assert filled.delete_by_filter({"operator": "OR", "conditions": []}) == 0
    assert filled.count_documents() == len(DOCUMENTS)


# Documents


def test_documents_come_back_as_they_were(document_store: LateInteractionDocumentStore) -> None:
    document = Document(
        content="River otters hold hands.",
        meta={"a": {"b": [1, None, "c"]}, "content": "mine", "score": 2, "meta": {}},
        blob=ByteStream(b"\0\xff", {"page": 1}, "image/png"),
        embedding=[1 / 3, 1e-300, -0.0],
        sparse_embedding=SparseEmbedding([1, 7], [0.1, 0.7]),
        score=0.1,
    )
    plain = Document(id="plain", content="Bees dance.")
    assert document_store.write_documents([document, plain]) == 2
    assert by_id(document_store.filter_documents()) == by_id([document, plain])
    hits = LateInteractionRetriever(document_store).run("What do otters do?")["documents"]
    assert hits[0].score > hits[1].score
    assert replace(hits[0], score=0.1) == document
    assert replace(hits[1], score=None) == plain
    assert document_store.connector.get(["plain"])[0].metadata == {}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Document(id="b", blob=ByteStream(b"a")), "'b' has no content"),
        (Document(id="b", content=" "), "'b': text is empty"),
        (Document(id="b", content="b" * 100_001), "'b': text has 100,001"),
        (Document(id="b", content="b", meta={"x": Path()}), "'b': metadata.x is of type"),
        (Document(id="b", content="b", meta={"_haystack": 1}), "reserved key"),
        (Document(id="b", content="b", blob=ByteStream(b"", {"x": Path()})), "'b': blob cannot be stored"),
    ],
)
def test_nothing_is_written_when_one_document_is_bad(
    filled: LateInteractionDocumentStore, bad: Document, message: str
) -> None:
    with pytest.raises(DocumentError, match=message):
        filled.write_documents([Document(content="fine"), bad])
    assert filled.count_documents() == len(DOCUMENTS)


def test_policies_for_ids_that_come_twice(document_store: LateInteractionDocumentStore) -> None:
    first, second = Document(id="1", content="first"), Document(id="1", content="second")
    for policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL):
        with pytest.raises(DuplicateDocumentError, match="'1'"):
            document_store.write_documents([Document(content="other"), first, second], policy)
    assert document_store.count_documents() == 0
    assert document_store.write_documents([first, second], DuplicatePolicy.SKIP) == 1
    assert document_store.filter_documents() == [first]
    assert document_store.write_documents([first, second], DuplicatePolicy.OVERWRITE) == 2
    assert document_store.filter_documents() == [second]
    assert document_store.write_documents([], DuplicatePolicy.OVERWRITE) == 0


def test_what_others_wrote_is_readable(tmp_path: Path, encoder: Encoder) -> None:
    with Connector.create("docs", path=tmp_path, recipe="dense", model=encoder) as mine:
        mine.ingest([connector.Document(id="a", text=" ".join(TEXTS), title="All")], chunk_tokens=32)
        store = LateInteractionDocumentStore(mine)
        (found,) = store.filter_documents()
        assert found.meta == {"title": "All"}
        (hit,) = LateInteractionRetriever(store).run(QUERY)["documents"]
        assert "Bees" in hit.content
        with pytest.raises(DocumentStoreError, match="'a' is split"):
            store.update_by_filter({"field": "id", "operator": "==", "value": "a"}, {"x": 1})
        store.close()
        assert mine.stats().documents == 1
    with pytest.raises(InputError, match="is closed"):
        store.count_documents()


def test_documents_that_qdrant_refuses_are_named(
    document_store: LateInteractionDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(document_store.connector, monkeypatch, {point_id("doc 1", 0)})
    with pytest.raises(DocumentStoreError, match="refused 1 documents, the first, 'doc 1': too strange"):
        document_store.write_documents(DOCUMENTS[:3])
    assert by_id(document_store.filter_documents()) == [DOCUMENTS[0], DOCUMENTS[2]]


# Places


def test_arguments_that_do_not_go_together(tmp_path: Path, filled: LateInteractionDocumentStore) -> None:
    with pytest.raises(InputError, match="got none"):
        LateInteractionDocumentStore("docs")
    with pytest.raises(InputError, match="got path and url"):
        LateInteractionDocumentStore("docs", path=tmp_path, url="http://localhost")
    with pytest.raises(InputError, match="give it alone"):
        LateInteractionDocumentStore(filled.connector, recipe="compact")
    with pytest.raises(InputError, match="give a LateInteractionDocumentStore"):
        LateInteractionRetriever(InMemoryDocumentStore())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="top_k is 0"):
        LateInteractionRetriever(filled, top_k=0)
    with pytest.raises(InputError, match="'filter'"):
        LateInteractionRetriever(filled, search_kwargs={"filter": None})
    with pytest.raises(RecipeError, match="'small' is not known"):
        LateInteractionDocumentStore("docs", path=tmp_path, recipe="small")
    with pytest.raises(InputError, match="copies: there is no such option"):
        LateInteractionDocumentStore("docs", path=tmp_path, copies=3)


def test_filters_are_taken_by_a_strict_server(encoder: Encoder) -> None:
    store = LateInteractionDocumentStore(
        "docs", client=double(strict=True), recipe="dense", model=encoder, indexes={"year": "integer"}
    )
    store.write_documents([Document(id="1", content="one", meta={"year": 2021, "month": 3})])
    after = {"field": "meta.year", "operator": ">", "value": 2020}
    assert [it.id for it in store.filter_documents(after)] == ["1"]
    assert LateInteractionRetriever(store, filters=after).run("one")["documents"]
    with pytest.raises(IndexMissing, match=r"index add .*month"):
        store.filter_documents({"field": "meta.month", "operator": "==", "value": 3})


def test_a_collection_keeps_its_recipe(tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "q"
    store = LateInteractionDocumentStore("docs", path=folder, recipe="compact", model=encoder)
    assert not folder.exists()
    store.write_documents(DOCUMENTS[:1])
    again = LateInteractionDocumentStore("docs", path=folder, model=encoder)
    assert again.filter_documents() == DOCUMENTS[:1]
    with pytest.raises(InputError, match="has recipe 'compact', not 'pooled'"):
        LateInteractionDocumentStore("docs", path=folder, recipe="pooled").count_documents()
    for it in (store, again):
        it.close()
    assert store.count_documents() == 1
    store.close()


def test_a_store_is_saved_and_read(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, filled: LateInteractionDocumentStore
) -> None:
    monkeypatch.setenv("KEY", "a-secret")
    mine = RECIPES["compact"].varied(reduction="ward-4")
    store = LateInteractionDocumentStore(
        "docs",
        url="http://localhost:1",
        api_key=Secret.from_env_var("KEY"),
        recipe=mine,
        model="m",
        device="cpu",
        prefer_grpc=True,
        replication_factor=2,
    )
    data = store.to_dict()
    assert data["init_parameters"]["prefer_grpc"] is True
    assert "a-secret" not in str(data)
    again = LateInteractionDocumentStore.from_dict(data)
    assert again.to_dict() == data
    named = {**data, "init_parameters": {"collection": "docs", "path": "q", "recipe": "compact"}}
    assert LateInteractionDocumentStore.from_dict(named).to_dict()["init_parameters"]["path"] == "q"
    for unsaved in (filled, LateInteractionDocumentStore("docs", path=tmp_path, model=encoder)):
        with pytest.raises(SerializationError, match="cannot be saved"):
            unsaved.to_dict()
    ranking = Pipeline()
    ranking.add_component("ranker", LateInteractionRanker(encoder))
    with pytest.raises(SerializationError, match="under key 'model'"):
        ranking.dumps()


# Components


def test_retriever_finds_and_filters(filled: LateInteractionDocumentStore) -> None:
    retriever = LateInteractionRetriever(filled, filters=EVEN, top_k=3)
    retriever.warm_up()
    found = retriever.run(QUERY)["documents"]
    assert len(found) == 3
    assert all(it.meta["even"] for it in found)
    assert [it.score for it in found] == sorted((it.score for it in found), reverse=True)
    number = {"field": "meta.number", "operator": ">", "value": 6}
    assert retriever.run(QUERY, number, 1)["documents"][0].id == "doc 7"
    merging = LateInteractionRetriever(filled, EVEN, filter_policy=FilterPolicy.MERGE)
    assert {it.id for it in merging.run(QUERY, number)["documents"]} == {"doc 8", "doc 10"}
    unranked = LateInteractionRetriever(filled, search_kwargs={"rerank": None}).run(QUERY)["documents"]
    assert unranked[0].score < 1 < filled.connector.search(QUERY)[0].score
    explained = filled.connector.explain(QUERY, unranked[0].id)
    assert "flowers" in str(explained.by_word())
    with pytest.raises(InputError, match="query is ' '"):
        retriever.run(" ")
    with pytest.raises(InputError, match="k is 0"):
        retriever.run(QUERY, top_k=0)


OPTIONS: dict[str, dict[str, Any]] = {
    "offset": {"offset": 2},
    "min_similarity": {"min_similarity": 0.3},
    "mmr": {"mmr": 0.3},
    "group_by": {"group_by": "even", "group_size": 2},
}


@pytest.mark.parametrize("case", OPTIONS)
async def test_options_reach_the_search(filled: LateInteractionDocumentStore, case: str) -> None:
    options = OPTIONS[case]
    expected = [hit.id for hit in filled.connector.search(QUERY, 3, **options)]
    assert len(expected) > 0
    assert expected != [hit.id for hit in filled.connector.search(QUERY, 3)]
    retriever = LateInteractionRetriever(filled, top_k=3, search_kwargs=options)
    assert [it.id for it in retriever.run(QUERY)["documents"]] == expected
    assert [it.id for it in (await retriever.run_async(QUERY))["documents"]] == expected
    plain = LateInteractionRetriever(filled, top_k=3, search_kwargs={"offset": 0})
    assert [it.id for it in plain.run(QUERY, search_kwargs=options)["documents"]] == expected
    several = MultiQueryTextRetriever(retriever=retriever, max_workers=2)
    found = several.run([QUERY, TEXTS[2]], retriever_kwargs={"search_kwargs": {"candidates": 12}})
    alone = [filled.connector.search(it, 3, candidates=12, **options) for it in (QUERY, TEXTS[2])]
    assert {it.id for it in found["documents"]} == {hit.id for hits in alone for hit in hits}


def test_pages_join(filled: LateInteractionDocumentStore) -> None:
    retriever = LateInteractionRetriever(filled, top_k=5)
    pages = [retriever.run(QUERY, search_kwargs={"offset": at})["documents"] for at in (0, 5, 10, 15)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [it for page in pages for it in page] == retriever.run(QUERY, top_k=12)["documents"]


def test_options_of_a_run_are_checked(filled: LateInteractionDocumentStore) -> None:
    retriever = LateInteractionRetriever(filled)
    with pytest.raises(InputError, match=r"search_kwargs has \['k'\]; give query, top_k and filters"):
        retriever.run(QUERY, search_kwargs={"k": 3})
    with pytest.raises(InputError, match="offset is -1"):
        retriever.run(QUERY, search_kwargs={"offset": -1})
    with pytest.raises(InputError, match="mmr is 2"):
        LateInteractionRetriever(filled, search_kwargs={"mmr": 2})


async def test_components_that_are_awaited(filled: LateInteractionDocumentStore, encoder: Encoder) -> None:
    found = await LateInteractionRetriever(filled, top_k=5).run_async(QUERY)
    ranked = await LateInteractionRanker(encoder).run_async(QUERY, found["documents"], 1)
    assert [it.id for it in ranked["documents"]] == ["doc 7"]


def test_ranker_orders_what_bm25_found(encoder: Encoder) -> None:
    store = InMemoryDocumentStore()
    store.write_documents(DOCUMENTS)
    pipeline = Pipeline()
    pipeline.add_component("bm25", InMemoryBM25Retriever(store, top_k=6))
    pipeline.add_component("ranker", LateInteractionRanker(encoder, top_k=2))
    pipeline.connect("bm25", "ranker")
    query = "In what manner are blossoms pointed out by insects in the hive?"
    ranked = pipeline.run({"bm25": {"query": query}, "ranker": {"query": query}})["ranker"]["documents"]
    assert ranked[0].id == "doc 7"
    assert len(ranked) == 2
    assert DOCUMENTS[7].score is None


def test_ranker_keeps_documents_as_they_are(encoder: Encoder) -> None:
    ranker = LateInteractionRanker(encoder, recipe="colbert")
    ranker.warm_up()
    blob = Document(id="blob", blob=ByteStream(b"a"), score=9.0)
    ranked = ranker.run(QUERY, [blob, *DOCUMENTS[6:8], DOCUMENTS[7]])["documents"]
    assert [it.id for it in ranked] == ["doc 7", "doc 6", "blob"]
    assert [replace(it, score=None) for it in ranked] == [
        DOCUMENTS[7],
        DOCUMENTS[6],
        replace(blob, score=None),
    ]
    assert ranked[2].score == -1
    assert ranker.run(QUERY, []) == {"documents": []}
    with pytest.raises(InputError, match="top_k is 0"):
        ranker.run(QUERY, DOCUMENTS, 0)
    with pytest.raises(InputError, match=r"list of haystack\.Document"):
        ranker.run(QUERY, ["a"])  # type: ignore[list-item]


def question_pipeline(folder: Path) -> Pipeline:
    store = LateInteractionDocumentStore("docs", path=folder, recipe="compact")
    pipeline = Pipeline()
    pipeline.add_component("retriever", LateInteractionRetriever(store, EVEN, 5, FilterPolicy.MERGE))
    pipeline.add_component("ranker", LateInteractionRanker(top_k=1))
    template = "{% for it in documents %}{{ it.content }}{% endfor %} {{ question }}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables="*"))
    pipeline.connect("retriever", "ranker")
    pipeline.connect("ranker", "prompt.documents")
    return pipeline


async def test_pipelines_are_written_read_and_run_again(tmp_path: Path) -> None:
    store = LateInteractionDocumentStore("docs", path=tmp_path, recipe="compact")
    writing = Pipeline()
    writing.add_component("writer", DocumentWriter(store, DuplicatePolicy.SKIP))
    saved = writing.dumps()
    assert writing.run({"writer": {"documents": DOCUMENTS}})["writer"]["documents_written"] == 12
    writing = Pipeline.loads(saved, allowed_modules=["connector.*"])
    written = await writing.run_async({"writer": {"documents": DOCUMENTS}})
    assert written["writer"]["documents_written"] == 0

    asking = question_pipeline(tmp_path)
    query = "What frees memory?"
    inputs = {"retriever": {"query": query}, "ranker": {"query": query}, "prompt": {"question": query}}
    expected = {"prompt": {"prompt": f"{TEXTS[8]} {query}"}}
    assert asking.run(inputs) == expected
    with pytest.raises(DeserializationError, match="trusted-module allowlist"):
        Pipeline.loads(asking.dumps())
    again = Pipeline.loads(asking.dumps(), allowed_modules=["connector.*"])
    assert again.to_dict()["components"] == asking.to_dict()["components"]
    assert await again.run_async(inputs) == expected
    for pipeline in (writing, asking, again):
        await pipeline.close_async()
    store.close()


def test_nothing_is_reported_to_anyone() -> None:
    assert telemetry is None


def test_without_haystack_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["haystack"] = None
from connector.core.errors import MissingExtra
try:
    import connector.integrations.haystack
except MissingExtra as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "haystack is not installed" in run.stdout
    assert "qdrant-late-interaction[haystack]" in run.stdout
