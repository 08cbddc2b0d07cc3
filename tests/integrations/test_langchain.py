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

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from connector.integrations.langchain import MATCH, LateInteractionRetriever, LateInteractionVectorStore

Store = LateInteractionVectorStore

QUERY = "how do bees share where food is"
BEES = "doc 7"
EVEN = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
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


def test_a_threshold_is_for_the_documents_that_there_are_k_of(filled: Connector) -> None:
    """Not for the k best, of which some would be left."""
    store, asked = Store(filled), filled.search(QUERY, k=12)
    similar = [hit.similarity or 0.0 for hit in asked]
    less = next(n for n in range(1, 11) if similar[n] < similar[n + 1])  # scores have other parts, too
    threshold = (similar[less] + similar[less + 1]) / 2
    found = store.similarity_search_with_relevance_scores(QUERY, k=less + 1, score_threshold=threshold)
    assert len(found) == less + 1 > sum(it >= threshold for it in similar[: less + 1])
    assert [it.id for it, _ in found] == [
        hit.id for hit in filled.search(QUERY, less + 1, min_similarity=threshold)
    ]
    assert min(score for _, score in found) >= threshold
    same = store.similarity_search_with_relevance_scores(QUERY, k=12, score_threshold=0)
    assert same == store.similarity_search_with_relevance_scores(QUERY, k=12)
    assert store.similarity_search_with_relevance_scores(QUERY, score_threshold=1.0) == []
    with pytest.raises(
        InputError, match=r"score_threshold is 0\.5 and min_similarity 0\.4, which mean the same"
    ):
        store.similarity_search_with_relevance_scores(QUERY, score_threshold=0.5, min_similarity=0.4)
    with pytest.raises(InputError, match="min_similarity is 2"):
        store.similarity_search_with_relevance_scores(QUERY, score_threshold=2)


def test_relevance_is_the_similarity_of_hits(encoder: Encoder, tmp_path: Path, texts: list[Document]) -> None:
    with Store.from_documents(
        texts, collection="docs", path=tmp_path, model=encoder, recipe="compact"
    ) as store:
        store.connector.collection.adapt(Strategy(TopK(2), Fusion("sum", tokens=0.7, cls=0.3)))
        hits = store.connector.search(QUERY, k=3)
        assert [set(hit.parts) for hit in hits] == [{"tokens", "cls"}] * 3
        found = store.similarity_search_with_relevance_scores(QUERY, k=3)
        assert [(it.id, score) for it, score in found] == [(hit.id, hit.similarity) for hit in hits]


def test_relevance_of_what_words_find_is_that_of_cls_vectors(
    encoder: Encoder, tmp_path: Path, texts: list[Document]
) -> None:
    recipe = Recipe(name="words", layout="codes", codec="float16", lexical="english")
    with Store.from_documents(texts, collection="docs", path=tmp_path, model=encoder, recipe=recipe) as store:
        (query,) = encoder.encode_queries(["bees"])
        (passage,) = encoder.encode_documents([texts[7].page_content])
        for by in ("lexical", "hybrid", "dense"):
            found = store.similarity_search_with_relevance_scores("bees", candidates_by=by, rerank=None)
            assert found[0][0] == texts[7]
            assert found[0][1] == pytest.approx(float(query.cls @ passage.cls), abs=5e-2)  # kept in 4 bits
            assert all(0 <= score <= 1 for _, score in found)


def ids(documents: list[Document]) -> list[str | None]:
    return [it.id for it in documents]


