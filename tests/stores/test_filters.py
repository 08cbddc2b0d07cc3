"""One filter, two engines, the same points; and how filters reach the metadata."""

from __future__ import annotations

import contextlib
import datetime
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from qdrant_client import QdrantClient, models

from connector.core.errors import InputError
from connector.core.types import point_id
from connector.stores import Nearest, Point, Store, open_store
from connector.stores.edge.convert import to_edge
from connector.stores.filters import matches_all, on_metadata
from connector.stores.schema import CollectionSchema, VectorSchema

COUNT = 60
COLORS = ["red", "green", "blue", "dark red"]
NAMES = ["Ada", "Grace", "Алан"]


def metadata(number: int, chance: random.Random) -> dict[str, Any]:
    """Keys are missing, null and of several types by chance; every key is drawn for every point."""
    values: dict[str, list[Any]] = {
        "year": [number, number, 2000 + number, None, "2001", 7],
        "price": [number / 4, -1.5, 3, None],
        "color": [*COLORS, None, [], ["red", "blue"], ["green", None]],
        "even": [number % 2 == 0, True, False, None, "true", 1],
        "tags": [[], ["a"], ["a", "b"], ["a", "b", "c"], None, "a"],
        "scores": [[1, 5], [2.5], [9, 9, 9], []],
        "author": [{"name": name, "age": 20 + number} for name in NAMES] + [{}, None, {"name": None}],
        "books": [
            [],
            [{"title": "x", "pages": 10}, {"title": "y", "pages": 300}],
            [{"title": "x", "pages": 300}],
            [{"title": "y", "pages": 10, "formats": ["pdf", "epub"]}, {"pages": 10}],
        ],
        "seen": [
            f"2024-0{1 + number % 9}-15T12:00:00Z",
            f"2024-0{1 + number % 9}-15T12:00:00+05:00",
            "2024-05-01",
            "not a date",
            None,
        ],
        "place": [
            {"lon": 13.4 + number / 50, "lat": 52.5},
            {"lon": -70.7, "lat": -33.4 + number / 50},
            [{"lon": 13.4, "lat": 52.5}, {"lon": 2.35, "lat": 48.86}],
            None,
        ],
        "text": ["the quick brown fox", "a brown dog", "Quick!", ""],
    }
    drawn = {key: chance.choice(options) for key, options in values.items()}
    return {key: value for key, value in drawn.items() if chance.random() < 0.85}


def has(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def equals(key: str, value: Any) -> models.FieldCondition:
    return has(key, match=models.MatchValue(value=value))


def must(*conditions: Any) -> models.Filter:
    return models.Filter(must=list(conditions))


def between(low: float, high: float) -> models.Range:
    return models.Range(gte=low, lt=high)


def utc(*date: int) -> datetime.datetime:
    return datetime.datetime(*date, tzinfo=datetime.UTC)


BERLIN = models.GeoPoint(lon=13.4, lat=52.5)
RING = [(13, 52), (14, 52), (14, 53), (13, 53), (13, 52)]
HOLE = [(13.51, 52.4), (13.71, 52.4), (13.71, 52.6), (13.51, 52.6), (13.51, 52.4)]


def line(corners: list[tuple[float, float]]) -> models.GeoLineString:
    return models.GeoLineString(points=[models.GeoPoint(lon=lon, lat=lat) for lon, lat in corners])


def nested(key: str, *conditions: Any) -> models.NestedCondition:
    return models.NestedCondition(nested=models.Nested(key=key, filter=must(*conditions)))


def empty(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))


def null(key: str) -> models.IsNullCondition:
    return models.IsNullCondition(is_null=models.PayloadField(key=key))


IDS = [point_id(str(number), 0) for number in range(COUNT)]

