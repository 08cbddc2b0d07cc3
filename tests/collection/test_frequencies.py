"""Reductions in a recipe: what is stored, what is counted, and what a query asks with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from connector import Connector, Document, Encoder, Recipe
from connector.collection.documents.frequencies import FREQUENCIES_FILE
from connector.collection.recipe import RECIPES
from connector.collection.search.candidates import query_tokens
from connector.compression.codecs import parse_codec
from connector.compression.reduction import Frequencies, Setting, parse_reduction, query_weights
from connector.core.errors import CollectionError, RecipeError, StoreError
from connector.stores import open_store
from tests.conftest import TEXTS


def recipe(layout: Any = "codes", **parts: Any) -> Recipe:
    return Recipe(name="mine", layout=layout, **{"codec": "float32", **parts})


@pytest.fixture
def make(place: dict[str, Any], name: str, encoder: Encoder) -> Iterator[Any]:
    """Makes the collection with a recipe, and drops it at the end."""
    made = []

    def create(chosen: Recipe) -> Connector:
        made.append(Connector.create(name, **place, recipe=chosen, model=encoder))
        return made[-1]

    yield create
    for connector in made:
        connector.drop()


def rows_of(connector: Connector) -> dict[str, int]:
    collection = connector.collection
    records = collection.store.scroll(collection.name, ["id", "rows"])
    return {record.payload["id"]: record.payload["rows"] for record in records}


@pytest.mark.parametrize(
    "spec",
    [
        "first-25%",
        "idf-50%",
        "attention-4",
        "punctuation+whole-words",
        "stopwords-en+kmeans-2",
        "voronoi-50%",
    ],
)
@pytest.mark.parametrize("layout", ["multivector", "codes"])
def test_what_is_stored_is_what_the_reduction_leaves(
    layout: str, spec: str, make: Any, encoder: Encoder, documents: list[Document]
) -> None:
    connector = make(recipe(layout, reduction=spec))
    report = connector.ingest(documents)
    whole = encoder.encode_documents([document.text for document in documents], attention=True)
    frequencies = Frequencies()
    frequencies.add(whole)
    reduced = [parse_reduction(spec, Setting(frequencies=frequencies))(it) for it in whole]
    assert rows_of(connector) == {it.id: len(left) for it, left in zip(documents, reduced, strict=True)}
    assert report.tokens_before == sum(map(len, whole))
    assert report.tokens_after == sum(map(len, reduced))
    query = encoder.encode_queries([TEXTS[0]])[0]
    scores = {
        it.id: float((query.tokens @ left.tokens.T).max(axis=1).sum())
        for it, left in zip(documents, reduced, strict=True)
    }
    for hit in connector.search(TEXTS[0], k=12):
        assert hit.score == pytest.approx(scores[hit.id], abs=1e-3)


def test_a_budget_in_bytes_holds_for_every_passage(make: Any, documents: list[Document]) -> None:
    connector = make(recipe(codec="pca-64+binary", reduction="first-50B"))
    connector.ingest(documents)
    assert set(rows_of(connector).values()) == {6}  # of 8 bytes


def test_a_budget_that_holds_no_token_is_refused_before_a_collection_is_made(
    place: dict[str, Any], name: str, encoder: Encoder
) -> None:
    mine = recipe(reduction="first-1000B")
    with pytest.raises(RecipeError, match="1000B hold no token of 1536 bytes"):
        Connector.create(name, **place, recipe=mine, model=encoder)
    store = open_store(**place)
    assert name not in store.names()
    store.close()


def test_frequencies_are_counted_once_a_document_and_kept(
    make: Any, name: str, encoder: Encoder, documents: list[Document]
) -> None:
    connector = make(recipe(reduction="idf-50%", query_reduction="icf-4+idf-weight"))
    connector.ingest(documents[:5])
    connector.ingest(documents)  # the first five are there unchanged
    expected = Frequencies()
    expected.add(encoder.encode_documents([document.text for document in documents]))
    stored = _stored(connector, name)
    assert stored.passages == len(documents)
    assert np.array_equal(stored.document, expected.document)
    assert np.array_equal(stored.collection, expected.collection)


@pytest.mark.parametrize(("codec", "exact"), [("float32", 1e-4), ("pca-64+float32", 1e-4), ("float16", 1e-2)])
def test_weighted_queries_score_the_same_in_qdrant_and_here(
    codec: str, exact: float, make: Any, encoder: Encoder, documents: list[Document]
) -> None:
    """And as Σ wᵢ maxⱼ qᵢ·dⱼ says: projections scale to unit length, so weights must come after them."""
    connector = make(recipe("multivector", codec=codec, query_reduction="idf-weight"))
    connector.ingest(documents)
    text = "the moons of the river"
    server, client = (connector.search(text, k=12, rerank=it) for it in ("server", "client"))
    assert [hit.id for hit in server] == [hit.id for hit in client]
    passages = encoder.encode_documents([document.text for document in documents])
    frequencies = Frequencies()
    frequencies.add(passages)
    query = encoder.encode_queries([text])[0]
    weights = query_weights(query, "idf", frequencies)
    assert weights is not None
    assert weights.std() > 0.1
    chain = parse_codec(codec).fit(np.concatenate([passage.tokens for passage in passages]))
    query_tokens = chain.encode_query(query.tokens)
    for hit in (*server, *client):
        rows = chain.encode_query(passages[int(hit.id.split()[1])].tokens)
        expected = float(((query_tokens @ rows.T).max(axis=1) * weights).sum())
        assert hit.score == pytest.approx(expected, abs=exact * 10)


def test_a_pruned_query_asks_with_fewer_rows(make: Any, encoder: Encoder, documents: list[Document]) -> None:
    connector = make(recipe(query_reduction="icf-1"))
    connector.ingest(documents)
    hit = connector.search("the otter", k=1)[0]
    assert hit.id == "doc 0"
    assert hit.score <= 1 + 1e-4
    assert encoder.encode_queries(["the otter"])[0].tokens.shape[0] == 4


def test_an_empty_collection_that_counts_is_searched_without_error(make: Any) -> None:
    assert make(recipe(query_reduction="idf-weight")).search("otter") == []


def test_another_connector_finds_the_frequencies_that_came_since(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> None:
    with Connector.create(
        name, **place, recipe=recipe(query_reduction="idf-weight"), model=encoder
    ) as writer:
        with Connector.open(name, **place, model=encoder) as reader:
            assert reader.search("otter") == []
            writer.ingest(documents)
            assert reader.search("otter", k=1)[0].id == "doc 0"
        writer.drop()


def test_two_connectors_count_together(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> None:
    mine = recipe(query_reduction="idf-weight")
    with Connector.create(name, **place, recipe=mine, model=encoder) as first:
        first.ingest(documents[:3])
        with Connector.open(name, **place, model=encoder) as second:
            second.search("otter")
            first.ingest(documents[3:8])
            second.refresh()
            query = encoder.encode_queries(["otter"])[0]
            weights = [query_tokens(it.collection, query).weights for it in (first, second)]
            assert np.array_equal(*weights)
            second.ingest(documents[8:])
            assert _stored(first, name).passages == len(documents)
        first.drop()


def _stored(connector: Connector, name: str) -> Frequencies:
    return Frequencies().load(connector.collection.store.get_artifact(name, FREQUENCIES_FILE))


@pytest.mark.parametrize("before", [0, 5])
def test_a_write_that_failed_is_not_counted(
    before: int, make: Any, name: str, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make(recipe(reduction="idf-50%"))
    connector.ingest(documents[:before])
    store = connector.collection.store
    with monkeypatch.context() as patched:
        patched.setattr(store, "upsert", lambda *_: (_ for _ in ()).throw(StoreError("full")))
        for _ in range(3):
            with pytest.raises(StoreError, match="full"):
                connector.ingest(documents)
    connector.ingest(documents)
    assert _stored(connector, name).passages == len(documents)


def test_searches_beside_an_ingest_change_no_count(
    make: Any, name: str, encoder: Encoder, documents: list[Document]
) -> None:
    connector = make(recipe(query_reduction="idf-weight"))
    connector.ingest(documents[:1])
    query, stop = encoder.encode_queries(["otter"])[0], threading.Event()

    def search() -> None:
        while not stop.is_set():
            query_tokens(connector.collection, query)
            time.sleep(0.001)  # or the other thread waits for the interpreter at each of its steps

    searcher = threading.Thread(target=search)
    searcher.start()
    try:
        for document in documents[1:]:
            connector.ingest([document])
    finally:
        stop.set()
        searcher.join()
    assert _stored(connector, name).passages == len(documents)


def test_lost_frequencies_are_said_to_be_lost(
    tmp_path: Any, encoder: Encoder, documents: list[Document]
) -> None:
    place = {"path": tmp_path / "q", "model": encoder}
    with Connector.create("c", **place, recipe=recipe(query_reduction="idf-weight")) as connector:
        connector.ingest(documents)
    for file in (tmp_path / "q").rglob(FREQUENCIES_FILE):
        file.unlink()
    with Connector.open("c", **place) as connector, pytest.raises(StoreError, match="restore"):
        connector.search("otter")


def test_a_collection_of_an_older_format_is_refused(tmp_path: Any, encoder: Encoder) -> None:
    place = {"path": tmp_path / "q"}
    with Connector.create("c", **place, recipe="compact", model=encoder) as connector:
        connector.collection.store.set_info("c", {"format": "1"})
    with pytest.raises(CollectionError, match="has format 1, this version reads 3"):
        Connector.open("c", **place)


# Recipes with another reduction


def test_a_recipe_is_varied() -> None:
    compact = RECIPES["compact"]
    assert compact.varied(reduction=None, query_reduction=None) is compact
    other = compact.varied(reduction="punctuation+ward-4", query_reduction="idf-weight")
    assert other.name == "compact:punctuation+ward-4:idf-weight"
    assert (other.reduction, other.query_reduction) == ("punctuation+ward-4", None)
    assert other.query_weights == "idf"
    assert (other.codec, other.layout, other.cls) == (compact.codec, compact.layout, compact.cls)
    assert compact.varied(reduction="none").reduction is None
    assert not other.same_as(compact)


@pytest.mark.parametrize(
    ("base", "parts", "message"),
    [
        ("compact", {"reduction": "frist-3"}, "'frist-3' is not known"),
        ("dense", {"reduction": "first-3"}, "nothing for reduction first-3 to do"),
        ("dense", {"query_reduction": "icf-3"}, "nothing for query_reduction icf-3 to do"),
        ("dense", {"query_weights": "idf"}, "nothing for query_weights idf to do"),
        ("dense", {"query_rows": "own"}, "nothing for query_rows own to do"),
        ("compact", {"query_rows": "some"}, "'auto', 'own' or 'all'"),
        ("compact", {"query_weights": "icf"}, "'1', 'sqrt-idf' or 'idf'"),
        ("compact", {"query_reduction": "idf-weight+icf-3"}, "idf-weight weighs the rows that are left"),
        ("compact", {"query_reduction": "ward-3"}, "'ward-3' is a step for passages"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(base: str, parts: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        RECIPES[base].varied(**parts)