async def test_maximal_marginal_relevance(filled: Connector, texts: list[Document]) -> None:
    store = Store(filled)
    for weight in (0.0, 0.3, 1.0):
        found = store.max_marginal_relevance_search(QUERY, k=6, fetch_k=12, lambda_mult=weight)
        assert ids(found) == [hit.id for hit in filled.search(QUERY, 6, candidates=12, mmr=weight)]
        assert found == await store.amax_marginal_relevance_search(QUERY, k=6, fetch_k=12, lambda_mult=weight)
    assert found == store.similarity_search(QUERY, k=6, candidates=12)
    assert store.max_marginal_relevance_search(QUERY, k=6) == store.similarity_search(
        QUERY, k=6, candidates=20, mmr=0.5
    )
    few = store.max_marginal_relevance_search(QUERY, k=12, fetch_k=2)
    assert len(few) == filled.search(QUERY, candidates=2).pool < 12
    asked = {"k": 6, "fetch_k": 12, "lambda_mult": 0.3}
    retriever = store.as_retriever(search_type="mmr", search_kwargs=asked)
    diverse = [hit.id for hit in filled.search(QUERY, 6, candidates=12, mmr=0.3)]
    assert diverse != [hit.id for hit in filled.search(QUERY, 6, candidates=12)]
    assert ids(retriever.invoke(QUERY)) == ids(await retriever.ainvoke(QUERY)) == diverse
    assert set(ids(retriever.invoke(QUERY, filter=EVEN))) <= {it.id for it in texts[::2]}


async def test_nothing_is_found_by_one_vector(filled: Connector) -> None:
    store, vector = Store(filled), [0.1] * 384
    for search in (store.similarity_search_by_vector, store.max_marginal_relevance_search_by_vector):
        with pytest.raises(InputError, match=r"one vector, \[0\.1.*; give the text to (similar|max_marg)"):
            search(vector)
    for awaited in (store.asimilarity_search_by_vector, store.amax_marginal_relevance_search_by_vector):
        with pytest.raises(InputError, match="give the text to"):
            await awaited(vector, k=3)


