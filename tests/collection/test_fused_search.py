"""Fused searches: their parts, their pool, feedback and likes, in every layout and store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from connector import Connector, Document, Encoder, Hits, Recipe
from connector.collection.search.candidates import query_tokens
from connector.collection.search.stored_tokens import codec_of, keys_of, stored
from connector.core.errors import CollectionError, InputError, RecipeError
from connector.core.types import unit
from connector.stores import Nearest
from connector.stores.schema import CLS, LEXICAL

QUERY = "How does a program become machine code?"
FUSION = "minmax:tokens=1,bm25=0.5,cls=0.5"
LAYOUTS: dict[str, dict[str, Any]] = {
    "codes": {
        "layout": "codes",
        "reduction": "ward-4",
        "codec": "center+pca-64+binary",
        "length_penalty": 0.02,
        "fusion": FUSION,
        "feedback": "codes=3",
    },
    "multivector": {
        "layout": "multivector",
        "codec": "center+float16",
        "length_penalty": 0.02,
        "fusion": FUSION,
        "feedback": "cls=2",
    },
    "dense": {"layout": "dense", "fusion": "minmax:cls=1,bm25=0.5", "feedback": "cls=1"},
}


def recipe(layout: str, **parts: Any) -> Recipe:
    return Recipe(name="mine", **{"lexical": "english", **LAYOUTS[layout], **parts})


@pytest.fixture
def make(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> Iterator[Callable[[Recipe], Connector]]:
    """The twelve documents under a recipe, in each store."""
    made: list[Connector] = []

    def create(recipe: Recipe) -> Connector:
        made.append(Connector.create(name, recipe=recipe, model=encoder, **place))
        made[-1].ingest(documents)
        return made[-1]

    yield create
    for connector in made:
        connector.collection.store.drop(connector.collection.physical)
        connector.close()


@pytest.fixture
def kept(tmp_path: Any, encoder: Encoder, documents: list[Document]) -> Iterator[Connector]:
    """The same in a folder, in layout codes."""
    with Connector.create("docs", path=tmp_path / "edge", recipe=recipe("codes"), model=encoder) as connector:
        connector.ingest(documents)
        yield connector


def ids(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_sum_to_the_score_and_explanations_to_the_parts(
    make: Callable[[Recipe], Connector], layout: str
) -> None:
    connector = make(recipe(layout))
    hits = connector.search(QUERY, 12)
    assert len(hits) == 12
    assert hits[0].id in ("doc 1", "doc 10")
    assert hits.missing == ()
    for hit in hits:
        assert {name.partition("_")[0] for name in hit.parts} >= {"cls", "bm25", "feedback"}
        assert hit.score == pytest.approx(sum(part.value for part in hit.parts.values()), abs=1e-9)
    for hit in (hits[0], hits[5], hits[-1]):
        for explanation in (connector.explain(QUERY, hit), connector.explain(QUERY, hit.id)):
            assert explanation.score == pytest.approx(hit.score, abs=1e-5)
            for kind, names in {
                "tokens": ("tokens",),
                "words": ("bm25",),
                "cls": ("cls",),
                "feedback": ("feedback_codes", "feedback_cls"),
            }.items():
                value = sum(hit.parts[name].value for name in names if name in hit.parts)
                paired = sum(pair.part for pair in explanation.pairs if pair.kind == kind)
                assert paired == pytest.approx(value, abs=1e-5), kind
    said = {pair.query.text for pair in connector.explain(QUERY, hits[0]).pairs if pair.kind == "feedback"}
    assert said == {f"like {hits_before.id}" for hits_before in connector.search(QUERY, 2, feedback="none")}


def test_parts_are_what_each_would_be_alone(kept: Connector, encoder: Encoder) -> None:
    """Tokens against decoded rows, CLS against the encoder's vectors, words against Qdrant's own search."""
    collection = kept.collection
    (query,) = encoder.encode_queries([QUERY])
    hits = {hit.id: hit for hit in kept.search(QUERY, 12, feedback="none")}
    question = query_tokens(collection, query)
    points = {collection.point_id(id_, 0): id_ for id_ in hits}
    found = collection.store.retrieve(collection.physical, list(points), *keys_of(collection))
    by_words = collection.store.search(
        collection.physical,
        Nearest(collection.words.query(QUERY), LEXICAL, 20),
        payload=["id"],
    )
    words = {record.payload["id"]: record.score for record in by_words}
    assert 0 < len(words) < 12
    passages = dict(zip(hits, encoder.encode_documents([hit.text for hit in hits.values()]), strict=True))
    for point, id_ in points.items():
        rows = codec_of(collection).decode(stored(collection, [found[point]]).rows)
        best = (question.tokens @ rows.T).max(axis=1)
        weights = np.ones(len(best)) if question.weights is None else question.weights
        expected = (best * weights).sum() / weights.sum() - 0.02 * np.log(len(rows))
        parts = hits[id_].parts
        assert parts["tokens"].score == pytest.approx(expected, abs=1e-4)
        assert parts["cls"].score == pytest.approx(float(passages[id_].cls @ query.cls), abs=1e-3)
        assert parts["bm25"].score == pytest.approx(words.get(id_, 0.0), abs=1e-5)
    for name, weight in {"tokens": 1.0, "bm25": 0.5, "cls": 0.5}.items():
        scores = np.array([hit.parts[name].score for hit in hits.values()])
        scaled = (scores - scores.min()) / (scores.max() - scores.min())
        assert [hit.parts[name].value for hit in hits.values()] == pytest.approx((weight * scaled).tolist())


def test_feedback_is_as_defined(kept: Connector) -> None:
    collection = kept.collection
    before, after = kept.search(QUERY, 12, feedback="none"), kept.search(QUERY, 12)
    points = [collection.point_id(hit.id, 0) for hit in before]
    found = collection.store.retrieve(collection.physical, points, *keys_of(collection))
    codec = codec_of(collection)
    means = np.stack([codec.decode(stored(collection, [found[it]]).rows).mean(axis=0) for it in points])
    vectors = unit(means - means.mean(axis=0))
    alike = vectors @ (vectors[0] + vectors[1]) / 2
    scaled = (alike - alike.min()) / (alike.max() - alike.min())
    weight = 3 * max(float(vectors[0] @ vectors[1]), 0)
    expected = {hit.id: hit.score + weight * it for hit, it in zip(before, scaled.tolist(), strict=True)}
    assert {hit.id: hit.score for hit in after} == pytest.approx(expected, abs=1e-5)
    assert ids(after) == sorted(expected, key=lambda id_: -expected[id_])


def test_the_pool_does_not_depend_on_k(kept: Connector) -> None:
    scores = [(hit.id, hit.score) for hit in kept.search(QUERY, 10, candidates=4)]
    assert [(hit.id, hit.score) for hit in kept.search(QUERY, 3, candidates=4)] == scores[:3]
    hits = kept.search(QUERY, 10, candidates=4)
    assert len(hits) < 10  # there are no more candidates
    assert kept.explain(QUERY, hits[0], candidates=4).score == pytest.approx(hits[0].score)


def test_feedback_of_too_few_changes_nothing(kept: Connector) -> None:
    from qdrant_client import models

    one = models.Filter(must=[models.FieldCondition(key="number", match=models.MatchValue(value=3))])
    none = models.Filter(must=[models.FieldCondition(key="number", match=models.MatchValue(value=99))])
    (hit,) = kept.search(QUERY, filter=one)
    assert hit.parts.keys() == {"tokens", "bm25", "cls"}
    assert hit.score == 0  # of one candidate all parts are alike
    assert kept.search(QUERY, filter=none) == []
    assert sum(pair.part for pair in kept.explain(QUERY, hit, filter=one).pairs) == pytest.approx(0, abs=1e-9)


def test_a_passage_that_is_no_candidate_is_explained_on_the_candidates_scale(kept: Connector) -> None:
    few: Any = {"candidates": 6, "candidates_by": "dense"}
    hits = kept.search(QUERY, 6, **few)
    other = next(hit for hit in kept.search(QUERY, 12) if hit.id not in ids(hits))
    explanation = kept.explain(QUERY, other.id, **few)
    assert explanation.score < hits[0].score
    assert sum(pair.part for pair in explanation.pairs) == pytest.approx(explanation.score, abs=1e-5)
    with pytest.raises(CollectionError, match="found by another query or with other options"):
        kept.explain("Why does bread rise?", hits[0])


def test_more_like_these(kept: Connector) -> None:
    hits = kept.search(QUERY, 12)
    last = hits[-1]
    liked = kept.search(QUERY, 12, like=[last.id], feedback="codes=5")
    assert liked[0].id == last.id
    assert liked[0].parts["feedback_codes"].scaled == pytest.approx(1)
    disliked = kept.search(QUERY, 12, unlike=[hits[0].id], feedback="codes=5")
    assert disliked[-1].id == hits[0].id
    both = kept.explain(QUERY, last.id, like=[last.id], unlike=[hits[0].id])
    assert {pair.query.text for pair in both.pairs if pair.kind == "feedback"} == {
        f"like {last.id}",
        f"like {hits[0].id}",
    }
    with pytest.raises(InputError, match="holds no document 'nobody' to compare with"):
        kept.search(QUERY, like=["nobody"])
    with pytest.raises(InputError, match="'doc 1' is both liked and disliked"):
        kept.search(QUERY, like=["doc 1"], unlike=["doc 1"])


def test_likes_without_feedback_and_without_codes(
    tmp_path: Any, encoder: Encoder, documents: list[Document]
) -> None:
    plain = Recipe(name="plain", layout="dense")
    with Connector.create("docs", path=tmp_path / "edge", recipe=plain, model=encoder) as connector:
        connector.ingest(documents)
        hits = connector.search(QUERY, 12)
        assert connector.search(QUERY, 12, like=[hits[-1].id])[0].id == hits[-1].id


def test_duplicates_score_alike(tmp_path: Any, encoder: Encoder) -> None:
    """What differs by rounding alone is not scaled to 0 and 1."""
    same = [Document(id=f"d{n}", text="Terms and conditions apply to all orders.") for n in range(5)]
    with Connector.create("docs", path=tmp_path, recipe="hybrid", model=encoder) as connector:
        connector.ingest(same)
        assert {hit.score for hit in connector.search("terms of orders")} == {0}


def test_what_finds_candidates_leaves_the_fusion(make: Callable[[Recipe], Connector]) -> None:
    connector = make(recipe("dense"))
    ways: list[Any] = ["dense", "lexical", "union", "hybrid", "hybrid-dbsf"]
    for by in ways:
        hits = connector.search(QUERY, 3, candidates_by=by)
        assert hits[0].parts.keys() >= {"cls", "bm25"}
        assert connector.explain(QUERY, hits[0], candidates_by=by).score == pytest.approx(hits[0].score)


def test_without_tokens_cls_vectors_speak(kept: Connector) -> None:
    hits = kept.search(QUERY, 12, rerank=None)
    assert hits[0].parts.keys() == {"bm25", "cls", "feedback_cls"}
    assert kept.search(QUERY, 12, rerank=None, like=[hits[-1].id], feedback="codes=9")[0].id == hits[-1].id


def test_likes_where_nothing_is_found_or_scored(kept: Connector) -> None:
    from qdrant_client import models

    none = models.Filter(must=[models.FieldCondition(key="number", match=models.MatchValue(value=99))])
    with pytest.raises(InputError, match="holds no document 'gone'"):
        kept.search(QUERY, like=["gone"], filter=none)
    with pytest.raises(InputError, match="documents to compare with are '1'; give a list of ids"):
        kept.search(QUERY, like="1")
    assert kept.search(QUERY, like=np.array(["doc 3"])) == kept.search(QUERY, like=["doc 3"])


def test_looking_again_finds_what_is_like_the_first(kept: Connector) -> None:
    few: Any = {"candidates": 3, "candidates_by": "dense", "feedback": "none"}
    once, again = kept.search(QUERY, 3, **few), kept.search(QUERY, 12, search_again=True, **few)
    assert set(ids(once)) <= set(ids(again))
    assert len(again) >= 3


def test_the_pool_is_of_both_words_and_cls(kept: Connector, encoder: Encoder) -> None:
    query = "yeast and quartets"
    collection = kept.collection
    (embedding,) = encoder.encode_queries([query])
    by_cls = collection.store.search(collection.physical, Nearest(embedding.cls, CLS, 2), payload=["id"])
    by_words = collection.store.search(
        collection.physical, Nearest(collection.words.query(query), LEXICAL, 2), payload=["id"]
    )
    pool = {it.payload["id"] for it in (*by_cls, *by_words)}
    assert set(ids(kept.search(query, 2, candidates=2, fusion="minmax:tokens=1,bm25=1"))) <= pool
    assert len(kept.search("the of and", 12)) == 12  # no word but stop words


def test_words_that_are_not_there_are_said(
    tmp_path: Any, encoder: Encoder, documents: list[Document]
) -> None:
    wordless = recipe("codes", lexical=None)
    with Connector.create("docs", path=tmp_path / "edge", recipe=wordless, model=encoder) as connector:
        connector.ingest(documents)
        hits = connector.search(QUERY)
        assert hits.missing == ("bm25",)
        assert "bm25" not in hits[0].parts
        with pytest.raises(RecipeError, match="no index of words for fusion minmax:tokens=1,bm25=1"):
            connector.search(QUERY, fusion="minmax:tokens=1,bm25=1")


def test_fusion_of_a_search(kept: Connector) -> None:
    for method in ("tmm", "zscore", "rrf", "sum"):
        hits = kept.search(QUERY, 12, fusion=f"{method}:tokens=1,bm25=0.1,cls=1", feedback="none")
        assert len(hits) == 12
        assert hits[0].score == pytest.approx(sum(part.value for part in hits[0].parts.values()))
        told = kept.explain(QUERY, hits[3], fusion=f"{method}:tokens=1,bm25=0.1,cls=1", feedback="none")
        assert sum(pair.part for pair in told.pairs) == pytest.approx(hits[3].score, abs=1e-5)
    alone = kept.search(QUERY, 12, fusion="minmax:cls=1", feedback="none")
    assert ids(alone) == ids(kept.search(QUERY, 12, fusion="sum:cls=1", feedback="none"))


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"layout": "dense", "fusion": "minmax:tokens=1"}, "stores no tokens for fusion"),
        ({"layout": "multivector", "codec": "float16", "feedback": "codes=1"}, "has no codes for feedback"),
        ({"layout": "dense", "fusion": "best:cls=1"}, "'best' is not known"),
        ({"layout": "dense", "length_penalty": 0.1}, "nothing for length_penalty"),
        ({"layout": "codes", "codec": "binary", "length_penalty": -1}, "length_penalty"),
    ],
)
def test_recipes_that_cannot_be(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Recipe(name="mine", **parts)
