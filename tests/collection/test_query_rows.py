"""Which rows a query asks with, what they weigh, and the counts that this goes by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connector import Connector, Document, Encoder, Recipe
from connector.cli import main
from connector.collection.documents import counts as counts_module
from connector.collection.metadata import CollectionMetadata
from connector.collection.recipe import RECIPES, load_recipe
from connector.collection.search.candidates import query_tokens
from connector.compression.reduction import Frequencies
from connector.core.errors import ConnectorError, ModelError
from connector.migrations import Migrations
from tests.conftest import TEXTS
from tests.migrations.test_runner import steps, write


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


class Trained:
    """An encoder that says that it was trained as late interaction, and counts what it encodes."""

    late_interaction = True

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def stored(connector: Connector) -> Frequencies:
    """What is counted now."""
    return connector.collection.frequencies.stored()


def counted(encoder: Encoder, texts: list[str]) -> Frequencies:
    """What a new collection of these texts counts."""
    frequencies = Frequencies()
    frequencies.add(encoder.encode_documents(texts))
    return frequencies


def same(left: Frequencies, right: Frequencies) -> bool:
    size = max(len(left.document), len(right.document))

    def padded(counts: np.ndarray) -> np.ndarray:
        return np.pad(counts, (0, size - len(counts)))

    return left.passages == right.passages and all(
        np.array_equal(padded(getattr(left, it)), padded(getattr(right, it)))
        for it in ("document", "collection")
    )


# Rows


@pytest.mark.parametrize(("trained", "rows"), [(False, "own"), (True, "all")])
def test_which_rows_is_the_encoder_s_to_say_and_kept(
    trained: bool, rows: str, tmp_path: Path, encoder: Encoder
) -> None:
    model: Any = Trained(encoder) if trained else encoder
    assert model.fingerprint == encoder.fingerprint
    mine = recipe(query_rows="auto")
    with Connector.create("c", path=tmp_path, recipe=mine, model=model) as connector:
        assert connector.recipe.query_rows == rows
    with Connector.open("c", path=tmp_path, model=model) as connector:
        assert connector.recipe.query_rows == rows
        assert connector.collection.metadata.late_interaction is trained
    with Connector.open_or_create("c", path=tmp_path, recipe=mine, model=model) as connector:
        query = encoder.encode_queries(["the otter"])[0]
        connector.ingest([Document(id="a", text=TEXTS[0])])
        asked = query_tokens(connector.collection, query).embedding
        assert len(asked) == (4 if trained else 2)


def test_own_rows_score_as_the_words_alone(make: Any, encoder: Encoder, documents: list[Document]) -> None:
    connector = make(recipe("multivector", query_rows="own"))
    connector.ingest(documents)
    query = encoder.encode_queries(["the moons of the river"])[0]
    words = query.tokens[~query.special]
    for rerank in ("server", "client"):
        for hit in connector.search("the moons of the river", k=12, rerank=rerank):
            (passage,) = encoder.encode_documents([hit.text])
            assert hit.score == pytest.approx(float((words @ passage.tokens.T).max(axis=1).sum()), abs=1e-3)


@pytest.mark.parametrize("text", ["[MASK]", "[SEP] [CLS]", "ᚠᚢᚦ ᚨᚱᚲ", "👾", "?!"])
@pytest.mark.parametrize("weights", ["1", "idf", "sqrt-idf"])
def test_a_query_of_nothing_known_still_ranks(
    text: str, weights: Any, tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    mine = recipe(query_rows="own", query_weights=weights)
    with Connector.create("c", path=tmp_path, recipe=mine, model=encoder) as connector:
        connector.ingest(documents)
        hits = connector.search(text, k=12)
        assert len(hits) == 12
        assert all(np.isfinite(hit.score) and hit.score != 0 for hit in hits)


@pytest.mark.parametrize("weights", ["idf", "sqrt-idf"])
@pytest.mark.parametrize("rows", ["own", "all"])
def test_ten_documents_rank_sensibly(
    weights: Any, rows: Any, tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    questions = {
        "which animals sleep holding hands": "doc 0",
        "why does bread rise": "doc 2",
        "when were the moons of Jupiter seen first": "doc 3",
        "how are the strings of the violin tuned": "doc 6",
        "how do bees tell where the flowers are": "doc 7",
    }
    mine = recipe(query_rows=rows, query_weights=weights)
    with Connector.create("c", path=tmp_path, recipe=mine, model=encoder) as connector:
        connector.ingest(documents[:10])
        assert {it: connector.search(it, k=1)[0].id for it in questions} == questions


# Recipes of before


OF_OLD = (
    '{"name":"old","summary":"","source":"","layout":"codes","reduction":null,"query_reduction":"%s",'
    '"codec":"float32","head":null,"alignment":null,"saliency":false,"cls":"float32","quantization":null,'
    '"oversampling":2.0,"lexical":null,"fde":null}'
)


@pytest.mark.parametrize(
    ("step", "reduction", "weights"),
    [("idf-weight", None, "idf"), ("icf-3+idf-weight", "icf-3", "idf"), ("icf-3", "icf-3", "1")],
)
def test_a_stored_recipe_of_before_means_the_same(step: str, reduction: Any, weights: str) -> None:
    old = load_recipe(OF_OLD % step)
    assert (old.query_rows, old.query_reduction, old.query_weights) == ("all", reduction, weights)
    assert old.same_as(recipe(query_reduction=reduction, query_weights=weights))
    assert ("frequencies" in old.needs) is True


@pytest.mark.parametrize(
    "parts", [{"query_rows": "own"}, {"query_weights": "sqrt-idf"}, {"query_rows": "auto"}]
)
def test_what_is_new_is_stored(parts: dict[str, Any]) -> None:
    mine = recipe(**parts)
    assert load_recipe(mine.model_dump_json()) == mine
    assert parts.items() <= json.loads(mine.model_dump_json()).items()
    assert mine.differences(recipe()) == [
        f"{key} {it}, not {getattr(recipe(), key)}" for key, it in parts.items()
    ]


def test_the_old_step_goes_with_no_other_weights() -> None:
    with pytest.raises(ConnectorError, match="means query_weights idf, not sqrt-idf"):
        RECIPES["compact"].varied(query_reduction="idf-weight", query_weights="sqrt-idf")
    with pytest.raises(ConnectorError, match=r"not a valid recipe: .*idf-weight weighs"):
        load_recipe(OF_OLD % "idf-weight+icf-3")


def test_what_a_collection_says_of_its_encoder_is_missing_where_it_is_older(
    tmp_path: Path, encoder: Encoder
) -> None:
    with Connector.create("c", path=tmp_path, recipe=recipe(), model=encoder) as connector:
        collection = connector.collection
        info = collection.store.info(collection.physical)
        assert "late_interaction" not in info
        assert CollectionMetadata.read("c", info).late_interaction is False
        assert CollectionMetadata.read("c", {**info, "late_interaction": "1"}).late_interaction is True


# Counts


WEIGHED = recipe(query_weights="idf")


def others(number: int) -> list[Document]:
    """The first documents, with other texts."""
    return [
        Document(id=f"doc {n}", text=f"Quinces are yellow, and number {n} is ripe.") for n in range(number)
    ]


def test_counts_are_made_again_when_a_fifth_has_changed(
    make: Any, encoder: Encoder, documents: list[Document]
) -> None:
    connector = make(WEIGHED)
    connector.ingest(documents)
    connector.ingest(others(2))
    assert stored(connector).passages == 14, "two of twelve are less than a fifth"
    connector.ingest(others(5))
    texts = [it.text for it in (*others(5), *documents[5:])]
    assert same(stored(connector), counted(encoder, texts))
    query = encoder.encode_queries(["the yellow otter"])[0]
    again = Frequencies()
    again.add(encoder.encode_documents(texts))
    idf = again.idf(query.token_ids)[1:-1]
    weights = query_tokens(connector.collection, query).weights
    assert np.allclose(weights[1:-1], idf / idf.mean())


def test_counts_are_made_again_when_a_fifth_was_deleted(
    make: Any, encoder: Encoder, documents: list[Document]
) -> None:
    connector = make(WEIGHED)
    connector.ingest(documents)
    assert connector.delete(["doc 0", "doc 1"]) == 2
    assert stored(connector).passages == 12
    assert connector.delete(["doc 2"]) == 1
    assert same(stored(connector), counted(encoder, TEXTS[3:]))
    connector.ingest(documents[3:6], delete_missing=True)
    assert same(stored(connector), counted(encoder, TEXTS[3:6]))
    assert connector.delete([f"doc {n}" for n in range(12)]) == 3
    assert stored(connector).passages == 0
    connector.ingest(documents)
    assert same(stored(connector), counted(encoder, TEXTS))


def test_counts_of_split_titled_texts_are_those_of_a_new_collection(
    make: Any, documents: list[Document]
) -> None:
    connector = make(WEIGHED)
    long = Document(id="long", title="Of rye", text="Rye bread is baked of sour dough. " * 9)
    connector.ingest([long, *documents], chunk_tokens=20)
    before = stored(connector)
    assert connector.recount() == before.passages == connector.collection.passages()
    assert same(stored(connector), before)


def test_counts_that_two_writers_lost_are_made_again(
    make: Any, encoder: Encoder, documents: list[Document]
) -> None:
    connector = make(WEIGHED)
    connector.ingest(documents)
    frequencies = connector.collection.frequencies
    frequencies.replace(counted(encoder, TEXTS[:8]))
    connector.ingest(documents)  # all are there
    assert same(stored(connector), counted(encoder, TEXTS))


def test_counts_are_made_again_on_command_without_encoding(
    tmp_path: Path, encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Connector.create("c", path=tmp_path, recipe=WEIGHED, model=encoder) as connector:
        connector.ingest(documents)
        connector.ingest(others(2))
        monkeypatch.setattr(type(encoder), "encode_documents", None)
        assert connector.recount() == 12
        monkeypatch.undo()
        texts = [it.text for it in (*others(2), *documents[2:])]
        assert same(stored(connector), counted(encoder, texts))
    said = CliRunner().invoke(main, ["recount", "--collection", "c", "--path", str(tmp_path)])
    assert said.output == "counted 12 passages of 'c'\n"


def test_nothing_is_counted_where_nothing_asks_for_it(
    tmp_path: Path, encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Connector.create("c", path=tmp_path, recipe=recipe(), model=encoder) as connector:
        connector.ingest(documents[:2])
        monkeypatch.setattr(type(encoder), "token_ids", None)
        assert connector.recount() == 0
        assert connector.collection.read_metadata().frequencies is None
    said = CliRunner().invoke(main, ["recount", "--collection", "c", "--path", str(tmp_path), "--json"])
    assert json.loads(said.output) == {"passages": 0}


def test_a_delete_is_done_though_the_model_is_gone(
    tmp_path: Path, encoder: Encoder, documents: list[Document], caplog: pytest.LogCaptureFixture
) -> None:
    with Connector.create("c", path=tmp_path, recipe=WEIGHED, model=encoder) as connector:
        connector.ingest(documents)

        def gone(_: Any) -> Any:
            raise ModelError("it is gone")

        connector._handle.encoder_of = gone  # type: ignore[method-assign]
        assert connector.delete([f"doc {n}" for n in range(6)]) == 6
        assert "are not counted again: it is gone" in caplog.text


def test_counts_are_left_to_the_run_that_writes(
    tmp_path: Path, encoder: Encoder, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Connector.create("c", path=tmp_path, recipe=WEIGHED, model=encoder) as connector:
        connector.ingest(documents)
        collection = connector.collection
        collection.store.delete(collection.physical, [collection.point_id(f"doc {n}", 0) for n in range(6)])

        class Held:
            def acquire(self, blocking: bool) -> bool:
                return blocking

        key = (collection.store.location, collection.name)
        with monkeypatch.context() as patched:
            patched.setattr(counts_module, "writing", {key: Held()})
            assert not counts_module.mend(collection, lambda _: encoder)
        assert counts_module.mend(collection, lambda _: encoder)
        assert stored(connector).passages == 6


@pytest.mark.parametrize("step", ["recode", "reindex"])
@pytest.mark.parametrize("codec", ["float16", "linear-128+float16"])
def test_a_version_that_needs_counts_has_them(
    step: str, codec: str, make: Any, encoder: Encoder, documents: list[Document], tmp_path: Path
) -> None:
    head = "own" if "linear" in codec else None
    connector = make(recipe("multivector", codec=codec, head=head))
    connector.ingest(documents)
    migrations = tmp_path / "migrations"
    up = f'ctx.{step}(recipe=ctx.recipe.varied(query_weights="idf", query_rows="auto"))'
    write(migrations, 1, steps(up, f"ctx.{step}(recipe=ctx.recipe)"))
    Migrations(connector, migrations).upgrade()
    assert (connector.recipe.query_weights, connector.recipe.query_rows) == ("idf", "own")
    assert same(stored(connector), counted(encoder, TEXTS))
    assert connector.search("the otter", k=1)[0].id == "doc 0"