OPTIONS: dict[str, dict[str, Any]] = {
    "offset": {"offset": 2},
    "min_similarity": {"min_similarity": 0.3},
    "mmr": {"mmr": 0.3},
    "group_by": {"group_by": "even", "group_size": 2},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_reach_the_search(filled: Connector, case: str) -> None:
    options = OPTIONS[case]
    expected = filled.search(QUERY, 4, **options)
    assert [hit.id for hit in expected] != [hit.id for hit in filled.search(QUERY, 4)]
    found = [
        LateInteractionRetriever(connector=filled, search_kwargs=options).invoke(QUERY),
        LateInteractionRetriever(connector=filled).invoke(QUERY, **options),
        Store(filled).as_retriever(search_kwargs=options).invoke(QUERY),
        Store(filled).similarity_search(QUERY, **options),
        [it for it, _ in Store(filled).similarity_search_with_score(QUERY, **options)],
        [it for it, _ in Store(filled).similarity_search_with_relevance_scores(QUERY, **options)],
    ]
    assert [ids(it) for it in found] == [[hit.id for hit in expected]] * 6


def test_pages_join(filled: Connector) -> None:
    retriever = LateInteractionRetriever(connector=filled, k=5)
    pages = [retriever.invoke(QUERY, offset=at) for at in (0, 5, 10, 15)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [it for page in pages for it in page] == retriever.invoke(QUERY, k=12)


# Batches

QUERIES = [QUERY, "what makes bread rise?", "rock into flour", QUERY, "moons"]


class Seen(BaseCallbackHandler):
    """What LangChain tells of retrievers' runs."""

    def __init__(self) -> None:
        self.started: list[tuple[str, list[str] | None, str | None]] = []
        self.ended: list[list[str | None]] = []
        self.failed: list[str] = []

    def on_retriever_start(self, serialized: Any, query: str, **more: Any) -> None:  # noqa: ARG002
        self.started.append((query, more["tags"], more["name"]))

    def on_retriever_end(self, documents: Any, **_: Any) -> None:
        self.ended.append(ids(documents))

    def on_retriever_error(self, error: BaseException, **_: Any) -> None:
        self.failed.append(str(error))


RETRIEVERS: dict[str, dict[str, Any]] = {
    "plain": {"search_type": "similarity", "search_kwargs": {"k": 3}},
    "default": {},
    "diverse": {"search_type": "mmr", "search_kwargs": {"k": 3, "fetch_k": 12, "lambda_mult": 0.3}},
    "relevant": {
        "search_type": "similarity_score_threshold",
        "search_kwargs": {"score_threshold": 0.2, "k": 8},
    },
}


def retrievers(connector: Connector) -> list[BaseRetriever]:
    words = LateInteractionRetriever(connector=connector, k=2, match="words")
    grouped: dict[str, Any] = {"group_by": "even", "group_size": 2}
    own = LateInteractionRetriever(connector=connector, k=2, search_kwargs=grouped, match="score")
    return [own, words, *(Store(connector).as_retriever(**it) for it in RETRIEVERS.values())]


@pytest.mark.parametrize("number", range(2 + len(RETRIEVERS)))
async def test_a_batch_finds_what_one_after_another_finds(filled: Connector, number: int) -> None:
    retriever = retrievers(filled)[number]
    expected = [retriever.invoke(query) for query in QUERIES]
    assert sum(map(len, expected)) > 4
    for found in (retriever.batch(QUERIES), await retriever.abatch(QUERIES)):
        assert [ids(them) for them in found] == [ids(them) for them in expected]
        for documents, same in zip(found, expected, strict=True):
            for document, it in zip(documents, same, strict=True):
                assert document.page_content == it.page_content
                said, wanted = document.metadata.pop(MATCH, None), dict(it.metadata)
                was = wanted.pop(MATCH, None)
                assert document.metadata == wanted
                assert (said is None) is (was is None)
                if was is not None:
                    assert said["score"] == pytest.approx(was["score"], abs=1e-4)
                    assert said.get("group") == was.get("group")
                    assert len(said.get("words", [])) == len(was.get("words", []))
        assert found[0][0] is not found[3][0]  # though the query is the same
    assert retriever.batch([]) == await retriever.abatch([]) == []
    assert ids(retriever.batch(QUERIES[:1])[0]) == ids(expected[0])
    completed = dict(retriever.batch_as_completed(QUERIES))
    assert [ids(completed[n]) for n in range(5)] == [ids(them) for them in expected]


def test_a_batch_is_one_search(filled: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, search_batch = list[list[str]](), Connector.search_batch

    def counted(self: Connector, queries: Any, *args: Any, **options: Any) -> Any:
        asked.append(list(queries))
        return search_batch(self, queries, *args, **options)

    def alone(*_: Any, **__: Any) -> Any:
        raise AssertionError("searched for one query")

    monkeypatch.setattr(Connector, "search_batch", counted)
    monkeypatch.setattr(Connector, "search", alone)
    for retriever in (LateInteractionRetriever(connector=filled), Store(filled).as_retriever()):
        assert [it[0].id for it in retriever.batch(QUERIES)][::3] == [BEES, BEES]
    assert asked == [list(dict.fromkeys(QUERIES))] * 2


async def test_the_groups_of_a_batch_are_told(filled: Connector) -> None:
    grouped: dict[str, Any] = {"group_by": "even", "group_size": 2}
    retriever = LateInteractionRetriever(connector=filled, k=2, search_kwargs=grouped, match="score")
    for documents in (retriever.invoke(QUERY), retriever.batch([QUERY])[0]):
        assert [it.metadata[MATCH]["group"] for it in documents] == [False, False, True, True]
    assert all(it.metadata[MATCH]["group"] == it.metadata["even"] for it in documents)


async def test_callbacks_and_configuration_are_those_of_each_query(filled: Connector) -> None:
    for retriever in (LateInteractionRetriever(connector=filled), Store(filled).as_retriever()):
        for awaited in (False, True):
            seen = [Seen() for _ in QUERIES]
            configs: list[RunnableConfig] = [
                {"callbacks": [it], "tags": [f"tag {n}"], "run_name": f"run {n}", "max_concurrency": 1}
                for n, it in enumerate(seen)
            ]
            found = await retriever.abatch(QUERIES, configs) if awaited else retriever.batch(QUERIES, configs)
            for n, (query, it, documents) in enumerate(zip(QUERIES, seen, found, strict=True)):
                ((asked, tags, name),) = it.started
                assert (asked, name) == (query, f"run {n}")
                assert f"tag {n}" in (tags or [])
                assert it.ended == [ids(documents)]
                assert it.failed == []
            together = Seen()
            retriever.batch(QUERIES, {"callbacks": [together]}, k=1)
            assert sorted(query for query, _, _ in together.started) == sorted(QUERIES)
            assert [len(them) for them in together.ended] == [1] * 5


async def test_one_query_that_cannot_be_asked_fails_alone(filled: Connector) -> None:
    wrong: list[Any] = [" ", "a\0b", 3]
    for retriever in (LateInteractionRetriever(connector=filled, k=1), Store(filled).as_retriever()):
        seen = Seen()
        config: RunnableConfig = {"callbacks": [seen]}
        mixed = [QUERY, *wrong]
        for found in (
            retriever.batch(mixed, config, return_exceptions=True),
            await retriever.abatch(mixed, config, return_exceptions=True),
        ):
            assert ids(found[0])[0] == BEES
            assert [isinstance(it, InputError) for it in found[1:]] == [True] * 3
            for query, error in zip(wrong, found[1:], strict=True):
                with pytest.raises(InputError) as alone:
                    retriever.invoke(query)
                assert (type(error), str(error)) == (type(alone.value), str(alone.value))
        assert (len(seen.ended), len(seen.failed)) == (2, 6)
        with pytest.raises(InputError, match="query is ' '"):
            retriever.batch([QUERY, " "])
        with pytest.raises(InputError, match="query is ' '"):
            await retriever.abatch([QUERY, " "])


async def test_a_batch_that_cannot_be_searched_for_fails_as_each_query_would(filled: Connector) -> None:
    seen = Seen()
    for retriever in (LateInteractionRetriever(connector=filled), Store(filled).as_retriever()):
        with pytest.raises(InputError, match="k is 0"):
            retriever.batch(QUERIES, k=0)
        with pytest.raises(TypeError, match="no option 'top'"):
            await retriever.abatch(QUERIES, top=3)
        config: RunnableConfig = {"callbacks": [seen]}
        found = retriever.batch(QUERIES, config, return_exceptions=True, k=0)
        assert [str(it).startswith("k is 0") for it in found] == [True] * 5
    assert len(seen.failed) == 10


async def test_a_batch_by_an_asynchronous_connector(
    encoder: Encoder, tmp_path: Path, texts: list[Document]
) -> None:
    connector = await AsyncConnector.create("docs", path=tmp_path, model=encoder)
    store = await Store.afrom_documents(texts, collection=connector)
    queries = [it.page_content for it in texts]
    both = (LateInteractionRetriever(connector=connector, k=1), store.as_retriever(search_kwargs={"k": 1}))
    for retriever in both:
        assert await retriever.abatch(queries) == retriever.batch(queries) == [[it] for it in texts]
    await connector.close()
    for retriever in both:
        with pytest.raises(InputError, match="'docs' is closed"):
            await retriever.abatch(queries)


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
    retriever = LateInteractionRetriever(connector=filled, search_kwargs={"filter": EVEN}, tags=["rag"])
    assert {it.metadata["even"] for it in retriever.invoke(QUERY)} == {True}
    assert await retriever.ainvoke(QUERY, filter=None, k=1) == [texts[7]]
    with pytest.raises(ValidationError, match="filter"):
        LateInteractionRetriever(connector=filled, filter=EVEN)  # type: ignore[call-arg]
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