FILTERS: dict[str, models.Filter] = {
    "integer": must(equals("year", 7)),
    "string": must(equals("color", "red")),
    "string of digits": must(equals("year", "2001")),
    "true": must(equals("even", True)),
    "false": must(equals("even", False)),
    "one is not true": must(equals("even", 1)),
    "unicode": must(equals("author.name", "Алан")),
    "any string": must(has("color", match=models.MatchAny(any=["red", "blue"]))),
    "any integer": must(has("year", match=models.MatchAny(any=[7, 11, 2012]))),
    "any of none": must(has("color", match=models.MatchAny(any=[]))),
    "except strings": must(has("color", match=models.MatchExcept(**{"except": ["red", "green"]}))),
    "except integers": must(has("year", match=models.MatchExcept(**{"except": [7]}))),
    "text": must(has("text", match=models.MatchText(text="brown"))),
    "any of the words": must(has("text", match=models.MatchTextAny(text_any="fox dog"))),
    "phrase": must(has("text", match=models.MatchPhrase(phrase="quick brown"))),
    "prefix": must(has("color", match=models.MatchPrefix(prefix="re"))),
    "substring": must(has("color", match=models.MatchSubstring(substring="e"))),
    "range of integers": must(has("year", range=between(5, 25))),
    "range of floats": must(has("price", range=models.Range(gt=-1.5, lte=3.0))),
    "half open range": must(has("price", range=models.Range(gt=3))),
    "range over an array": must(has("scores", range=between(2, 6))),
    "range of times": must(
        has("seen", range=models.DatetimeRange(gte=utc(2024, 3, 1), lt=utc(2024, 6, 15, 9)))
    ),
    "range of naive times": must(has("seen", range=models.DatetimeRange(gt=datetime.datetime(2024, 5, 1)))),
    "range of dates": must(has("seen", range=models.DatetimeRange(lte=datetime.date(2024, 5, 1)))),
    "nested key": must(has("author.age", range=between(30, 50))),
    "key through an array": must(equals("books[].title", "x"), has("books[].pages", range=between(200, 400))),
    "key of one element": must(equals("tags[0]", "a"), equals("tags[1]", "b")),
    "nested": must(nested("books", equals("title", "x"), has("pages", range=between(200, 400)))),
    "nested in brackets": must(nested("books[]", equals("formats[]", "pdf"))),
    "nested with must not": models.Filter(
        must=models.NestedCondition(
            nested=models.Nested(key="books", filter=models.Filter(must_not=[equals("title", "x")]))
        )
    ),
    "is empty": must(empty("tags")),
    "is empty, nested key": must(empty("author.name")),
    "is null": must(null("tags")),
    "is null, nested key": must(null("author.name")),
    "field is empty": must(has("tags", is_empty=True)),
    "field is not empty": must(has("tags", is_empty=False)),
    "field is null": must(has("color", is_null=True)),
    "field is not null": must(has("color", is_null=False)),
    "has id": must(models.HasIdCondition(has_id=[*IDS[:7], point_id("missing", 0)])),
    "has vector": must(models.HasVectorCondition(has_vector="cls")),
    "count of values": must(has("tags", values_count=models.ValuesCount(gte=2))),
    "count of values, no more than": must(has("tags", values_count=models.ValuesCount(lt=2))),
    "geo radius": must(has("place", geo_radius=models.GeoRadius(center=BERLIN, radius=30_000))),
    "geo box": must(
        has(
            "place",
            geo_bounding_box=models.GeoBoundingBox(
                top_left=models.GeoPoint(lon=-80, lat=-33), bottom_right=models.GeoPoint(lon=-60, lat=-34)
            ),
        )
    ),
    "geo polygon": must(has("place", geo_polygon=models.GeoPolygon(exterior=line(RING)))),
    "geo polygon with a hole": must(
        has("place", geo_polygon=models.GeoPolygon(exterior=line(RING), interiors=[line(HOLE)]))
    ),
    "must": must(equals("color", "red"), equals("even", True)),
    "must of one condition": models.Filter(must=equals("color", "red")),
    "should": models.Filter(should=[equals("color", "red"), equals("year", 7)]),
    "must not": models.Filter(must_not=[equals("color", "red"), empty("year")]),
    "must, should and must not": models.Filter(
        must=[has("price", range=models.Range(gte=-2))],
        should=[equals("even", True), equals("color", "blue")],
        must_not=[null("tags")],
    ),
    "filter in a filter": models.Filter(
        should=[must(equals("color", "red"), equals("even", True)), models.Filter(must_not=[null("year")])]
    ),
    "at least two": models.Filter(
        min_should=models.MinShould(
            conditions=[equals("color", "red"), equals("even", True), equals("tags", "b")], min_count=2
        )
    ),
    "no condition": models.Filter(),
    "a key that nothing has": must(equals("absent", 1)),
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Store]]:
    """Edge and local mode with the same points in collection "c"."""
    client = QdrantClient(":memory:")
    stores = [open_store(path=tmp_path_factory.mktemp("filters")), open_store(client=client)]
    chance = random.Random(0)
    points = [
        Point(
            id_,
            {"cls": np.full(4, 0.5, np.float32)},
            {"id": str(n), "passage": 0, "text": f"{n}", "metadata": metadata(n, chance)},
        )
        for n, id_ in enumerate(IDS)
    ]
    for store in stores:
        store.create("c", CollectionSchema((VectorSchema("cls", 4, "float32"),)), {})
        store.upsert("c", points)
    yield stores
    for store in stores:
        store.close()
    client.close()


