"""Batches, pages, groups, thresholds and diverse hits: laws that hold for every layout and fusion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from connector import Connector, Document, Encoder, Hits, InputError, Recipe
from connector.collection.search.selection import diverse, groups, values_at
from connector.core.types import unit
from tests.conftest import TEXTS

QUERIES = [
    "how do bees share where food is",
    "what makes bread rise",
    "rock into flour",
    "the of and",
    "bees",
]
SECTIONS = ["animals", "food", "machines"]
RECIPES: dict[str, Recipe] = {
    "dense": Recipe(name="dense", summary="", layout="dense"),
    "words": Recipe(name="words", summary="", layout="dense", lexical="english"),
    "multivector": Recipe(name="multivector", summary="", layout="multivector", codec="float16"),
    "salient": Recipe(
        name="salient", summary="", layout="multivector", codec="float16", saliency=True, head="own"
    ),
    "codes": Recipe(name="codes", summary="", layout="codes", codec="int8"),
    "aligned": Recipe(name="aligned", summary="", layout="codes", codec="int8", alignment="top-2"),
    "fused": Recipe(
        name="fused",
        summary="",
        layout="codes",
        codec="int8",
        lexical="english",
        fusion="minmax:tokens=1,bm25=0.5,cls=0.5",
        feedback="codes=1",
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "filtered": {
        "filter": models.Filter(
            must=[models.FieldCondition(key="number", range=models.Range(lt=9))],
        )
    },
    "few": {"candidates": 7},
    "diverse": {"mmr": 0.5},
    "grouped": {"group_by": "section", "group_size": 2},
    "fused": {"fusion": "rrf:cls=1"},
    "found": {"rerank": None},
    "least": {"min_similarity": 0.1},
}


def documents() -> list[Document]:
    return [
        Document(
            id=f"doc {number}",
            text=text,
            metadata={"number": number, "section": SECTIONS[number % 3], "tags": [number % 2, "all"]},
        )
        for number, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module", params=["edge", "memory"])
def made(request: Any, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of each recipe a collection; do not change them."""
    path, client, there = tmp_path_factory.mktemp("selection"), QdrantClient(":memory:"), {}

    def make(name: str) -> Connector:
        if name not in there:
            place: dict[str, Any] = {"path": path} if request.param == "edge" else {"client": client}
            there[name] = Connector.create(name, **place, recipe=RECIPES[name], model=encoder)
            there[name].ingest(documents())
        return there[name]

    yield make
    for connector in there.values():
        connector.close()


