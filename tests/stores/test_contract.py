"""One suite that every engine passes, and what is special to each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from connector import Connector, Document, Encoder
from connector.compression.codecs.scalar_quantization import stored_bytes
from connector.core.errors import (
    CollectionExists,
    CollectionNotFound,
    InputError,
    StoreError,
    StoreLocked,
    StoreUnavailable,
)
from connector.core.types import Sparse, point_id
from connector.stores import EdgeStore, Fused, Nearest, Point, Query, ServerStore, Store, open_store
from connector.stores import points as points_module
from connector.stores.schema import CollectionSchema, Quantization, VectorSchema
from connector.stores.server import convert as requests_module

WIDTH, TOKEN_WIDTH = 8, 16
ID = point_id("0", 0)


def schema(tokens: str = "float32") -> CollectionSchema:
    datatype: Any = tokens
    return CollectionSchema(
        (
            VectorSchema("cls", WIDTH, "float32"),
            VectorSchema("tokens", TOKEN_WIDTH, datatype, multivector=True),
        ),
        indexes={"metadata.odd": "bool", "n": "integer"},
    )


def points(count: int, seed: int = 0) -> list[Point]:
    """Unit vectors that half precision holds exactly, with 1 to 9 token rows, and n: 0 … count − 1."""
    rng = np.random.default_rng(seed)

    def unit(*shape: int) -> Any:
        vectors = rng.normal(size=shape)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return vectors.astype(np.float16).astype(np.float32)

    return [
        Point(
            point_id(str(number), 0),
            {"cls": unit(WIDTH), "tokens": unit(1 + number % 9, TOKEN_WIDTH)},
            {"n": number, "text": f"text {number}", "metadata": {"odd": number % 2 == 1}},
        )
        for number in range(count)
    ]


def maxsim(query: Any, tokens: Any) -> float:
    return float((query @ tokens.T).max(axis=1).sum())


def odd() -> models.Filter:
    return models.Filter(
        must=[models.FieldCondition(key="metadata.odd", match=models.MatchValue(value=True))]
    )


@pytest.fixture
def store(place: dict[str, Any], name: str) -> Iterator[Store]:
    """With one empty collection called `name`."""
    opened = open_store(**place)
    opened.create(name, schema(), {"format": "1"})
    yield opened
    if name in opened.names():
        opened.drop(name)
    opened.close()


# Every engine: collections


def test_create_lists_and_drop_forgets(store: Store, name: str) -> None:
    assert name in store.names()
    store.put_artifact(name, "codec", b"codec")
    store.drop(name)
    assert not [known for known in store.names() if known.startswith(name)]
    store.create(name, schema(), {})
    assert store.count(name) == 0
    with pytest.raises(StoreError, match="codec"):
        store.get_artifact(name, "codec")


def test_the_first_claim_of_an_artifact_wins(store: Store, name: str) -> None:
    assert store.claim_artifact(name, "codec", b"first") == b"first"
    assert store.claim_artifact(name, "codec", b"second") == b"first"
    assert store.get_artifact(name, "codec") == b"first"


def test_names_are_sorted(store: Store, name: str) -> None:
    others = [f"{name}-b", f"{name}-a"]
    for other in others:
        store.create(other, schema(), {})
    assert [known for known in store.names() if known.startswith(name)] == [name, *sorted(others)]
    for other in others:
        store.drop(other)


def test_a_taken_name_is_refused_and_its_collection_untouched(store: Store, name: str) -> None:
    store.upsert(name, points(3))
    with pytest.raises(CollectionExists, match=name):
        store.create(name, schema(), {"format": "2"})
    assert store.count(name) == 3
    assert store.info(name) == {"format": "1"}


def test_info_is_merged(store: Store, name: str) -> None:
    store.set_info(name, {"codec": "a", "encoder": "b"})
    store.set_info(name, {"codec": "ç"})
    assert store.info(name) == {"format": "1", "codec": "ç", "encoder": "b"}


def test_info_is_a_copy(store: Store, name: str) -> None:
    store.info(name)["format"] = "2"
    assert store.info(name) == {"format": "1"}


USES: dict[str, Callable[[Store], Any]] = {
    "info": lambda store: store.info("no-such"),
    "set_info": lambda store: store.set_info("no-such", {"a": "b"}),
    "drop": lambda store: store.drop("no-such"),
    "put_artifact": lambda store: store.put_artifact("no-such", "key", b""),
    "get_artifact": lambda store: store.get_artifact("no-such", "key"),
    "drop_artifact": lambda store: store.drop_artifact("no-such", "key"),
    "upsert": lambda store: store.upsert("no-such", points(1)),
    "delete": lambda store: store.delete("no-such", [ID]),
    "retrieve": lambda store: store.retrieve("no-such", [ID], []),
    "search": lambda store: store.search("no-such", nearest(points(1)[0], 1), payload=[]),
    "scroll": lambda store: list(store.scroll("no-such", [])),
    "count": lambda store: store.count("no-such"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_missing_collection_is_refused_and_the_known_ones_named(
    store: Store, name: str, use: Callable[[Store], Any]
) -> None:
    with pytest.raises(CollectionNotFound, match=f"no-such.*{name}"):
        use(store)


def test_artifacts_round_trip_and_are_replaced(store: Store, name: str) -> None:
    every_byte = bytes(range(256)) * 1000
    store.put_artifact(name, "codec.safetensors", b"old")
    store.put_artifact(name, "codec.safetensors", every_byte)
    store.put_artifact(name, "empty", b"")
    assert store.get_artifact(name, "codec.safetensors") == every_byte
    assert store.get_artifact(name, "empty") == b""
    with pytest.raises(StoreError, match="missing"):
        store.get_artifact(name, "missing")


def test_artifacts_are_dropped_one_by_one_and_missing_ones_do_no_harm(store: Store, name: str) -> None:
    store.drop_artifact(name, "none yet")
    for key in ("a", "b"):
        store.put_artifact(name, key, b"data")
    for _ in range(2):
        store.drop_artifact(name, "a")
    assert store.get_artifact(name, "b") == b"data"
    with pytest.raises(StoreError, match="a"):
        store.get_artifact(name, "a")


def test_artifacts_are_no_collections_and_no_points(store: Store, name: str) -> None:
    store.put_artifact(name, "key", b"data")
    assert [known for known in store.names() if known.startswith(name)] == [name]
    assert store.count(name) == 0


def test_two_openings_see_the_same(store: Store, place: dict[str, Any], name: str) -> None:
    store.upsert(name, points(2))
    second = open_store(**place)
    assert second.info(name) == {"format": "1"}
    assert second.count(name) == 2
    second.close()
    assert store.count(name) == 2


def test_close_twice_is_harmless(place: dict[str, Any], name: str) -> None:
    store = open_store(**place)
    store.create(name, schema(), {})
    store.drop(name)
    store.close()
    store.close()


# Every engine: points


def test_upsert_replaces(store: Store, name: str) -> None:
    old, new = points(1)[0], points(1, seed=1)[0]
    store.upsert(name, [old])
    store.upsert(name, [Point(old.id, new.vectors, {"n": 7})])
    assert store.count(name) == 1
    (found,) = store.scroll(name, ["n", "text"], ["cls", "tokens"])
    assert found.payload == {"n": 7}
    np.testing.assert_allclose(found.vectors["tokens"], new.vectors["tokens"], atol=1e-6)


def test_delete_passes_over_missing_ids(store: Store, name: str) -> None:
    written = points(3)
    store.upsert(name, written)
    store.delete(name, [written[1].id, point_id("missing", 0)])
    store.delete(name, [written[1].id])
    assert {record.id for record in store.scroll(name, [])} == {written[0].id, written[2].id}


def test_writing_nothing_is_harmless(store: Store, name: str) -> None:
    store.upsert(name, [])
    store.delete(name, [])
    assert store.retrieve(name, [], []) == {}
    assert store.count(name) == 0


def test_retrieve_gives_what_is_there_with_the_keys_asked_for(store: Store, name: str) -> None:
    written = points(3)
    store.upsert(name, written)
    found = store.retrieve(name, [written[2].id, point_id("missing", 0), written[0].id], ["n", "absent"])
    assert {id_: record.payload for id_, record in found.items()} == {
        written[0].id: {"n": 0},
        written[2].id: {"n": 2},
    }


def test_payload_round_trips(store: Store, name: str) -> None:
    payload = {
        "metadata": {
            "ü.nicode": "日本 🦦",
            "": "empty key",
            "deep": [{"a": [None, True, -1.5, 2**53 + 1]}],
            "{}": {},
        }
    }
    store.upsert(name, [Point(ID, points(1)[0].vectors, payload)])
    assert store.retrieve(name, [ID], ["metadata"])[ID].payload == payload


def test_count_with_a_filter(store: Store, name: str) -> None:
    store.upsert(name, points(25))
    assert (store.count(name), store.count(name, odd())) == (25, 12)


def test_scroll_gives_each_point_once_in_order(store: Store, name: str) -> None:
    written = points(2500)
    store.upsert(name, written)
    found = list(store.scroll(name, ["n"]))
    assert [record.id for record in found] == sorted(point.id for point in written)
    assert sorted(record.payload["n"] for record in found) == list(range(2500))


def test_scroll_gives_the_vectors_asked_for(store: Store, name: str) -> None:
    store.upsert(name, points(3))
    assert [record.vectors for record in store.scroll(name, [])] == [{}] * 3
    for record in store.scroll(name, ["n"], ["tokens"]):
        assert set(record.vectors) == {"tokens"}
        np.testing.assert_allclose(
            record.vectors["tokens"], points(3)[record.payload["n"]].vectors["tokens"], atol=1e-6
        )


def nearest(point: Point, limit: int) -> Nearest:
    return Nearest(point.vectors["cls"], "cls", limit)


def test_search_orders_by_inner_product(store: Store, name: str) -> None:
    written, query = points(60), points(1, seed=1)[0].vectors["cls"] * 3
    store.upsert(name, written)
    found = store.search(name, Nearest(query, "cls", 10), payload=["n"])
    scores = np.array([point.vectors["cls"] @ query for point in written])
    assert [record.payload["n"] for record in found] == np.argsort(-scores)[:10].tolist()
    np.testing.assert_allclose([record.score for record in found], np.sort(scores)[::-1][:10], atol=1e-5)


def test_search_returns_only_what_was_asked_for(store: Store, name: str) -> None:
    store.upsert(name, points(5))
    query = nearest(points(1)[0], 3)
    assert all(
        (record.payload, record.vectors) == ({}, {}) for record in store.search(name, query, payload=[])
    )
    for record in store.search(name, query, payload=["n", "absent"], vectors=["tokens"]):
        assert set(record.payload) == {"n"}
        assert set(record.vectors) == {"tokens"}
        assert record.vectors["tokens"].dtype == np.float32
        assert record.vectors["tokens"].shape == (1 + record.payload["n"] % 9, TOKEN_WIDTH)


def test_search_of_an_empty_collection_finds_nothing(store: Store, name: str) -> None:
    query = points(1)[0]
    by_tokens = Nearest(query.vectors["tokens"], "tokens", 3, prefetch=(nearest(query, 3),))
    assert store.search(name, nearest(query, 3), payload=[]) == []
    assert store.search(name, by_tokens, payload=[]) == []


@pytest.mark.parametrize("datatype", ["float32", "float16"])
def test_engine_maxsim_over_prefetched_points_is_maxsim(
    store: Store, name: str, datatype: str, rng: np.random.Generator
) -> None:
    written = points(200)
    cls, tokens = rng.normal(size=WIDTH), rng.normal(size=(5, TOKEN_WIDTH))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    store.drop(name)
    store.create(name, schema(datatype), {})
    store.upsert(name, written)
    prefetch = Nearest(cls.astype(np.float32), "cls", 50)
    found = store.search(
        name, Nearest(tokens.astype(np.float32), "tokens", 20, prefetch=(prefetch,)), payload=["n"]
    )
    near = np.argsort([-(point.vectors["cls"] @ cls) for point in written])[:50]
    scores = {int(n): maxsim(tokens, written[n].vectors["tokens"]) for n in near}
    expected = sorted(scores, key=lambda n: -scores[n])[:20]
    np.testing.assert_allclose(
        [record.score for record in found], [scores[n] for n in expected], rtol=0, atol=1e-3
    )
    for record in found:
        assert record.score == pytest.approx(scores[record.payload["n"]], abs=1e-3)


def test_the_filter_applies_before_the_limit_of_every_stage(store: Store, name: str) -> None:
    store.upsert(name, points(60))
    query = points(1)[0]
    by_tokens = Nearest(query.vectors["tokens"], "tokens", 30, prefetch=(nearest(query, 30),))
    for nearest_points in (nearest(query, 30), by_tokens):
        found = store.search(name, nearest_points, payload=["metadata"], filter=odd())
        assert len(found) == 30
        assert all(record.payload["metadata"]["odd"] for record in found)


def test_an_oversized_multivector_is_refused_with_the_remedy(store: Store, name: str) -> None:
    rows = 1_048_576 // TOKEN_WIDTH + 1
    vectors = {"cls": points(1)[0].vectors["cls"], "tokens": np.ones((rows, TOKEN_WIDTH), np.float32)}
    with pytest.raises(InputError, match=f"{rows} × {TOKEN_WIDTH}.*1048576; pool.*chunk_tokens"):
        store.upsert(name, [Point(ID, vectors, {})])
    assert store.count(name) == 0


def test_finish_changes_no_answer(store: Store, name: str) -> None:
    store.upsert(name, points(300))
    query = nearest(points(1)[0], 10)
    before = store.search(name, query, payload=["n"])
    store.finish(name)
    assert [record.id for record in store.search(name, query, payload=["n"])] == [
        record.id for record in before
    ]


def test_one_place_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got none"):
        open_store()
    with pytest.raises(InputError, match="got path and url"):
        open_store(path=tmp_path, url="http://127.0.0.1:6333")


# Every engine: words, and queries that are fused


def words(*indices: int, weights: Sequence[float] | None = None) -> Sparse:
    values = np.ones(len(indices)) if weights is None else weights
    return Sparse(np.array(indices, np.uint32), np.array(values, np.float32))


WORDS = {number: words(*range(number % 7, 12, 1 + number % 4), 20 + number) for number in range(60)}
"""Twelve words that many points have, and one of its own for each."""


@pytest.fixture
def worded(store: Store, name: str) -> Store:
    """Sixty points with vectors and words, which weigh 0.5 to 2."""
    store.drop(name)
    store.create(name, replace(schema(), sparse=("lexical",)), {})
    store.upsert(
        name, [Point(it.id, {**it.vectors, "lexical": sparse}, it.payload) for it, sparse in sixty()]
    )
    return store


def sixty() -> list[tuple[Point, Sparse]]:
    rng = np.random.default_rng(1)
    weighed = [words(*it.indices, weights=rng.uniform(0.5, 2, len(it))) for it in WORDS.values()]
    return list(zip(points(60), weighed, strict=True))


def slow_bm25(query: Sparse) -> dict[int, float]:
    """Σ ln(1 + (N − n + ½) / (n + ½)) · weight over the words that a point shares with the query."""
    scores: dict[int, float] = {}
    for number, (_, sparse) in enumerate(sixty()):
        for word, weight in zip(sparse.indices.tolist(), sparse.values.tolist(), strict=True):
            if word in query.indices:
                having = sum(word in it.indices for it in WORDS.values())
                rarity = np.log(1 + (60 - having + 0.5) / (having + 0.5))
                scores[number] = scores.get(number, 0) + float(rarity) * weight
    return scores


def found_by(store: Store, name: str, query: Query, filter: models.Filter | None = None) -> dict[int, float]:
    """Numbers of the points found, best first, and their scores."""
    found = store.search(name, query, payload=["n"], filter=filter)
    scores = [record.score for record in found]
    assert scores == sorted(scores, reverse=True)
    return {record.payload["n"]: record.score for record in found}


@pytest.mark.parametrize("query", [words(3), words(3, 25, 7), words(0, 5, 11, 1000)], ids=["1", "3", "4"])
def test_search_by_words_is_bm25(worded: Store, name: str, query: Sparse) -> None:
    scores = slow_bm25(query)
    best = sorted(scores, key=lambda number: -scores[number])[:10]
    for _ in range(2):
        found = found_by(worded, name, Nearest(query, "lexical", 10))
        assert list(found) == best
        assert found == pytest.approx({number: scores[number] for number in best}, rel=1e-5)
        worded.finish(name)


def test_search_by_words_finds_only_points_that_have_one(worded: Store, name: str) -> None:
    assert list(found_by(worded, name, Nearest(words(20 + 17), "lexical", 60))) == [17]
    assert found_by(worded, name, Nearest(words(1000), "lexical", 60)) == {}
    assert found_by(worded, name, Nearest(words(), "lexical", 60)) == {}
    everywhere = found_by(worded, name, Nearest(words(*range(12)), "lexical", 60), odd())
    assert len(everywhere) == 30
    assert all(number % 2 for number in everywhere)


def test_points_without_words_are_not_found_by_them(worded: Store, name: str) -> None:
    vectors = points(1)[0].vectors
    worded.upsert(name, [Point(point_id("none", 0), {**vectors, "lexical": words()}, {"n": 100})])
    assert worded.count(name) == 61
    assert 100 not in found_by(worded, name, Nearest(words(*range(12)), "lexical", 100))
    assert 100 in found_by(worded, name, Nearest(vectors["cls"], "cls", 100))


def test_words_are_replaced_with_their_point(worded: Store, name: str) -> None:
    point = points(60)[17]
    worded.upsert(name, [Point(point.id, {**point.vectors, "lexical": words(99)}, point.payload)])
    assert found_by(worded, name, Nearest(words(20 + 17), "lexical", 10)) == {}
    assert list(found_by(worded, name, Nearest(words(99), "lexical", 10))) == [17]


def fused(method: Any, limit: int = 10) -> tuple[Nearest, Nearest, Fused]:
    """By vectors, by words, and by both."""
    by_cls = Nearest(points(1, seed=1)[0].vectors["cls"], "cls", 20)
    by_words = Nearest(words(3, 7), "lexical", 20)
    return by_cls, by_words, Fused((by_cls, by_words), limit, method)


def reciprocal_ranks(found: list[dict[int, float]]) -> dict[int, float]:
    """Σ 1 / (2 + rank), counted from 0."""
    scores: dict[int, float] = {}
    for ranks in found:
        for rank, number in enumerate(ranks):
            scores[number] = scores.get(number, 0) + 1 / (2 + rank)
    return scores


def distributions(found: list[dict[int, float]]) -> dict[int, float]:
    """Σ (score − (mean − 3σ)) / 6σ, σ of a sample."""
    scores: dict[int, float] = {}
    for each in found:
        mean, deviation = np.mean(list(each.values())), np.std(list(each.values()), ddof=1)
        for number, score in each.items():
            scores[number] = scores.get(number, 0) + (score - mean + 3 * deviation) / (6 * deviation)
    return scores


FUSIONS = {"rrf": reciprocal_ranks, "dbsf": distributions}


@pytest.mark.parametrize("method", FUSIONS)
@pytest.mark.parametrize("filter", [None, odd()], ids=["all", "odd"])
def test_fused_queries_score_as_their_parts_say(
    worded: Store, name: str, method: str, filter: models.Filter | None
) -> None:
    """Points of the same score may stand in either order."""
    by_cls, by_words, both = fused(method, 12)
    parts = [found_by(worded, name, part, filter) for part in (by_cls, by_words)]
    expected = FUSIONS[method](parts)
    found = found_by(worded, name, both, filter)
    assert len(found) == 12
    assert found == pytest.approx({number: expected[number] for number in found}, abs=1e-4)
    assert sorted(found.values()) == pytest.approx(sorted(expected.values())[-12:], abs=1e-4)
    if filter is not None:
        assert all(number % 2 for number in found)


@pytest.mark.parametrize("method", FUSIONS)
def test_a_fused_query_may_come_first(worded: Store, name: str, method: str) -> None:
    """Its points alone are scored by the query behind it, and the filter holds for all of them."""
    by_cls, _, both = fused(method, 15)
    within = found_by(worded, name, both)
    tokens = points(9, seed=2)[4].vectors["tokens"]
    assert not isinstance(tokens, Sparse)
    found = found_by(worded, name, Nearest(tokens, "tokens", 60, (both,)))
    expected = {number: maxsim(tokens, points(60)[number].vectors["tokens"]) for number in within}
    assert found == pytest.approx(expected, abs=1e-3)
    assert found_by(worded, name, replace(by_cls, limit=3, prefetch=(both,))).keys() <= within.keys()
    filtered = found_by(worded, name, Nearest(tokens, "tokens", 60, (both,)), odd())
    assert filtered.keys() == found_by(worded, name, both, odd()).keys()
    assert all(number % 2 for number in filtered)


def test_several_queries_score_the_points_that_any_of_them_finds(worded: Store, name: str) -> None:
    """One request gives the score in each of two vectors of every point that either finds."""
    by_cls = Nearest(points(1, seed=1)[0].vectors["cls"], "cls", 10)
    by_words = Nearest(words(3, 7), "lexical", 10)
    pool = {**found_by(worded, name, by_cls), **found_by(worded, name, by_words)}.keys()
    both = (by_cls, by_words)
    scored = [replace(query, limit=20, prefetch=both) for query in both]
    first, (second,) = worded.search_together(name, scored, payload=["n"], vectors=["cls"])
    assert {it.payload["n"] for it in first} == pool
    everywhere = found_by(worded, name, replace(by_cls, limit=60))
    assert {it.payload["n"]: it.score for it in first} == pytest.approx({it: everywhere[it] for it in pool})
    assert all(it.vectors.keys() == {"cls"} for it in first)
    numbers = {it.key: it.payload["n"] for it in first}
    worded_scores = found_by(worded, name, replace(by_words, limit=60))
    assert {numbers[key]: score for key, score in second.items()} == pytest.approx(
        {it: worded_scores[it] for it in pool if it in worded_scores}
    )


@pytest.mark.parametrize("method", FUSIONS)
def test_prefetches_may_be_nested(worded: Store, name: str, method: str) -> None:
    """Tokens among the best ten by CLS of the twenty that are fused."""
    by_cls, _, both = fused(method, 20)
    ten = replace(by_cls, limit=10, prefetch=(both,))
    tokens = points(9, seed=2)[4].vectors["tokens"]
    found = found_by(worded, name, Nearest(tokens, "tokens", 60, (ten,)))
    assert found.keys() == found_by(worded, name, ten).keys()
    assert len(found) == 10


@pytest.mark.parametrize("method", FUSIONS)
def test_fusing_with_words_that_nothing_has_leaves_the_other_order(
    worded: Store, name: str, method: Any
) -> None:
    by_cls, _, _ = fused(method)
    for nothing in (words(), words(1000)):
        both = Fused((by_cls, Nearest(nothing, "lexical", 20)), 10, method)
        assert list(found_by(worded, name, both)) == list(found_by(worded, name, by_cls))[:10]


def test_a_collection_of_words_survives_reopening(tmp_path: Path) -> None:
    place = {"path": tmp_path / "qdrant"}
    store = open_store(**place)
    store.create("a", replace(schema(), sparse=("lexical",)), {})
    store.upsert("a", [Point(it.id, {**it.vectors, "lexical": sparse}, it.payload) for it, sparse in sixty()])
    before = found_by(store, "a", Nearest(words(3, 25, 7), "lexical", 10))
    store.finish("a")
    store.close()
    store = open_store(**place)
    assert found_by(store, "a", Nearest(words(3, 25, 7), "lexical", 10)) == pytest.approx(before)
    store.close()


# Edge: one folder, one process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "qdrant"


@pytest.fixture
def edge_store(folder: Path) -> Iterator[EdgeStore]:
    """A folder with an empty collection "a"."""
    store = open_store(path=folder)
    assert isinstance(store, EdgeStore)
    store.create("a", schema(), {})
    yield store
    store.close()


TRY_TO_OPEN = """
import sys, time
from connector.core.errors import StoreLocked
from connector.stores import open_store
started = time.perf_counter()
try:
    open_store(path=sys.argv[1]).close()
    answer = "free"