def found(store: Store, filter: models.Filter | None) -> set[int]:
    query = Nearest(np.ones(4, np.float32), "cls", 2 * COUNT)
    records = store.search("c", query, payload=["id"], filter=on_metadata(filter))
    assert store.count("c", on_metadata(filter)) == len(records)
    return {int(record.payload["id"]) for record in records}


@pytest.mark.parametrize("case", FILTERS)
def test_engines_agree(engines: list[Store], case: str) -> None:
    edge, memory = (found(store, FILTERS[case]) for store in engines)
    assert edge == memory


TELLING = [case for case in FILTERS if case not in ("no condition", "has vector", "any of none")]


@pytest.mark.parametrize("case", TELLING)
def test_filters_of_the_congruence_tell_points_apart(engines: list[Store], case: str) -> None:
    """A case that matches nothing or everything on both engines would compare nothing."""
    if case != "a key that nothing has":
        assert 0 < len(found(engines[0], FILTERS[case])) < COUNT


def test_no_filter_finds_all(engines: list[Store]) -> None:
    for store in engines:
        assert found(store, None) == found(store, models.Filter()) == set(range(COUNT))


# Prefix


def keys(node: Any) -> list[str]:
    """All keys of a filter, in order."""
    if isinstance(node, BaseModel):
        return keys(node.model_dump(exclude_unset=True))
    if isinstance(node, list):
        return [key for item in node for key in keys(item)]
    if isinstance(node, dict):
        own = [node["key"]] if isinstance(node.get("key"), str) else []
        return own + [key for value in node.values() for key in keys(value)]
    return []


def test_keys_are_looked_up_in_the_metadata() -> None:
    every = models.Filter(
        must=[equals("a", 1), null("b"), empty("c.d"), models.HasIdCondition(has_id=IDS[:1])],
        should=[must(equals("e[].f", "x"))],
        must_not=equals("g", "h"),
        min_should=models.MinShould(conditions=[equals("i", True)], min_count=1),
    )
    expected = ["metadata." + key for key in ("a", "b", "c.d", "e[].f", "g", "i")]
    assert sorted(keys(on_metadata(every))) == expected


def test_a_prefix_that_is_there_stays() -> None:
    ready = must(equals("metadata.year", 7), null("metadata.a.b"))
    assert on_metadata(ready) == ready
    assert on_metadata(on_metadata(must(equals("year", 7)))) == on_metadata(must(equals("year", 7)))


def test_keys_that_only_begin_alike_get_the_prefix() -> None:
    assert keys(on_metadata(must(equals("metadata", 1), equals("metadatas", 1)))) == [
        "metadata.metadata",
        "metadata.metadatas",
    ]


def test_keys_inside_a_nested_filter_are_relative() -> None:
    inner = nested("books", equals("title", "x"), nested("formats", equals("metadata.kind", "pdf")))
    assert keys(on_metadata(must(inner)))[0] == "metadata.books"
    assert set(keys(on_metadata(must(inner)))) == {"metadata.books", "title", "formats", "metadata.kind"}


