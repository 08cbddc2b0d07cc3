"""LlamaIndex's own splitter, query engines, fusion, pipelines and indexes, over a real collection."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from connector import AsyncConnector, Connector, Document, Encoder, Reranker
from connector.collection.recipe import RECIPES
from connector.core.errors import DocumentError, InputError, RecipeError
from tests.conftest import TEXTS

pytest.importorskip("llama_index.core")

from llama_index.core import (
    MockEmbedding,
    SimpleKeywordTableIndex,
    StorageContext,
    VectorStoreIndex,
    get_response_synthesizer,
    schema,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from connector.integrations.llama_index import (
    LateInteractionRerank,
    LateInteractionRetriever,
    LateInteractionVectorStore,
    documents_of,
    filter_of,
    node_of,
)
from tests.server.doubles import double

QUESTION = "How do bees tell each other where flowers are?"
SUBJECTS = [
    "otters",
    "compilers",
    "bread",
    "moons",
    "indexes",
    "ash",
    "violins",
    "bees",
    "memory",
    "glaciers",
]


def sources() -> list[schema.Document]:
    """Six documents of two sentences, with an author who is not embedded."""
    return [
        schema.Document(
            id_=f"source {number}",
            text=f"{TEXTS[number]} {TEXTS[number + 6]}",
            metadata={"subject": SUBJECTS[number], "author": {"name": "Ann"}, "a": number},
            excluded_embed_metadata_keys=["author", "a"],
            excluded_llm_metadata_keys=["author"],
        )
        for number in range(6)
    ]


def splitter() -> SentenceSplitter:
    """Makes a node of each sentence; their ids are the same at each run."""
    return SentenceSplitter(
        chunk_size=30, chunk_overlap=0, id_func=lambda number, source: f"{source.node_id}/{number}"
    )


@pytest.fixture
def nodes() -> list[TextNode]:
    return [node for node in splitter().get_nodes_from_documents(sources()) if isinstance(node, TextNode)]


@pytest.fixture
def connector(tmp_path: Path, encoder: Encoder) -> Iterator[Connector]:
    with Connector.create("docs", path=tmp_path / "qdrant", model=encoder) as connector:
        yield connector


@pytest.fixture
def full(connector: Connector, nodes: list[TextNode]) -> Connector:
    connector.ingest(documents_of(nodes))
    return connector


def engine(retriever: Any, **options: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine(
        retriever, response_synthesizer=get_response_synthesizer(llm=MockLLM()), **options
    )


def test_nodes_come_back_as_they_were(full: Connector, nodes: list[TextNode]) -> None:
    found = LateInteractionRetriever(full, similarity_top_k=20).retrieve(QUESTION)
    assert len(nodes) == len(found) == 12
    given = {node.node_id: node for node in nodes}
    for it in found:
        node = given[it.node.node_id]
        assert it.node == node
        assert (it.node.hash, it.node.ref_doc_id) == (node.hash, node.ref_doc_id)
        assert list(it.node.metadata) == ["subject", "author", "a"]
        assert it.node.get_content(schema.MetadataMode.LLM) == node.get_content(schema.MetadataMode.LLM)
    best = found[0].node
    assert isinstance(best, TextNode)
    assert best.text == TEXTS[7]
    assert best.source_node is not None
    assert best.source_node.node_id == "source 1"
    assert best.prev_node is not None
    assert best.prev_node.node_id == "source 1/0"
    assert sources()[1].text[best.start_char_idx : best.end_char_idx] == best.text


def test_scores_and_words_are_those_of_the_connector(full: Connector) -> None:
    found = LateInteractionRetriever(full, similarity_top_k=3).retrieve(QUESTION)
    hits = full.search(QUESTION, k=3)
    assert [(it.node.node_id, it.score) for it in found] == [(hit.id, hit.score) for hit in hits]
    explained = full.explain(QUESTION, found[0].node.node_id)
    assert explained.score == pytest.approx(found[0].score, rel=1e-2)


def test_what_llama_index_embeds_is_encoded(nodes: list[TextNode]) -> None:
    for node, document in zip(nodes, documents_of(nodes), strict=True):
        encoded = f"{document.title}\n\n{document.text}"
        assert encoded == node.get_content(schema.MetadataMode.EMBED)
        assert "Ann" not in encoded
    assert documents_of([TextNode(text="no metadata")])[0].title is None


KINDS: list[schema.BaseNode] = [
    schema.Document(id_="a", text="A text.", metadata={"b": 1, "a": [1, {"c": None}]}),
    schema.ImageNode(id_="a", text="A caption.", image_path="bee.png", image="aGVsbG8="),
    schema.Node(id_="a", text_resource=schema.MediaResource(text="A text.", path=Path("notes.txt"))),
    IndexNode(id_="a", text="About bees.", index_id="bees"),
    IndexNode(id_="a", text="About bees.", index_id="bees", obj=TextNode(id_="b", text="Bees.")),
    TextNode(
        id_="a",
        text="Früh \U0001f41d\n",
        metadata_template="{key} = {value}",
        metadata_separator="; ",
        text_template="{metadata_str} | {content}",
        mimetype="text/markdown",
        relationships={
            schema.NodeRelationship.PARENT: schema.RelatedNodeInfo(node_id="p", metadata={"x": 1.5}),
            schema.NodeRelationship.CHILD: [
                schema.RelatedNodeInfo(node_id="c"),
                TextNode().as_related_node_info(),
            ],
        },
    ),
]


def test_every_kind_of_node_comes_back(connector: Connector) -> None:
    given = [node.model_copy(update={"id_": f"node {n}"}) for n, node in enumerate(KINDS)]
    connector.ingest(documents_of(given))
    assert [node_of(it) for it in connector.get([node.node_id for node in given])] == given


def test_embeddings_are_left_out() -> None:
    (document,) = documents_of([TextNode(text="bees", embedding=[1.0])])
    assert node_of(document).embedding is None


class Mine(TextNode):
    """A kind of node that LlamaIndex does not know."""


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (TextNode(id_="x", text=" "), "'x': text is empty"),
        (
            TextNode(id_="x", text="t", metadata={"day": date(2024, 1, 1)}),
            "metadata would not come back from JSON",
        ),
        (TextNode(id_="x", text="t", metadata={"_llama_index": 1}), "'_llama_index' is taken"),
        (
            TextNode(
                id_="x",
                text="t",
                relationships={
                    schema.NodeRelationship.PARENT: schema.RelatedNodeInfo(
                        node_id="p", metadata={"day": date(2024, 1, 1)}
                    )
                },
            ),
            "'x': relationships would not come back",
        ),
        (
            schema.Document(id_="x", text="t", image_resource=schema.MediaResource(data=b"\x89PNG")),
            "'x': image_resource would not come back",
        ),
        (IndexNode(id_="x", text="t", index_id="i", obj=object()), "'x' cannot be stored"),
        (Mine(id_="x", text="t"), "'x' is a Mine; give one of"),
        (NodeWithScore(node=TextNode(text="t")), "is a NodeWithScore; give one of"),
    ],
)
def test_what_would_be_lost_is_refused(node: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        documents_of([node])


def test_documents_that_were_never_nodes_are_found(connector: Connector) -> None:
    connector.ingest(
        [
            Document(id="bees", text="They dance.", title="Bees", metadata={"a": 1}),
            Document(id="x", text="Ash."),
        ]
    )
    (found,) = LateInteractionRetriever(connector, similarity_top_k=1).retrieve("bees")
    assert found.node.metadata == {"title": "Bees", "a": 1}
    assert found.node.get_content() == "They dance."
    assert found.node.node_id == found.node.ref_doc_id == "bees"


async def test_asynchronous_retrieval(tmp_path: Path, encoder: Encoder, nodes: list[TextNode]) -> None:
    async with await AsyncConnector.create("docs", path=tmp_path, model=encoder) as connector:
        await connector.ingest(documents_of(nodes))
        retriever = LateInteractionRetriever(connector, similarity_top_k=3)
        found = await retriever.aretrieve(QUESTION)
        assert found[0].node.get_content() == TEXTS[7]
        assert retriever.retrieve(QUESTION) == found
        assert (
            await LateInteractionRetriever(connector.connector, similarity_top_k=3).aretrieve(QUESTION)
            == found
        )


async def test_an_asynchronous_connector_is_awaited(encoder: Encoder, nodes: list[TextNode]) -> None:
    client = QdrantClient(":memory:")
    async with await AsyncConnector.create("docs", client=client, model=encoder) as connector:
        await connector.ingest(documents_of(nodes))
        retriever = LateInteractionRetriever(connector)
        found = await retriever.aretrieve(QUESTION)
        assert found[0].node.get_content() == TEXTS[7]
        assert await asyncio.to_thread(retriever.retrieve, QUESTION) == found


def test_search_options_are_passed_on(full: Connector) -> None:
    retriever = LateInteractionRetriever(full, similarity_top_k=4, rerank=None, candidates=5)
    assert [it.score for it in retriever.retrieve(QUESTION)] == [
        hit.score for hit in full.search(QUESTION, 4, rerank=None, candidates=5)
    ]
    with pytest.raises(InputError, match="no encoding to find candidates by"):
        LateInteractionRetriever(full, candidates_by="muvera").retrieve(QUESTION)
    with pytest.raises(InputError, match="query is ' '"):
        LateInteractionRetriever(full).retrieve(" ")
    with pytest.raises(TypeError, match="nothing"):
        LateInteractionRetriever(full, nothing=1).retrieve(QUESTION)  # type: ignore[call-arg]


METADATA: list[dict[str, Any]] = [
    {"n": 1, "tags": ["a", "b"], "name": "Bees Dance", "day": "2024-05-01", "Header 1": "x", "new": True},
    {"n": 2.0, "tags": ["b", "c"], "name": "Otters", "day": "2023-05-01", "in": {"ner": 1}},
    {"n": 3, "tags": [], "name": "bees sleep", "share": 0.1 + 0.2, "größe": 2**60},
    {"tags": None, "name": "", "n": None},
]
OP = FilterOperator


@pytest.fixture(scope="module")
def fitting(encoder: Encoder) -> Iterator[Callable[[Any], set[int]]]:
    """Gives the numbers of those of METADATA that fit a filter."""
    with Connector.create("docs", client=QdrantClient(":memory:"), model=encoder) as connector:
        connector.ingest(
            documents_of([TextNode(id_=str(n), text="bees", metadata=it) for n, it in enumerate(METADATA)])
        )

        def fitting(filters: Any) -> set[int]:
            retriever = LateInteractionRetriever(connector, filters=filters)
            return {int(it.node.node_id) for it in retriever.retrieve("bees")}

        yield fitting


@pytest.mark.parametrize(
    ("key", "operator", "value", "expected"),
    [
        ("n", OP.EQ, 1, {0}),
        ("n", OP.EQ, 2, {1}),
        ("n", OP.EQ, 3.0, {2}),
        ("größe", OP.EQ, 2**60, {2}),
        ("share", OP.EQ, 0.1 + 0.2, {2}),
        ("share", OP.GT, 0.1 + 0.2, set()),
        ("new", OP.EQ, 1, {0}),
        ("new", OP.NE, 1, {1, 2, 3}),
        ("name", OP.EQ, "Otters", {1}),
        ("in.ner", OP.EQ, 1, {1}),
        ("Header 1", OP.EQ, "x", {0}),
        ("n", OP.NE, 1, {1, 2, 3}),
        ("name", OP.NE, "Otters", {0, 2, 3}),
        ("n", OP.GT, 1, {1, 2}),
        ("n", OP.GTE, 2, {1, 2}),
        ("n", OP.LT, 2.5, {0, 1}),
        ("n", OP.LTE, 1, {0}),
        ("day", OP.GT, "2024-01-01", {0}),
        ("day", OP.LTE, "2023-05-01", {1}),
        ("n", OP.IN, [1, 2], {0, 1}),
        ("name", OP.IN, ["Otters", "x"], {1}),
        ("n", OP.IN, [], set()),
        ("n", OP.NIN, [1, 2], {2, 3}),
        ("n", OP.NIN, [], {0, 1, 2, 3}),
        ("tags", OP.NIN, ["a"], {1, 2, 3}),
        ("tags", OP.ANY, ["a", "c"], {0, 1}),
        ("tags", OP.ALL, ["a", "b"], {0}),
        ("tags", OP.CONTAINS, "b", {0, 1}),
        ("name", OP.TEXT_MATCH, "Bees", {0, 2}),
        ("name", OP.TEXT_MATCH_INSENSITIVE, "dance bees", {0}),
        ("tags", OP.IS_EMPTY, None, {2, 3}),
        ("day", OP.IS_EMPTY, None, {2, 3}),
    ],
)
def test_operators(
    key: str, operator: FilterOperator, value: Any, expected: set[int], fitting: Callable[[Any], set[int]]
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])
    assert fitting(filters) == expected


def test_every_operator_is_translated() -> None:
    tested: set[FilterOperator] = set()
    for mark in test_operators.pytestmark:  # type: ignore[attr-defined]
        tested |= {case[1] for case in mark.args[1]}
    assert tested == set(FilterOperator)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (FilterCondition.AND, {0}),
        (None, {0}),
        (FilterCondition.OR, {0, 1, 2}),
        (FilterCondition.NOT, {3}),
    ],
)
def test_conditions(
    condition: FilterCondition | None, expected: set[int], fitting: Callable[[Any], set[int]]
) -> None:
    one = MetadataFilter(key="n", operator=OP.LT, value=3)
    other = MetadataFilter(key="name", operator=OP.TEXT_MATCH, value="bees")
    assert fitting(MetadataFilters(filters=[one, other], condition=condition)) == expected
    nested = MetadataFilters(filters=[MetadataFilters(filters=[one, other], condition=condition)])
    assert fitting(nested) == expected
    assert fitting(MetadataFilters(filters=[], condition=condition)) == {0, 1, 2, 3}


def test_filters_on_edge_and_those_of_qdrant(full: Connector) -> None:
    filters = MetadataFilters(
        filters=[MetadataFilter(key="author.name", value="Ann"), MetadataFilter(key="a", value=1)]
    )
    retriever = LateInteractionRetriever(full, filters=filters)
    assert {it.node.ref_doc_id for it in retriever.retrieve("bees")} == {"source 1"}
    own = models.Filter(
        must=[models.FieldCondition(key="_llama_index.ref_doc_id", match=models.MatchValue(value="source 2"))]
    )
    assert {it.node.ref_doc_id for it in LateInteractionRetriever(full, filters=own).retrieve("bees")} == {
        "source 2"
    }


@pytest.mark.parametrize(
    ("operator", "value", "message"),
    [
        (OP.EQ, None, "give one text or number"),
        (OP.GT, [1], "give one text or number"),
        (OP.LT, "soon", "give a number, or a date"),
        (OP.IN, "a,b", "give a list"),
        ("near", "a", "operator 'near' is not known"),
    ],
)
def test_filters_that_cannot_be_used(operator: Any, value: Any, message: str) -> None:
    filter = MetadataFilter.model_construct(key="n", operator=operator, value=value)
    with pytest.raises(InputError, match=message):
        filter_of(MetadataFilters.model_construct(filters=[filter], condition=FilterCondition.AND))
    with pytest.raises(InputError, match="filters is a dict"):
        filter_of({"n": 1})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="condition 'xor'"):
        filter_of(MetadataFilters.model_construct(filters=[], condition="xor"))


async def test_query_engine(full: Connector) -> None:
    heard = LlamaDebugHandler(print_trace_on_end=False)
    callbacks = CallbackManager([heard])
    retriever = LateInteractionRetriever(full, similarity_top_k=3, callback_manager=callbacks)
    asked = engine(retriever, callback_manager=callbacks)
    response = asked.query(QUESTION)
    assert response.source_nodes[0].node.get_content() == TEXTS[7]
    assert TEXTS[7] in str(response)  # MockLLM says its prompt again
    assert len(heard.get_event_pairs(CBEventType.RETRIEVE)) == 1
    assert str(await asked.aquery(QUESTION)) == str(response)


async def test_fusion(full: Connector) -> None:
    words = SimpleKeywordTableIndex(nodes_in(full), llm=MockLLM()).as_retriever(retriever_mode="simple")
    fused = QueryFusionRetriever(
        [LateInteractionRetriever(full), words],
        llm=MockLLM(),
        num_queries=1,
        similarity_top_k=4,
        mode="reciprocal_rerank",
    )
    assert fused.retrieve(QUESTION)[0].node.get_content() == TEXTS[7]
    assert (await fused.aretrieve(QUESTION))[0].node.get_content() == TEXTS[7]


def nodes_in(connector: Connector) -> list[schema.BaseNode]:
    ids = [hit.id for hit in connector.search("anything", k=100)]
    return [node_of(it) for it in connector.get(sorted(ids))]


def test_an_index_node_leads_to_its_object(connector: Connector) -> None:
    connector.ingest(documents_of([IndexNode(text="All about bees.", index_id="bees")]))
    retriever = LateInteractionRetriever(connector, object_map={"bees": TextNode(text="They dance.")})
    assert retriever.retrieve("bees")[0].node.get_content() == "They dance."


@pytest.fixture(scope="module")
def rerank(encoder: Encoder) -> LateInteractionRerank:
    return LateInteractionRerank(top_n=2, model=encoder)


def given() -> list[NodeWithScore]:
    """Nodes in an order that is of no use."""
    return [
        NodeWithScore(node=TextNode(id_=str(n), text=text), score=1 / (n + 1)) for n, text in enumerate(TEXTS)
    ]


async def test_rerank(rerank: LateInteractionRerank, encoder: Encoder) -> None:
    before = given()
    best = rerank.postprocess_nodes(before, query_str=QUESTION)
    assert before == given()
    assert best[0].node.node_id == "7"
    expected = sorted(Reranker(encoder).scores(QUESTION, TEXTS), reverse=True)[:2]
    assert [it.score for it in best] == pytest.approx(expected)
    assert await rerank.apostprocess_nodes(before, QueryBundle(QUESTION)) == best
    kept = LateInteractionRerank(top_n=99, model=encoder, keep_retrieval_score=True)
    scored = kept.postprocess_nodes(before, query_str=QUESTION)
    assert len(scored) == len(TEXTS)
    assert scored[0].node.metadata == {"retrieval_score": 1 / 8}
    assert before == given()


def test_rerank_in_a_query_engine(encoder: Encoder) -> None:
    heard = LlamaDebugHandler(print_trace_on_end=False)
    words = SimpleKeywordTableIndex([it.node for it in given()], llm=MockLLM())
    best = LateInteractionRerank(top_n=1, model=encoder)
    asked = engine(
        words.as_retriever(retriever_mode="simple"),
        node_postprocessors=[best],
        callback_manager=CallbackManager([heard]),
    )
    response = asked.query("What do a program and a telescope do with flowers in the hive?")
    assert [it.node.node_id for it in response.source_nodes] == ["7"]
    ((_, end),) = heard.get_event_pairs(CBEventType.RERANKING)
    assert end.payload[EventPayload.NODES] == response.source_nodes


def test_metadata_that_fills_the_window_leaves_room_for_the_text(
    rerank: LateInteractionRerank, connector: Connector, caplog: pytest.LogCaptureFixture
) -> None:
    """The texts were lost, so that all scored alike."""
    nodes = [TextNode(id_=text[:9], text=text, metadata={"path": "a/b/" * 200}) for text in TEXTS]
    report = connector.ingest(documents_of(nodes))
    assert (report.titles_cut, report.truncated) == (len(TEXTS), 0)
    (found,) = LateInteractionRetriever(connector, similarity_top_k=1).retrieve(QUESTION)
    assert found.node == nodes[7]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        best, _ = rerank.postprocess_nodes([NodeWithScore(node=it) for it in nodes], query_str=QUESTION)
    assert best.node == nodes[7]
    (warning,) = (record.getMessage() for record in caplog.records)
    assert f"metadata of {len(TEXTS)} of {len(TEXTS)} nodes" in warning


def test_rerank_of_little(rerank: LateInteractionRerank) -> None:
    assert rerank.postprocess_nodes([], query_str=QUESTION) == []
    with pytest.raises(InputError, match="query_bundle is None"):
        rerank.postprocess_nodes(given())
    blank = [
        NodeWithScore(node=schema.ImageNode(image_url="https://example.org/a.png")),
        NodeWithScore(node=schema.Node(image_resource=schema.MediaResource(data=b"\x89PNG"))),
        NodeWithScore(node=TextNode(text="", metadata={"caption": TEXTS[7]})),
        NodeWithScore(
            node=TextNode(text=TEXTS[0], metadata={"x": TEXTS[7]}, excluded_embed_metadata_keys=["x"])
        ),
    ]
    best = rerank.postprocess_nodes(blank, query_str=QUESTION)
    assert best[0].node is blank[2].node  # the metadata is read, what is excluded is not
    assert rerank.postprocess_nodes(blank[:2], query_str=QUESTION)[0].score == -1


def test_rerank_is_serialized(rerank: LateInteractionRerank, encoder: Encoder) -> None:
    data = rerank.to_dict()
    assert data == {
        "top_n": 2,
        "model": encoder.name,
        "recipe": None,
        "device": None,
        "keep_retrieval_score": False,
        "class_name": "LateInteractionRerank",
    }
    again = LateInteractionRerank.from_dict(data)
    assert again.postprocess_nodes(given(), query_str=QUESTION) == rerank.postprocess_nodes(
        given(), query_str=QUESTION
    )
    own = LateInteractionRerank(model=encoder, recipe=RECIPES["colbert"])
    assert LateInteractionRerank.from_json(own.to_json()).recipe == RECIPES["colbert"]


def test_reranks_that_cannot_be_made(encoder: Encoder) -> None:
    with pytest.raises(RecipeError, match="stores no tokens"):
        LateInteractionRerank(model=encoder, recipe="dense")
    with pytest.raises(ValueError, match="greater than 0"):
        LateInteractionRerank(top_n=0, model=encoder)


@pytest.fixture
def index(connector: Connector) -> VectorStoreIndex:
    """An index of the six documents, made by `from_vector_store`."""
    store = LateInteractionVectorStore(connector)
    index = VectorStoreIndex.from_vector_store(
        store, embed_model=MockEmbedding(embed_dim=1), transformations=[splitter()]
    )
    for source in sources():
        index.insert(source)
    return index


async def test_vector_store_index(index: VectorStoreIndex, connector: Connector) -> None:
    assert connector.stats().documents == 12
    asked = index.as_query_engine(llm=MockLLM(), similarity_top_k=2, vector_store_kwargs={"candidates": 50})
    response = asked.query(QUESTION)
    assert response.source_nodes[0].node.get_content() == TEXTS[7]
    assert response.source_nodes[0].score == connector.search(QUESTION, k=1)[0].score
    assert str(await asked.aquery(QUESTION)) == str(response)
    only = MetadataFilters(filters=[MetadataFilter(key="a", value=2)])
    found = index.as_retriever(filters=only).retrieve(QUESTION)
    assert {it.node.ref_doc_id for it in found} == {"source 2"}
    found = index.as_retriever(doc_ids=["source 3"], similarity_top_k=9).retrieve(QUESTION)
    assert {it.node.ref_doc_id for it in found} == {"source 3"}


async def test_vector_store_index_deletes_and_updates(index: VectorStoreIndex, connector: Connector) -> None:
    index.delete_ref_doc("source 1")
    await index.adelete_ref_doc("source 2")
    assert connector.matching_ids(["source 1/0", "source 1/1", "source 2/0", "source 3/0"]) == ["source 3/0"]
    index.delete_nodes(["source 3/0", "not there"])
    await index.adelete_nodes(["source 3/1"])
    assert connector.stats().documents == 6
    changed = sources()[0]
    changed.set_content("Only bees now.")
    index.update_ref_doc(changed)
    assert connector.matching_ids(["source 0/0", "source 0/1"]) == ["source 0/0"]
    assert connector.get(["source 0/0"])[0].text == "Only bees now."
    await index.ainsert_nodes([TextNode(id_="new", text="A node.")])
    assert connector.matching_ids(["new"]) == ["new"]


def test_vector_store_deletes_nothing_unasked(full: Connector) -> None:
    store, no_year = LateInteractionVectorStore(full), MetadataFilter(key="a", value=[], operator="nin")
    for asked in ([], [MetadataFilters(filters=[])], [no_year]):
        with pytest.raises(InputError, match=r"asks for nothing|ids or a filter"):
            store.delete_nodes(filters=MetadataFilters(filters=asked))
    store.delete_nodes([], MetadataFilters(filters=[MetadataFilter(key="a", value=1)]))
    store.delete_nodes([])
    assert full.count() == 12


def test_index_from_documents(connector: Connector) -> None:
    storage = StorageContext.from_defaults(vector_store=LateInteractionVectorStore(connector))
    VectorStoreIndex.from_documents(
        sources(), storage, transformations=[splitter()], embed_model=MockEmbedding(embed_dim=1)
    )
    assert connector.search(QUESTION, k=1)[0].text == TEXTS[7]


async def test_pipeline_follows_its_documents(connector: Connector) -> None:
    pipeline = IngestionPipeline(
        transformations=[splitter(), MockEmbedding(embed_dim=1)],
        vector_store=LateInteractionVectorStore(connector),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )
    assert len(pipeline.run(documents=sources())) == 12
    assert len(pipeline.run(documents=sources())) == 0
    changed = sources()[0]
    changed.set_content("Only bees now.")
    assert len(await pipeline.arun(documents=[changed])) == 1
    assert connector.matching_ids(["source 0/0", "source 0/1"]) == ["source 0/0"]


async def test_vector_store_alone(connector: Connector, caplog: pytest.LogCaptureFixture) -> None:
    store = LateInteractionVectorStore(connector)
    assert store.client is connector
    bad = [TextNode(id_="good", text="Bees."), TextNode(id_="long", text="x" * 100_001)]
    with pytest.raises(DocumentError, match="'long'"):
        store.add(bad)
    assert connector.stats().documents == 0
    with caplog.at_level(logging.WARNING):
        assert store.add([TextNode(id_="cut", text="bees " * 300)]) == ["cut"]
    assert "1 of 1 passages were longer than the model's window" in caplog.text
    await store.async_add([TextNode(id_="a", text="Bees."), TextNode(id_="b", text="Ash.")])
    result = store.query(VectorStoreQuery(query_str="ash", node_ids=["a", "b"], similarity_top_k=5))
    assert result.ids == ["b", "a"]
    with pytest.raises(InputError, match="query mode 'hybrid'"):
        store.query(VectorStoreQuery(query_str="ash", mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(InputError, match="query is ''"):
        store.query(VectorStoreQuery(query_embedding=[1.0]))
    with pytest.raises(InputError, match="ids or a filter"):
        store.delete_nodes()
    with pytest.raises(InputError, match="fast: this vector store has no such option"):
        store.delete("a", fast=True)


OPTIONS: dict[str, dict[str, Any]] = {
    "offset": {"offset": 2},
    "min_similarity": {"min_similarity": 0.3},
    "mmr": {"mmr": 0.3},
    "group_by": {"group_by": "subject", "group_size": 2},
}


@pytest.mark.parametrize("case", OPTIONS)
async def test_options_reach_the_search(full: Connector, case: str) -> None:
    options = OPTIONS[case]
    expected = [hit.id for hit in full.search(QUESTION, 3, **options)]
    assert 0 < len(expected) <= 6
    assert expected != [hit.id for hit in full.search(QUESTION, 3)]
    retriever = LateInteractionRetriever(full, similarity_top_k=3, **options)
    assert [it.node.node_id for it in retriever.retrieve(QUESTION)] == expected
    assert [it.node.node_id for it in await retriever.aretrieve(QUESTION)] == expected
    asked = VectorStoreQuery(query_str=QUESTION, similarity_top_k=3)
    assert LateInteractionVectorStore(full).query(asked, **options).ids == expected


def test_options_that_cannot_be_used_are_named_at_once(full: Connector) -> None:
    for wrong in ({"offset": -1}, {"mmr": 2}, {"group_size": 0}, {"min_similarity": "much"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            LateInteractionRetriever(full, **wrong)  # type: ignore[arg-type]


async def test_maximal_marginal_relevance(index: VectorStoreIndex, connector: Connector) -> None:
    def found(weight: float, **options: Any) -> list[str]:
        return [hit.id for hit in connector.search(QUESTION, 6, mmr=weight, **options)]

    assert len({tuple(found(weight)) for weight in (0.1, 0.5, 1)}) == 3
    asked: dict[str, Any] = {"vector_store_query_mode": "mmr", "similarity_top_k": 6}
    for kwargs, expected in (
        ({}, found(0.5)),
        ({"mmr_threshold": 0.1}, found(0.1)),
        ({"mmr_threshold": 1, "candidates": 4}, found(1, candidates=4)),
        ({"mmr": 0.1}, found(0.1)),
    ):
        retriever = index.as_retriever(**asked, vector_store_kwargs=kwargs)
        assert [it.node.node_id for it in retriever.retrieve(QUESTION)] == expected
        assert [it.node.node_id for it in await retriever.aretrieve(QUESTION)] == expected
    store, mode = LateInteractionVectorStore(connector), VectorStoreQueryMode.MMR
    query = VectorStoreQuery(query_str=QUESTION, similarity_top_k=6, mode=mode, mmr_threshold=0.1)
    assert store.query(query).ids == (await store.aquery(query)).ids == found(0.1)
    assert store.query(query, mmr_threshold=0.5).ids == found(0.5)
    query.mmr_threshold = 0.0
    assert store.query(query).ids == found(0)
    query.mode, query.mmr_threshold = VectorStoreQueryMode.DEFAULT, 0.1  # which is for mmr alone
    assert store.query(query).ids == found(1)
    with pytest.raises(InputError, match="mmr is 3"):
        store.query(VectorStoreQuery(query_str=QUESTION, mode=mode, mmr_threshold=3))
    with pytest.raises(TypeError, match=r"no option 'mmr_prefetch_factor'; it has .*candidates"):
        store.query(query, mmr_prefetch_factor=4)


async def test_many_at_once(full: Connector) -> None:
    retriever = LateInteractionRetriever(full, similarity_top_k=1)
    found = await asyncio.gather(*(retriever.aretrieve(text) for text in TEXTS[:6]))
    assert [it[0].node.get_content() for it in found] == TEXTS[:6]


def test_without_llama_index() -> None:
    code = "import sys; sys.modules['llama_index'] = None; import connector.integrations.llama_index"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1] == (
        "connector.core.errors.MissingExtra: llama_index is not installed; "
        "install it with: pip install 'qdrant-late-interaction[llama-index]'"
    )


def test_deleting_a_document_works_on_a_strict_server(encoder: Encoder) -> None:
    """It filters by the source of nodes, which has an index since the first ones came."""
    with Connector.create("nodes", client=double(strict=True), model=encoder, recipe="dense") as connector:
        store = LateInteractionVectorStore(connector)
        source = {schema.NodeRelationship.SOURCE: schema.RelatedNodeInfo(node_id="book")}
        store.add([TextNode(id_="1", text="a page", relationships=source), TextNode(id_="2", text="another")])
        store.delete("book")
        assert connector.count() == 1