except StoreLocked as error:
    answer = str(error)
print(time.perf_counter() - started, answer)
"""

HOLD = """
import sys
import numpy as np
from connector.stores.schema import CollectionSchema, VectorSchema
from connector.stores import Point, open_store
from connector.core.types import point_id
store = open_store(path=sys.argv[1])
store.create("held", CollectionSchema((VectorSchema("cls", 8, "float32"),)), {"made": "by another process"})
store.put_artifact("held", "key", b"data")
for batch in range(5):
    store.upsert("held", [
        Point(point_id(str(n), 0), {"cls": np.full(8, n, np.float32)}, {"n": n})
        for n in range(100 * batch, 100 * batch + 100)
    ])
print("acknowledged", flush=True)
sys.stdin.read()
"""


def another_process_finds(folder: Path) -> str:
    run = subprocess.run(
        [sys.executable, "-c", TRY_TO_OPEN, folder], capture_output=True, text=True, check=True
    )
    seconds, answer = run.stdout.split(maxsplit=1)
    assert float(seconds) < 1
    return answer


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has written 500 points to a collection "held" and keeps the folder open."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "acknowledged\n"
        try:
            yield process
        finally:
            process.kill()


def test_users_of_a_folder_share_it(edge_store: EdgeStore, folder: Path) -> None:
    second = open_store(path=folder.parent / "." / folder.name)
    edge_store.upsert("a", points(3))
    assert second.count("a") == 3
    second.close()
    edge_store.upsert("a", points(5))
    assert edge_store.count("a") == 5


def test_the_lock_is_held_until_the_last_user_closes(edge_store: EdgeStore, folder: Path) -> None:
    second = open_store(path=folder)
    second.close()
    assert str(folder) in another_process_finds(folder)
    edge_store.close()
    assert another_process_finds(folder) == "free\n"


def test_closing_twice_does_not_close_for_another_user(edge_store: EdgeStore, folder: Path) -> None:
    second = open_store(path=folder)
    second.close()
    second.close()
    assert another_process_finds(folder) != "free\n"
    assert edge_store.count("a") == 0


def test_a_folder_held_by_another_process_is_refused_at_once(folder: Path) -> None:
    with holder(folder), pytest.raises(StoreLocked, match="open in another process"):
        open_store(path=folder)


def test_a_refused_opening_leaves_no_trace(folder: Path) -> None:
    early = open_store(path=folder)  # there is nothing to lock yet
    with holder(folder), pytest.raises(StoreLocked):
        open_store(path=folder)
    late = open_store(path=folder)
    assert late.count("held") == 500
    early.close()
    late.close()
    assert another_process_finds(folder) == "free\n"


def test_what_was_acknowledged_survives_sigkill(folder: Path) -> None:
    with holder(folder) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    store = open_store(path=folder)
    assert store.info("held") == {"made": "by another process"}
    assert store.get_artifact("held", "key") == b"data"
    assert sorted(record.payload["n"] for record in store.scroll("held", ["n"])) == list(range(500))
    store.close()


def test_points_survive_reopening(edge_store: EdgeStore, folder: Path) -> None:
    edge_store.upsert("a", points(20))
    edge_store.close()
    store = open_store(path=folder)
    assert store.count("a") == 20
    store.close()


def test_opening_makes_nothing(folder: Path) -> None:
    store = open_store(path=folder)
    assert store.names() == []
    with pytest.raises(CollectionNotFound, match="there: none"):
        store.count("a")
    store.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"format": 1}',
        b'{"format": 9, "collections": {}}',
        b'{"format": 1, "collections": []}',
        b'{"format": 1, "collections": {"a": {"folder": "x"}}}',
    ],
)
def test_a_damaged_registry_is_named(edge_store: EdgeStore, folder: Path, content: bytes) -> None:
    (folder / "registry.json").write_bytes(content)
    with pytest.raises(StoreError, match=str(folder / "registry.json")):
        edge_store.names()
    with pytest.raises(StoreError, match=str(folder / "registry.json")):
        edge_store.create("b", schema(), {})
    assert (folder / "registry.json").read_bytes() == content


def test_a_registry_that_did_not_change_is_not_read_again(
    edge_store: EdgeStore, folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another store of the folder writes, in this process or before it was opened, is seen at once."""
    read, reads = Path.read_bytes, list[Path]()

    def counted(path: Path) -> bytes:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(Path, "read_text", lambda path, **_: counted(path).decode())

    def readings() -> int:
        found = sum(path == folder / "registry.json" for path in reads)
        reads.clear()
        return found

    with Connector.create("docs", path=folder, model=encoder) as connector:
        connector.ingest([Document(id="otter", text="The otter sleeps.")])
        connector.search("otters")
        readings()
        for _ in range(5):
            assert connector.search("otters")[0].id == "otter"
        assert readings() == 0
        second = open_store(path=folder)
        second.switch("alias", "a")
        second.set_info("a", {"codec": "new"})
        assert edge_store.aliases()["alias"] == "a"
        assert edge_store.info("alias") == {"codec": "new"}
        second.close()
    registry = folder / "registry.json"
    text = registry.read_text().replace('"new"', '"old"')  # of the same size
    registry.write_text(text)
    os.utime(registry, (1, 1))
    assert edge_store.info("a") == {"codec": "old"}
    edge_store.info("a")["codec"] = "mine"
    assert edge_store.info("a") == {"codec": "old"}