def test_values_that_look_like_conditions_stay() -> None:
    value = models.Filter(must=[equals("a", "key"), equals("b", "nested")])
    assert on_metadata(value) == models.Filter(
        must=[equals("metadata.a", "key"), equals("metadata.b", "nested")]
    )


@pytest.mark.parametrize("case", FILTERS)
def test_nothing_but_keys_changes(case: str) -> None:
    def without_keys(node: Any) -> Any:
        if isinstance(node, list):
            return [without_keys(item) for item in node]
        if isinstance(node, dict):
            return {name: without_keys(value) for name, value in node.items() if name != "key"}
        return node

    before, after = FILTERS[case], on_metadata(FILTERS[case])
    assert after is not None
    assert without_keys(after.model_dump()) == without_keys(before.model_dump())


def test_the_callers_filter_is_left_alone() -> None:
    filter = must(equals("a", 1), nested("b", equals("c", 2)))
    copy = filter.model_copy(deep=True)
    on_metadata(filter)
    assert filter == copy


def test_no_filter_stays_none() -> None:
    assert on_metadata(None) is None
    assert to_edge(None) is None


@pytest.mark.parametrize("wrong", [{"must": []}, "year = 7", equals("year", 7), []])
def test_what_is_no_filter_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match=rf"{type(wrong).__name__}; give a qdrant_client.models.Filter"):
        on_metadata(wrong)


def test_a_condition_that_edge_lacks_is_refused() -> None:
    slice_ = models.SliceCondition.model_validate({"slice": {"index": 0, "total": 2}})
    with pytest.raises(InputError, match="no Slice; use a server"):
        to_edge(must(slice_))


def test_a_number_that_no_document_holds_is_refused() -> None:
    for wide in (must(equals("a", 2**63)), must(has("a", match=models.MatchAny(any=[1, -(2**64)])))):
        with pytest.raises(InputError, match="wider than 64 bits"):
            to_edge(wide)


def test_a_match_that_edge_lacks_is_refused() -> None:
    """A later qdrant-client may bring one."""

    class MatchNew(BaseModel):
        value: int = 1

    field = models.FieldCondition.model_construct(key="a", match=MatchNew())
    unknown = models.Filter.model_construct(must=[field], should=None, must_not=None, min_should=None)
    with pytest.raises(InputError, match="MatchNew"):
        to_edge(unknown)


# What matches everything


ASKS_NOTHING: list[dict[str, Any]] = [
    {},
    {"must": []},
    {"must_not": []},
    {"must": [{}]},
    {"should": [{"must": []}]},
    {"must_not": [{"must_not": [{}]}]},
    {"must": [{"key": "year"}]},
    {"must": [{"key": "year", "range": {}}]},
    {"must": [{"key": "year", "values_count": {}}]},
    {"must_not": [{"key": "year"}]},
    {"must_not": [{"key": "year", "range": {}}]},
    {"must": [{"key": "year", "match": {"except": []}}]},
    {"must_not": [{"key": "year", "match": {"any": []}}]},
    {"must_not": [{"key": "year", "match": {"text": ""}}]},
    {"must_not": [{"has_id": []}]},
    {"must": [{"nested": {"key": "year", "filter": {}}}]},
    {"must_not": [{"nested": {"key": "year", "filter": {"must": []}}}]},
    {"min_should": {"conditions": [], "min_count": 0}},
    {"min_should": {"conditions": [{"key": "year", "match": {"value": 1}}], "min_count": 0}},
    {"min_should": {"conditions": [{"key": "year", "match": {"value": 1}}, {}], "min_count": 1}},
    {"should": [{"must": []}, {"key": "year", "match": {"value": 1}}]},
    {"should": [{"key": "year", "range": {}}, {"key": "year", "match": {"value": 1}}]},
    {"should": {"should": [{"should": []}, {"key": "year", "match": {"value": 1}}]}},
]
ASKS_SOMETHING: list[dict[str, Any]] = [
    {"must": [{"key": "year", "match": {"value": ""}}]},
    {"must": [{"key": "year", "range": {"gte": 0}}], "should": [{}], "must_not": []},
    {"must": [{"key": "year", "is_empty": False}, {"key": "year", "range": {}}]},
    {"must": [{"has_id": []}]},
    {"must": [{"key": "year", "match": {"any": []}}]},
    {"must_not": [{}]},
    {"must_not": [{"nested": {"key": "year", "filter": {"must": [{"key": "a", "match": {"value": 1}}]}}}]},
    {"min_should": {"conditions": [], "min_count": 1}},
]