def assert_same(found: Hits, expected: Hits) -> None:
    assert [(hit.id, hit.group) for hit in found] == [(hit.id, hit.group) for hit in expected]
    np.testing.assert_allclose([it.score for it in found], [it.score for it in expected], atol=1e-4)
    assert (found.pool, found.note) == (expected.pool, expected.note)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_batch_finds_what_one_search_after_another_finds(made: Any, recipe: str, options: str) -> None:
    connector = made(recipe)
    found = list(connector.search_batch(iter(QUERIES), 4, batch_size=3, **OPTIONS[options]))
    assert len(found) == len(QUERIES)
    for query, hits in zip(QUERIES, found, strict=True):
        assert_same(hits, connector.search(query, 4, **OPTIONS[options]))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_pages_of_any_size_join_to_one_long_answer(made: Any, recipe: str, options: str) -> None:
    connector, chosen = made(recipe), OPTIONS[options]
    grouped = "group_by" in chosen
    for query in QUERIES[:2]:
        whole = connector.search(query, 12, **chosen)
        assert len(whole) > (0 if options == "least" else 3)
        groups = len({hit.group for hit in whole}) if grouped else len(whole)
        for size in (1, 2, 5):
            pages = [connector.search(query, size, offset=at, **chosen) for at in range(0, 12, size)]
            joined = [(hit.id, hit.score, hit.group) for page in pages for hit in page]
            assert joined == [(hit.id, hit.score, hit.group) for hit in whole], size
        assert connector.search(query, 3, offset=groups, **chosen) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_pool_is_the_same_for_every_page_and_says_what_it_holds(
    made: Any, recipe: str, caplog: pytest.LogCaptureFixture
) -> None:
    connector = made(recipe)
    first = connector.search(QUERIES[0], 3, candidates=10)
    assert first.note is None
    assert not caplog.records
    beyond = connector.search(QUERIES[0], 3, candidates=10, offset=12)
    assert beyond == []
    assert beyond.pool == first.pool >= 10
    assert beyond.note is not None
    assert (
        f"the candidates are of {beyond.pool} documents; candidates= (--candidates) above 10" in beyond.note
    )
    assert beyond.note in caplog.text
    assert connector.search(QUERIES[0], 13, candidates=100).note is None  # there are no others


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_least_similarity_passes_over_what_is_less_alike(made: Any, recipe: str) -> None:
    connector = made(recipe)
    whole = connector.search(QUERIES[0], 12)
    assert_same(connector.search(QUERIES[0], 12, min_similarity=-1), whole)
    asked = connector.search(QUERIES[0], 12, min_similarity=-1)
    similar = sorted(hit.similarity for hit in asked)
    assert -1 <= similar[0] < similar[-1] <= 1.001
    for least in (similar[0], similar[len(similar) // 2], similar[-1]):
        found = connector.search(QUERIES[0], 12, min_similarity=least)
        assert [it.id for it in found] == [it.id for it in asked if it.similarity >= least]
    assert connector.search(QUERIES[0], 12, min_similarity=1) == []


def test_a_similarity_is_the_mean_of_the_best_cosines(made: Any) -> None:
    connector = made("multivector")
    (query,) = connector.encoder.encode_queries([QUERIES[0]])
    for hit in connector.search(QUERIES[0], 5, rerank="client"):
        (passage,) = connector.encoder.encode_documents([hit.text])
        expected = (query.tokens @ passage.tokens.T).max(axis=1).mean()
        assert hit.similarity == pytest.approx(expected, abs=2e-3)
    hits = connector.search(QUERIES[0], 5, rerank="server", min_similarity=-1)
    assert hits[0].similarity == pytest.approx(hits[0].score / len(query.tokens), abs=1e-4)
    for hit in made("dense").search(QUERIES[0], 3):
        (passage,) = connector.encoder.encode_documents([hit.text])
        assert hit.similarity == pytest.approx(float(query.cls @ passage.cls), abs=5e-2)  # kept in 4 bits


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [1, 3])
def test_every_groups_hits_are_that_groups_best(made: Any, recipe: str, size: int) -> None:
    connector = made(recipe)
    whole = connector.search(QUERIES[0], 12)
    hits = connector.search(QUERIES[0], 3, group_by="section", group_size=size)
    for section in SECTIONS:
        best = [hit.id for hit in whole if hit.metadata["section"] == section][:size]
        assert [hit.id for hit in hits if hit.group == section] == best
    firsts = [hit for hit in hits if hit.id in {it.id for it in hits[:: size or 1]}]
    assert [hit.score for hit in firsts] == sorted((hit.score for hit in firsts), reverse=True)
    tagged = connector.search(QUERIES[0], 3, group_by="tags", group_size=2)
    assert {hit.group for hit in tagged} == {0, 1, "all"}
    assert connector.search(QUERIES[0], 3, group_by="nothing") == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_are_filled_from_further_candidates(made: Any, recipe: str) -> None:
    connector = made(recipe)
    chosen: dict[str, Any] = {"candidates": 2, "group_by": "section", "group_size": 3}
    hits = connector.search(QUERIES[0], 3, **chosen)
    assert sorted(hit.group for hit in hits) == sorted(SECTIONS * 3)
    assert len({hit.id for hit in hits}) == 9
    for section in SECTIONS:  # also those that came later are where their scores put them
        scores = [hit.score for hit in hits if hit.group == section]
        assert scores == sorted(scores, reverse=True)
    assert hits[0].score == max(hit.score for hit in hits)
    if recipe == "fused":
        for hit in (hits[0], hits[-1]):
            explained = connector.explain(QUERIES[0], hit, mmr=0.5, offset=3, **chosen)
            assert explained.score == pytest.approx(hit.score, abs=1e-3)
    pages = [connector.search(QUERIES[0], 1, offset=at, **chosen) for at in range(3)]
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in hits]


def test_what_finds_nothing_says_why(made: Any) -> None:
    connector = made("fused")
    nothing = connector.search(QUERIES[0], 3, group_by="nope")
    assert nothing == []
    assert nothing.note == "none of 12 documents among the candidates has 'nope'"
    beyond = connector.search(QUERIES[0], 3, group_by="section", offset=5, candidates=2)
    assert beyond == []
    unlike = connector.search(QUERIES[0], 3, min_similarity=0.99, candidates=3)
    assert unlike == []
    assert unlike.note is not None
    assert "0 of the" in unlike.note


def test_a_penalty_of_length_is_no_part_of_a_similarity(encoder: Encoder, tmp_path: Path) -> None:
    recipe = RECIPES["codes"].model_copy(update={"length_penalty": 0.6})
    with Connector.create("docs", path=tmp_path, recipe=recipe, model=encoder) as connector:
        connector.ingest(documents())
        hits = connector.search(QUERIES[0], 12)
        assert_same(connector.search(QUERIES[0], 12, min_similarity=-1), hits)
        assert all(-1 <= hit.similarity <= 1.01 for hit in hits)
        assert min(hit.score for hit in hits) < -1


@pytest.mark.parametrize("recipe", RECIPES)
def test_diverse_hits_are_those_of_the_definition(made: Any, recipe: str) -> None:
    connector = made(recipe)
    whole = connector.search(QUERIES[0], 12)
    assert_same(connector.search(QUERIES[0], 12, mmr=1), whole)
    hits = connector.search(QUERIES[0], 12, mmr=0.3)
    assert {hit.id for hit in hits} == {hit.id for hit in whole}
    assert hits[0].id == whole[0].id
    assert [hit.id for hit in hits] != [hit.id for hit in whole]