def test_a_missing_shard_is_a_store_error(edge_store: EdgeStore, folder: Path) -> None:
    edge_store.close()
    (shard,) = folder.glob("collections/*/shard")
    shard.rename(shard.with_name("moved"))
    store = open_store(path=folder)
    with pytest.raises(StoreError, match="was damaged"):
        store.count("a")
    store.close()


def test_a_file_in_place_of_the_folder_is_a_store_error(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreError, match=str(folder)):
        open_store(path=folder)


@pytest.mark.parametrize("broken", ["os.fsync", "connector.stores.edge.convert.config"])
def test_a_create_that_fails_leaves_nothing(
    edge_store: EdgeStore, folder: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ours() -> list[Path]:  # the engine makes and renames files of its own at any time
        return sorted([*folder.glob("*"), *folder.glob("collections/*")])

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = ours()

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(StoreError, match="No space left"):
            edge_store.create("b", schema(), {})
    assert ours() == before
    assert edge_store.names() == ["a"]
    edge_store.create("b", schema(), {})


def test_an_interrupted_write_leaves_the_old_registry(
    edge_store: EdgeStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            edge_store.set_info("a", {"codec": "new"})
    assert edge_store.info("a") == {}
    assert not list(folder.rglob("*.tmp"))
    assert json.loads((folder / "registry.json").read_text())["format"] == 1


def test_drop_removes_the_files(edge_store: EdgeStore, folder: Path) -> None:
    edge_store.upsert("a", points(3))
    edge_store.drop("a")
    assert list((folder / "collections").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside", "a/b", "ä ö", "."])
def test_collections_stay_inside_the_folder(edge_store: EdgeStore, folder: Path, name: str) -> None:
    edge_store.create(name, schema(), {})
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}
    assert len(list((folder / "collections").iterdir())) == 2
    edge_store.drop(name)


def test_disk_bytes_grow(edge_store: EdgeStore) -> None:
    before = edge_store.disk_bytes("a")
    edge_store.upsert("a", points(2000))
    edge_store.finish("a")
    vectors = sum(vector.nbytes for point in points(2000) for vector in point.vectors.values())
    assert edge_store.disk_bytes("a") - before > vectors


def test_disk_bytes_count_blocks_not_lengths(edge_store: EdgeStore, folder: Path) -> None:
    before = edge_store.disk_bytes("a")
    (shard,) = folder.glob("collections/*/shard")
    with (shard / "sparse").open("wb") as file:
        file.truncate(2**30)
    assert edge_store.disk_bytes("a") - before < 2**20


def test_threads_may_write_and_read_together(edge_store: EdgeStore) -> None:
    written = points(800)
    failures: list[Exception] = []

    def write(part: int) -> None:
        try:
            for start in range(0, 200, 20):
                batch = written[200 * part + start : 200 * part + start + 20]
                edge_store.upsert("a", batch)
                found = edge_store.retrieve("a", [point.id for point in batch], ["n"])
                assert len(found) == 20
                edge_store.search("a", nearest(batch[0], 5), payload=["n"])
                edge_store.disk_bytes("a")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert edge_store.count("a") == 800


WIDE = 64


def wide(count: int) -> list[Point]:
    """Points with 1 to 5 token rows of 64 dimensions."""
    rng = np.random.default_rng(3)

    def unit(*shape: int) -> Any:
        vectors = rng.normal(size=shape)
        return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)

    return [
        Point(point_id(str(n), 0), {"cls": unit(WIDTH), "tokens": unit(1 + n % 5, WIDE)}, {"n": n})
        for n in range(count)
    ]


@pytest.mark.parametrize("quantization", get_args(Quantization))
def test_the_best_of_quantized_tokens_are_scored_again_by_the_tokens(
    edge_store: EdgeStore, quantization: Any
) -> None:
    vectors = (
        VectorSchema("cls", WIDTH, "float32"),
        VectorSchema("tokens", WIDE, "float32", multivector=True, quantization=quantization),
    )
    edge_store.create("quantized", CollectionSchema(vectors), {})
    *written, query = wide(201)
    edge_store.upsert("quantized", written)
    tokens: Any = query.vectors["tokens"]
    scores = {point.payload["n"]: maxsim(tokens, point.vectors["tokens"]) for point in written}
    best = sorted(scores, key=lambda number: -scores[number])[:10]
    for _ in range(2):
        by_tokens = Nearest(tokens, "tokens", 10, (nearest(query, 200),), oversampling=20)
        found = found_by(edge_store, "quantized", by_tokens)
        assert list(found) == best
        assert found == pytest.approx({number: scores[number] for number in best}, abs=1e-5)
        edge_store.finish("quantized")


@pytest.mark.parametrize(("datatype", "bound"), [("turbo8", 0.015), ("turbo4", 0.3)])
def test_vectors_of_qdrants_own_types_come_back_within_a_bound(
    edge_store: EdgeStore, datatype: Any, bound: float
) -> None:
    """The length of the error of a unit vector; 4 bits on 16 times as few levels as 8."""
    vectors = (
        VectorSchema("cls", WIDTH, datatype),
        VectorSchema("tokens", WIDE, datatype, multivector=True),
    )
    edge_store.create("turbo", CollectionSchema(vectors), {})
    *written, query = wide(101)
    edge_store.upsert("turbo", written)
    edge_store.finish("turbo")
    for record in edge_store.scroll("turbo", ["n"], ["cls", "tokens"]):
        for key, vector in written[record.payload["n"]].vectors.items():
            stored: Any = record.vectors[key]
            assert stored.shape == np.shape(vector)
            assert np.linalg.norm(stored - vector, axis=-1).max() < bound
    tokens: Any = query.vectors["tokens"]
    found = found_by(edge_store, "turbo", Nearest(tokens, "tokens", 100, (nearest(query, 100),)))
    for number, score in found.items():
        exact = maxsim(tokens, written[number].vectors["tokens"])
        assert score == pytest.approx(exact, abs=bound * len(tokens))


@pytest.mark.parametrize(
    ("datatype", "width"), [("turbo8", 384), ("turbo4", 384), ("turbo8", 64), ("turbo4", 64)]
)
def test_bytes_of_qdrants_own_types_are_those_on_its_disk(
    edge_store: EdgeStore, folder: Path, datatype: Any, width: int
) -> None:
    """The engine's file has room for more, which is zeros."""
    vector = VectorSchema("cls", width, datatype)
    edge_store.create("turbo", CollectionSchema((vector,)), {})
    rows = np.random.default_rng(0).normal(size=(4000, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    edge_store.upsert("turbo", [Point(point_id(str(n), 0), {"cls": row}, {}) for n, row in enumerate(rows)])
    (home,) = folder.glob("collections/turbo-*")
    (chunk,) = home.rglob("vector_storage-cls/tq_vectors/chunk_*.mmap")
    data = chunk.read_bytes()
    used = len(data.rstrip(b"\0"))
    assert used / 4000 == pytest.approx(stored_bytes(datatype, width), abs=0.1)


# Server


@contextmanager
def silent_server() -> Iterator[str]:
    """An address at which connections are taken and nothing is ever answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def answering_server(status: int, body: bytes) -> Iterator[str]:
    """An address that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def assert_unavailable(url: str, match: str) -> None:
    started = time.perf_counter()
    with pytest.raises(StoreUnavailable, match=match):
        open_store(url=url)
    assert time.perf_counter() - started < 5


def test_a_closed_port_is_unavailable() -> None:
    url = closed_port()
    assert_unavailable(url, url)


def test_a_server_that_never_answers_is_unavailable() -> None:
    with silent_server() as url:
        assert_unavailable(url, url)


@pytest.mark.parametrize(
    ("status", "body", "match"),
    [
        (401, b"Must provide an API key", "QDRANT_API_KEY"),
        (403, b"Forbidden", "QDRANT_API_KEY"),
        (404, b"<h1>Not found</h1>", "404"),
        (200, b"<h1>It works!</h1>", "Qdrant"),
        (200, b"{}", "Qdrant"),
    ],
)
def test_what_does_not_speak_qdrant_is_unavailable(status: int, body: bytes, match: str) -> None:
    with answering_server(status, body) as url:
        assert_unavailable(url, match)


@pytest.mark.parametrize("url", ["localhost:port", "http://127.0.0.1:99999", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="localhost:6333"):
        open_store(url=url)


def request_bytes(batch: list[Point]) -> int:
    request = models.PointsList(points=[requests_module.point_struct(point) for point in batch])
    return len(request.model_dump_json(by_alias=True, exclude_unset=True, exclude_none=True).encode())


def test_batches_are_cut_by_bytes() -> None:
    written = points(100)
    limit = 5 * max(points_module.weight(point) for point in written)
    cut = list(points_module.batches(written, limit))
    assert [point.id for batch in cut for point in batch] == [point.id for point in written]
    assert all(len(batch) >= 5 for batch in cut[:-1])
    assert all(request_bytes(batch) < 2 * limit for batch in cut)


def test_a_point_over_the_limit_is_a_batch_of_its_own() -> None:
    assert [len(batch) for batch in points_module.batches(points(3), 1)] == [1, 1, 1]


@pytest.mark.parametrize("text", ["", "a", "é", "日本", '"\\\n\t'])
def test_a_request_is_at_most_twice_the_weight_of_its_points(text: str, rng: np.random.Generator) -> None:
    """Batches of 16 MiB by weight stay under the 32 MiB that a server takes."""
    vectors = {"cls": rng.normal(size=384).astype(np.float32), "tokens": rng.normal(size=(300, 192)) / 1e6}
    vectors["tokens"] = vectors["tokens"].astype(np.float32)
    payload = {"text": text * 100_000}
    point = Point(ID, vectors, payload)
    assert 0.5 * points_module.weight(point) < request_bytes([point]) <= 2 * points_module.weight(point)


def test_a_client_of_ones_own_stays_open() -> None:
    client = QdrantClient(":memory:")
    ServerStore(client, "here").close()
    assert client.get_collections().collections == []
    client.close()