@pytest.mark.parametrize("asked", ASKS_NOTHING, ids=str)
def test_what_asks_nothing_may_match_everything(asked: dict[str, Any]) -> None:
    assert matches_all(models.Filter.model_validate(asked))


@pytest.mark.parametrize("asked", ASKS_SOMETHING, ids=str)
def test_what_asks_something_does_not(asked: dict[str, Any]) -> None:
    assert not matches_all(models.Filter.model_validate(asked))


REAL = 4
"""Conditions of a random filter, each on a key of its own; every combination of them holds of one point."""

NOTHING: list[dict[str, Any]] = [
    {"has_id": []},
    *({"key": "k0", "match": {kind: []}} for kind in ("any", "except")),
    *({"key": key, "range": {}} for key in ("number", "absent")),
    {"key": "number", "values_count": {}},
    {"key": "number"},
    {"nested": {"key": "rows", "filter": {"must": []}}},
]


def filters(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Filters of any shape with such leaves."""

    def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        some = st.lists(inner, max_size=3)
        counted = st.fixed_dictionaries({"conditions": some, "min_count": st.integers(0, 2)})
        parts = {"must": some, "should": some, "must_not": some, "min_should": counted}
        return st.fixed_dictionaries({}, optional=parts)

    return grown(st.recursive(leaves, grown, max_leaves=8))


def numbered(node: Any, numbers: Iterator[int]) -> Any:
    """The filter with each REAL leaf on the next key; what comes after the last key is left out."""
    if isinstance(node, list):
        return [it for it in (numbered(each, numbers) for each in node) if it is not None]
    if node == "real":
        number = next(numbers, None)
        return None if number is None else {"key": f"k{number}", "match": {"value": True}}
    if isinstance(node, dict):
        return {key: numbered(value, numbers) for key, value in node.items()}
    return node


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One point for each combination of the keys k0 to k3, in Edge; all have a number and rows."""
    with contextlib.closing(open_store(path=tmp_path_factory.mktemp("combinations"))) as store:
        store.create("c", CollectionSchema((VectorSchema("cls", 4, "float32"),)), {})
        vector, more = np.full(4, 0.5, np.float32), {"number": 7, "rows": [{"a": 1}]}
        holds = [{f"k{bit}": bool(point >> bit & 1) for bit in range(REAL)} for point in range(2**REAL)]
        store.upsert("c", [Point(IDS[n], {"cls": vector}, {**it, **more}) for n, it in enumerate(holds)])
        yield store


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=filters(st.sampled_from(["real", *NOTHING])))
def test_what_the_engine_finds_to_match_everything_is_known(combinations: Store, shape: Any) -> None:
    asked = models.Filter.model_validate(numbered(shape, iter(range(REAL))))
    if combinations.count("c", asked) == 2**REAL:
        assert matches_all(asked)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=filters(st.sampled_from(["real", {"has_id": []}])))
def test_no_other_filter_is_taken_for_one(combinations: Store, shape: Any) -> None:
    asked = models.Filter.model_validate(numbered(shape, iter(range(REAL))))
    assert matches_all(asked) == (combinations.count("c", asked) == 2**REAL)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=filters(st.sampled_from(NOTHING)))
def test_a_filter_without_a_condition_matches_everything_or_nothing(combinations: Store, shape: Any) -> None:
    asked = models.Filter.model_validate(shape)
    assert matches_all(asked) or not combinations.count("c", asked)
