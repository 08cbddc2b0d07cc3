"""LangChain's own tests of vector stores and retrievers, a chain, and what LangChain does not test."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from qdrant_client import QdrantClient, models

from connector import AsyncConnector, Connector, Encoder, Fusion, Recipe, Strategy
from connector import Document as Own
from connector.core.errors import (
    CollectionError,
    CollectionNotFound,
    DocumentError,
    InputError,
    StoreUnavailable,
)
from connector.scoring.alignment import TopK

pytest.importorskip("langchain_core", reason="LangChain is not installed; install the extra langchain")
pytest.importorskip("langchain_tests", reason="langchain-tests is not installed; install the extra dev")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from connector.integrations.langchain import MATCH, LateInteractionRetriever, LateInteractionVectorStore

Store = LateInteractionVectorStore

QUERY = "how do bees share where food is"
BEES = "doc 7"
WEIGHED = Recipe(name="weighed", layout="multivector", codec="float16", head="own", saliency=True)
RECIPES: list[str | Recipe] = [
    "dense",
    "colbert",
    "pooled",
    "compact",
    "aligner",
    WEIGHED,
    Recipe(name="own mean", layout="codes", codec="float16", alignment="top-2"),
    Recipe(name="weighed words", layout="multivector", codec="float16", query_reduction="idf-weight"),
]


class TestStandardStore(VectorStoreIntegrationTests):
    """On Edge, with a store of its own, and with an asynchronous connector."""

    @pytest.fixture(params=["name", "async"])
    async def vectorstore(
        self, request: pytest.FixtureRequest, encoder: Encoder, tmp_path: Path
    ) -> AsyncIterator[Store]:
        if request.param == "name":
            with Store("docs", path=tmp_path, model=encoder, recipe="compact") as store:
                yield store
        else:
            async with await AsyncConnector.create("docs", path=tmp_path, model=encoder) as connector:
                yield Store(connector)


class TestStandardRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def use(self, filled: Connector) -> None:
        self.filled = filled

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return LateInteractionRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"connector": self.filled}

    @property
    def retriever_query_example(self) -> str:
        return QUERY


class TestStandardStoreRetriever(TestStandardRetriever):
    """What `as_retriever` gives, which has k among its search_kwargs."""

    @property
    def retriever_constructor(self) -> Any:
        return lambda connector, k=4: Store(connector).as_retriever(search_kwargs={"k": k})


@pytest.fixture(scope="module")
def texts(documents: list[Own]) -> list[Document]:
    return [Document(it.text, id=it.id, metadata=dict(it.metadata)) for it in documents]


@pytest.fixture(scope="module")
def filled(
    tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, texts: list[Document]
) -> Iterator[Connector]:
    """Twelve documents, which no test changes."""
    folder = tmp_path_factory.mktemp("langchain")
    with Store.from_documents(texts, collection="docs", path=folder, model=encoder) as store:
        yield store.connector


def chain_of(retriever: BaseRetriever) -> Runnable[str, str]:
    """Answers by quoting the first passage of its prompt: no language model is asked."""

    def passages(documents: list[Document]) -> str:
        return "\n".join(f"[{it.id}] {it.page_content}" for it in documents)

    def quote(prompt: PromptValue) -> str:
        return prompt.to_string().splitlines()[1]

    prompt = ChatPromptTemplate.from_template("Passages:\n{passages}\n\nQuestion: {question}")
    asked = {"passages": retriever | passages, "question": RunnablePassthrough()}
    return asked | prompt | RunnableLambda(quote) | StrOutputParser()


async def test_a_chain_answers_from_the_passages(filled: Connector, texts: list[Document]) -> None:
    answer = f"[{BEES}] {texts[7].page_content}"
    for retriever in (LateInteractionRetriever(connector=filled), Store(filled).as_retriever()):
        chain = chain_of(retriever)
        assert chain.invoke(QUERY) == answer
        assert await chain.ainvoke(QUERY) == answer
        assert chain.batch([QUERY, texts[3].page_content])[1].startswith("[doc 3]")


async def test_documents_come_back_as_they_went(encoder: Encoder, name: str, place: dict[str, Any]) -> None:
    metadata = {"year": 2021, "author": {"name": "Ünal", "tags": ["a", None, 1.5, True]}, "title": "Bees"}
    indexes = {"author.name": "keyword"}
    with Store(name, model=encoder, recipe="compact", indexes=indexes, **place) as store:
        ids = store.add_documents(
            [Document("Bees dance.", metadata=metadata), Document("Otters sleep.", id="otter")]
        )
        assert ids[1] == "otter"
        bees, otter = (
            Document("Bees dance.", id=ids[0], metadata=metadata),
            Document("Otters sleep.", id="otter"),
        )
        assert store.similarity_search("bees", k=2) == [bees, otter]
        assert store.get_by_ids(["otter", "none", ids[0]]) == [otter, bees]
        assert await store.aget_by_ids(["otter"]) == [otter]
        (best, score), *_ = store.similarity_search_with_score("bees")
        assert (best, score) == (bees, store.connector.search("bees")[0].score)
        where = models.Filter(
            must=[models.FieldCondition(key="author.name", match=models.MatchValue(value="Ünal"))]
        )
        assert store.similarity_search("otter", filter=where) == [bees]
        assert await store.asimilarity_search("otter", k=1, filter=where, candidates=5) == [bees]
        assert store.delete(filter=where)
        assert store.similarity_search("bees") == [otter]
        store.connector.drop()


async def test_texts_come_with_metadata_and_ids(encoder: Encoder, tmp_path: Path) -> None:
    texts, metadatas = ["Bees dance.", "Otters sleep."], [{"n": 1}, {"n": 2}]
    place: dict[str, Any] = {"path": tmp_path, "model": encoder, "recipe": "dense"}
    with Store.from_texts(texts, None, metadatas, ids=["a", "b"], collection="docs", **place) as store:
        assert store.get_by_ids(["b"]) == [Document("Otters sleep.", id="b", metadata={"n": 2})]
        (made,) = store.add_texts(iter(["Moles dig."]))
        assert (made2 := await store.aadd_texts(["Moles dig."], ids=["mole"])) == ["mole"]
        assert {it.page_content for it in store.get_by_ids([made, *made2])} == {"Moles dig."}
    with await Store.afrom_texts(texts, metadatas=metadatas, collection="docs", **place) as store:
        assert store.connector.stats().documents == 6
    async with await AsyncConnector.open("docs", path=tmp_path, model=encoder) as connector:
        other = await Store.afrom_documents([Document("Ants walk.", id="ant")], collection=connector)
        assert [it.id for it in await other.asimilarity_search("ants", k=1)] == ["ant"]


def test_stores_open_one_folder_in_a_row(encoder: Encoder, tmp_path: Path, texts: list[Document]) -> None:
    with Store("docs", path=tmp_path, model=encoder, recipe="compact") as store:
        store.add_documents(texts)
    store.close()
    with Store("docs", path=tmp_path) as store:  # it knows its recipe and its model
        assert store.similarity_search(QUERY, k=1) == [texts[7]]
        assert store.connector.recipe.name == "compact"
    with pytest.raises(InputError, match="closed"):
        store.similarity_search(QUERY)
    with pytest.raises(InputError, match="recipe 'compact', not 'dense'"):
        Store("docs", path=tmp_path, recipe="dense")
    with Connector.open("docs", path=tmp_path, model=encoder) as connector:
        Store(connector).close()
        assert connector.search(QUERY, k=1)[0].id == BEES


def test_a_bad_document_leaves_nothing_behind(encoder: Encoder, tmp_path: Path) -> None:
    place: dict[str, Any] = {"collection": "docs", "path": tmp_path, "model": encoder}
    good = Document("Bees dance.", id="good")
    bad = {
        "text is empty": Document(" "),
        "NUL": Document("a\0b"),
        "metadata.seen": Document("Otters.", metadata={"seen": float("nan")}),
        "another content": Document("Otters.", id="good"),
        "100,000": Document("otter " * 20_000),
    }
    for reason, document in bad.items():
        with pytest.raises(DocumentError, match=reason):
            Store.from_documents([good, document], **place)
    with pytest.raises(CollectionNotFound):
        Connector.open("docs", path=tmp_path)
    with Store(**place) as store:
        for reason, document in bad.items():
            with pytest.raises(DocumentError, match=reason):
                store.add_documents([good, document])
        assert store.connector.stats().documents == 0


async def test_deleting(encoder: Encoder, tmp_path: Path, texts: list[Document]) -> None:
    with Store.from_documents(texts, collection="docs", path=tmp_path, model=encoder) as store:
        assert store.delete([])
        assert store.delete(["none", BEES])
        assert await store.adelete(["none"])
        assert store.connector.stats().documents == 11
        with pytest.raises(InputError, match="either ids or a filter"):
            store.delete(filter=None)
        with pytest.raises(InputError, match="asks for nothing"):
            store.delete(filter=models.Filter(must=[models.Filter(should=[])]))
        with pytest.raises(InputError, match="asks for nothing"):
            await store.adelete(filter=models.Filter(must_not=[models.HasIdCondition(has_id=[])]))
        assert store.delete()
        assert store.similarity_search(QUERY) == []
        store.add_documents(texts[:2])
        assert await store.adelete(None)
        assert store.connector.stats().documents == 0


def test_what_cannot_be_used_is_named(encoder: Encoder, tmp_path: Path, filled: Connector) -> None:
    embedding, anything = DeterministicFakeEmbedding(size=6), [Document("Bees dance.")]
    with pytest.raises(InputError, match="a DeterministicFakeEmbedding, but the collection has its own"):
        Store.from_documents(anything, embedding, collection=filled)
    store = Store(filled)
    with pytest.raises(InputError, match="1 documents and 2 ids"):
        store.add_documents(anything, ids=["a", "b"])
    with pytest.raises(InputError, match="2 texts and 1 metadatas"):
        store.add_texts(["a", "b"], [{}])
    with pytest.raises(InputError, match="no option metadata"):
        store.add_texts(["a"], metadata=[{}])
    with pytest.raises(InputError, match="which is open"):
        Store(filled, path=tmp_path)
    wrong: Any = QdrantClient
    with pytest.raises(InputError, match="collection's name, or a connector"):
        Store(wrong)
    with pytest.raises(InputError, match="give one of path, url and client"):
        Store("docs", model=encoder)
    with pytest.raises(StoreUnavailable):
        Store("docs", url="http://127.0.0.1:9", model=encoder)
    with pytest.raises(InputError, match=r"filter is .*; it should be an instance of Filter"):
        store.similarity_search(QUERY, filter={"number": 7})
    with pytest.raises(TypeError, match="no option 'top'"):
        store.similarity_search(QUERY, top=3)
    assert filled.stats().documents == 12


def test_a_collection_that_was_dropped_is_missed(encoder: Encoder, tmp_path: Path) -> None:
    with (
        Store("docs", path=tmp_path, model=encoder) as store,
        Connector.open("docs", path=tmp_path) as connector,
    ):
        connector.drop()
        with pytest.raises(CollectionNotFound, match="docs"):
            store.similarity_search(QUERY)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda it: getattr(it, "name", it))
async def test_relevance_is_from_0_to_1_and_orders_alike(
    recipe: str | Recipe, encoder: Encoder, tmp_path: Path, texts: list[Document]
) -> None:
    place: dict[str, Any] = {"path": tmp_path, "model": encoder, "recipe": recipe}
    with Store.from_documents(texts, collection="docs", **place) as store:
        found = store.similarity_search_with_relevance_scores(QUERY, k=12)
        plain = store.similarity_search(QUERY, k=12)
        if recipe is not WEIGHED:  # by which Qdrant orders otherwise than by the mean
            assert [document for document, _ in found] == plain
        assert await store.asimilarity_search_with_relevance_scores(QUERY, k=12) == found
        assert all(0 <= score <= 1 for _, score in found)
        assert found[0][1] > 0.3 > found[-1][1]
        itself = store.similarity_search_with_relevance_scores(texts[4].page_content, k=1)
        assert itself[0][0] == texts[4]
        assert itself[0][1] > 0.6


def test_relevance_is_maxsim_over_the_number_of_tokens(filled: Connector, encoder: Encoder) -> None:
    tokens = int((~encoder.encode_queries([QUERY])[0].special).sum())  # which weigh 1 on the mean
    alone: Any = {"fusion": "sum:tokens=1"}
    relevant = Store(filled).similarity_search_with_relevance_scores(QUERY, **alone)
    plain = Store(filled).similarity_search_with_score(QUERY, **alone)
    assert [score * tokens for _, score in relevant] == pytest.approx([score for _, score in plain], rel=1e-3)


async def test_a_threshold_leaves_out_what_is_below(filled: Connector, texts: list[Document]) -> None:
    (_, best), (_, second) = Store(filled).similarity_search_with_relevance_scores(QUERY, k=2)
    retriever = Store(filled).as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": (best + second) / 2}
    )
    assert retriever.invoke(QUERY) == [texts[7]]
    assert await retriever.ainvoke(QUERY) == [texts[7]]


def test_relevance_follows_what_the_collection_was_adapted_to(
    encoder: Encoder, tmp_path: Path, texts: list[Document]
) -> None:
    with Store.from_documents(
        texts, collection="docs", path=tmp_path, model=encoder, recipe="compact"
    ) as store:
        store.connector.collection.adapt(Strategy(TopK(2), Fusion("sum", tokens=0.7, cls=0.3)))
        hits = store.connector.search(QUERY, k=3)
        assert [set(hit.parts) for hit in hits] == [{"tokens", "cls"}] * 3
        found = store.similarity_search_with_relevance_scores(QUERY, k=3)
        assert [(it.id, score) for it, score in found] == [(hit.id, hit.score) for hit in hits]


def test_scores_without_bounds_are_no_relevance(
    encoder: Encoder, tmp_path: Path, texts: list[Document]
) -> None:
    recipe = Recipe(name="words", layout="codes", codec="float16", lexical="english")
    with Store.from_documents(texts, collection="docs", path=tmp_path, model=encoder, recipe=recipe) as store:
        relevant = store.similarity_search_with_relevance_scores
        assert relevant("bees", candidates_by="hybrid")[0][0] == texts[7]
        assert 0 < relevant("bees", rerank=None)[0][1] <= 1
        for options in (
            {"candidates_by": "lexical", "rerank": None},
            {"candidates_by": "hybrid", "rerank": None},
        ):
            with pytest.raises(InputError, match="not from 0 to 1"):
                relevant("bees", **options)


async def test_a_retriever_says_how_documents_match(filled: Connector, texts: list[Document]) -> None:
    plain = LateInteractionRetriever(connector=filled, k=1)
    assert plain.invoke(QUERY) == [texts[7]]
    (scored,) = LateInteractionRetriever(connector=filled, k=1, match="score").invoke(QUERY)
    hit = filled.search(QUERY, k=1)[0]
    assert scored.metadata == {**texts[7].metadata, MATCH: {"score": hit.score}}
    for options in ({"candidates": 3}, {"fusion": "minmax:tokens=1,cls=1"}, {"feedback": "none"}):
        asked = LateInteractionRetriever(connector=filled, k=1, match="words", search_kwargs=options)
        assert (await asked.ainvoke(QUERY))[0].metadata[MATCH]["words"]
    (said,) = await LateInteractionRetriever(connector=filled, k=1, match="words").ainvoke(QUERY)
    pairs = said.metadata[MATCH]["words"]
    assert said.metadata[MATCH]["score"] == hit.score
    assert 0.5 < sum(pair["share"] for pair in pairs) < 1
    assert {pair["query"] for pair in pairs} == set(QUERY.split())
    assert any(pair["query"] == "bees" and "Bees" in pair["passage"] for pair in pairs[:3])
    assert texts[7].metadata == {"number": 7, "even": False}


async def test_a_retriever_takes_options(filled: Connector, texts: list[Document]) -> None:
    even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
    retriever = LateInteractionRetriever(connector=filled, search_kwargs={"filter": even}, tags=["rag"])
    assert {it.metadata["even"] for it in retriever.invoke(QUERY)} == {True}
    assert await retriever.ainvoke(QUERY, filter=None, k=1) == [texts[7]]
    with pytest.raises(ValidationError, match="filter"):
        LateInteractionRetriever(connector=filled, filter=even)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="k is 0"):
        retriever.invoke(QUERY, k=0)


async def test_an_asynchronous_connector_is_awaited(
    encoder: Encoder, tmp_path: Path, texts: list[Document]
) -> None:
    connector = await AsyncConnector.create("docs", path=tmp_path, model=encoder)
    store = await Store.afrom_documents(texts, collection=connector)
    retriever = LateInteractionRetriever(connector=connector, k=1)
    assert await retriever.ainvoke(QUERY) == retriever.invoke(QUERY) == [texts[7]]
    assert await chain_of(store.as_retriever()).ainvoke(QUERY) == f"[{BEES}] {texts[7].page_content}"
    await connector.close()
    with pytest.raises(InputError, match="'docs' is closed"):
        await retriever.ainvoke(QUERY)
    with pytest.raises(InputError, match="'docs' is closed"):
        await store.asimilarity_search(QUERY)


async def test_a_client_of_ones_own_does(encoder: Encoder, texts: list[Document]) -> None:
    client = QdrantClient(":memory:")
    async with await AsyncConnector.create("docs", client=client, model=encoder) as connector:
        store = Store(connector)
        assert await store.aadd_documents(texts) == [it.id for it in texts]
        asked = (store.asimilarity_search(it.page_content, k=1) for it in texts)
        assert await asyncio.gather(*asked) == [[it] for it in texts]
        ((best, score),) = await store.asimilarity_search_with_relevance_scores(QUERY, k=1)
        assert (best, 0.3 < score < 1) == (texts[7], True)
        assert await store.aget_by_ids([BEES, "none"]) == [texts[7]]
        assert await store.adelete()
        assert await store.asimilarity_search(QUERY) == []
    client.close()


def test_titles_and_chunks_of_other_programs_are_shown(encoder: Encoder, tmp_path: Path) -> None:
    with Connector.create("docs", path=tmp_path, model=encoder, recipe="compact") as connector:
        connector.ingest(
            [Own(id="bees", title="Bees", text="They dance. " * 20 + "Otters sleep.", metadata={"n": 1})],
            chunk_tokens=20,
        )
        (found,) = Store(connector).similarity_search("otters")
        assert found.metadata == {"title": "Bees", "n": 1}
        assert "Otters" in found.page_content
        assert len(found.page_content) < 100
        assert Store(connector).get_by_ids(["bees"])[0].page_content.count("dance") == 20


def test_langchains_index_adds_changes_and_cleans_up(encoder: Encoder, tmp_path: Path) -> None:
    manager = InMemoryRecordManager("docs")
    manager.create_schema()
    first = [Document(text, metadata={"source": text[:4]}) for text in ("Bees dance.", "Otters sleep.")]
    with Store("docs", path=tmp_path, model=encoder, recipe="dense") as store:

        def indexed(documents: list[Document]) -> tuple[int, ...]:
            said = index(
                documents, manager, store, cleanup="full", source_id_key="source", key_encoder="sha256"
            )
            return said["num_added"], said["num_skipped"], said["num_deleted"]

        assert indexed(first) == (2, 0, 0)
        assert indexed(first) == (0, 2, 0)
        assert indexed(first[:1]) == (0, 1, 1)
        assert [it.page_content for it in store.similarity_search("otters")] == ["Bees dance."]


def test_a_collection_of_langchains_own_store_is_told_apart(encoder: Encoder) -> None:
    qdrant = pytest.importorskip("langchain_qdrant", reason="langchain-qdrant is not installed")
    client = QdrantClient(":memory:")
    client.create_collection("theirs", models.VectorParams(size=6, distance=models.Distance.COSINE))
    theirs = qdrant.QdrantVectorStore(client, "theirs", DeterministicFakeEmbedding(size=6))
    theirs.add_texts(["Bees dance."])
    with pytest.raises(CollectionError, match="made by another program"):
        Store("theirs", client=client, model=encoder)
    with Store.from_texts(["Otters sleep."], collection="ours", client=client, model=encoder) as store:
        assert [it.page_content for it in store.similarity_search("bees")] == ["Otters sleep."]
    assert [it.page_content for it in theirs.similarity_search("bees")] == ["Bees dance."]
    client.close()


def test_without_langchain_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['langchain_core'] = None\n"
        "from connector.core.errors import MissingExtra\n"
        "try: import connector.integrations.langchain\n"
        "except MissingExtra as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == (
        "langchain_core is not installed; install it with: pip install 'qdrant-late-interaction[langchain]'\n"
    )