def marginal(relevance: Any, vectors: Any, weight: float) -> list[int]:
    """Slow and obvious."""
    low, high = min(relevance), max(relevance)
    scaled = [(it - low) / (high - low) if high > low else 0.0 for it in relevance]
    chosen: list[int] = []
    while len(chosen) < len(scaled):
        left = [it for it in range(len(scaled)) if it not in chosen]
        worth = [
            weight * scaled[it]
            - (1 - weight) * max((float(vectors[it] @ vectors[other]) for other in chosen), default=0.0)
            for it in left
        ]
        chosen.append(left[int(np.argmax(worth))])
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
def test_maximal_marginal_relevance_is_that_of_a_slow_reference(
    rng: np.random.Generator, weight: float
) -> None:
    for count in (1, 2, 20):
        relevance = np.sort(rng.normal(size=count))[::-1]
        vectors = unit(rng.normal(size=(count, 8)).astype(np.float32))
        expected = marginal(relevance, vectors, weight)
        assert diverse(relevance, vectors, weight, count) == expected
        assert diverse(relevance, vectors, weight, 3) == expected[:3]


def test_maximal_marginal_relevance_by_hand() -> None:
    """The second is as the first is; the third stands at a right angle to both."""
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert diverse(np.array([1.0, 0.9, 0.0]), vectors, 0.5, 3) == [0, 2, 1]
    assert diverse(np.array([1.0, 0.9, 0.0]), vectors, 0.9, 3) == [0, 1, 2]


@given(st.lists(st.lists(st.integers(0, 4), max_size=2), max_size=30), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_groups_are_those_of_the_definition(members: list[list[int]], count: int, size: int) -> None:
    whole = groups(range(len(members)), dict(enumerate(members)), size)
    assert [value for value, _ in whole] == list(dict.fromkeys(it for those in members for it in those))
    for value, there in whole:
        assert there == [number for number, those in enumerate(members) if value in those][:size]
    first = groups(range(count), dict(enumerate(members)), size)
    assert [value for value, _ in first] == [value for value, _ in whole][: len(first)]


def test_equal_numbers_are_one_group() -> None:
    values = {0: [1], 1: [1.0], 2: [True], 3: ["1"], 4: [0], 5: [-0.0]}
    assert [there for _, there in groups(range(6), values, 9)] == [[0, 1], [2], [3], [4, 5]]


def test_values_of_keys() -> None:
    metadata = {
        "year": 2020,
        "author": {"name": "A"},
        "tags": ["x", None, {"y": 1}],
        "none": None,
        "no": False,
    }
    assert values_at(metadata, "year") == [2020]
    assert values_at(metadata, "author.name") == ["A"]
    assert values_at(metadata, "tags") == ["x"]
    assert values_at(metadata, "no") == [False]
    assert values_at({"a": [{"b": "q"}, {"b": ["r"]}]}, "a[].b") == ["q", "r"]
    assert (
        values_at(metadata, "none") == values_at(metadata, "year.month") == values_at(metadata, "gone") == []
    )


def test_a_batch_is_read_as_its_turn_comes(made: Any) -> None:
    connector, read = made("dense"), list[int]()

    def queries() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield f"question {number}"

    found = connector.search_batch(queries(), 1, batch_size=8)
    assert read == []
    assert len(next(found)) == 1
    assert len(read) == 8
    assert list(connector.search_batch([])) == []


def test_what_is_no_batch_is_refused(made: Any) -> None:
    connector = made("dense")
    with pytest.raises(InputError, match="give a list of texts, or call search"):
        connector.search_batch("bees")
    with pytest.raises(InputError, match="batch_size is 0"):
        connector.search_batch(["bees"], batch_size=0)
    with pytest.raises(InputError, match="k is 0"):
        connector.search_batch(["bees"], 0)
    found = connector.search_batch(["bees", "bread", " "], batch_size=2)
    assert [len(next(found)), len(next(found))] == [10, 10]
    with pytest.raises(InputError, match="query 2 is ' '"):
        next(found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": -1},
        {"min_similarity": 2},
        {"mmr": 1.5},
        {"group_by": ""},
        {"group_size": 0},
        {"mmr": "much"},
    ],
    ids=str,
)
def test_values_out_of_range_are_named(made: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        made("dense").search("bees", **wrong)


def test_documents_of_many_passages_do_not_crowd_the_others_out(encoder: Encoder, tmp_path: Path) -> None:
    long = " ".join(f"Bees dance the way to flower {number}." for number in range(600))
    with Connector.create("docs", path=tmp_path, recipe=RECIPES["dense"], model=encoder) as connector:
        connector.ingest([Document(id="long", text=long), *documents()], chunk_tokens=16)
        hits = connector.search("How do bees dance the way to flowers?", 8)
        assert len(hits) == 8
