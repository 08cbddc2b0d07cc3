"""The index of words weighs by the average length of the passages that came first, on every engine."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector import Connector, Document, Encoder, Recipe
from connector.collection.collection import WORDS_FILE, Collection
from connector.collection.metadata import UNCOUNTED, new_metadata
from connector.core.errors import CollectionError
from connector.migrations import Migrations
from connector.scoring.bm25 import AVERAGE, BM25
from connector.stores import EdgeStore, open_store
from tests.api.test_connector import tiny, tiny_bert

__all__ = ["tiny", "tiny_bert"]

SHORT = ["otters swim", "otters sleep near rivers", "rivers freeze"]
"""Of 2, 4 and 2 words."""

LONG = ["rivers " + "flow " * 40, "otters " + "hunt " * 60]

RECIPES = {
    "dense": Recipe(name="mine", layout="dense", lexical="english"),
    "multivector": Recipe(name="mine", layout="multivector", codec="float16", lexical="english"),
    "codes": Recipe(name="mine", layout="codes", codec="pca-8+binary", lexical="english"),
}

Make = Callable[..., Connector]


@pytest.fixture
def make(place: dict[str, Any], name: str, tiny: Encoder) -> Iterator[Make]:
    """Makes the collection, or opens it again, and drops it at the end."""
    made: list[Connector] = []

    def make(recipe: Recipe | None = None) -> Connector:
        if recipe is None:
            made.append(Connector.open(name, **place, model=tiny))
        else:
            made.append(Connector.create(name, **place, recipe=recipe, model=tiny))
        return made[-1]

    yield make
    for connector in made:
        connector.close()
    store = open_store(**place)
    for physical in store.names():
        if physical.startswith(name):
            store.drop(physical)
    store.close()


def documents(texts: Sequence[str], prefix: str = "doc") -> list[Document]:
    return [Document(id=f"{prefix} {number}", text=text) for number, text in enumerate(texts)]


def average(connector: Connector) -> float | None:
    """As it is stored now."""
    return Collection(connector.collection.store, connector.name).metadata.average_words


def check_scores(connector: Connector, taken: Sequence[Document], average: float) -> None:
    """Searches by words score all documents as BM25 with this average length says."""
    model = BM25("english", average)
    for query in ("otters", "rivers otters", "sleep flow"):
        asked, passages = model.query(query).indices, {it.id: model.passage(it.text) for it in taken}
        expected = dict.fromkeys(passages, 0.0)
        for word in asked:
            having = {id_: it for id_, it in passages.items() if word in it.indices}
            rarity = float(np.log(1 + (len(taken) - len(having) + 0.5) / (len(having) + 0.5)))
            for id_, it in having.items():
                expected[id_] += rarity * float(it.values[it.indices == word].sum())
        hits = connector.search(query, k=len(taken), candidates_by="lexical", rerank=None)
        wanted = {id_: score for id_, score in expected.items() if score}
        assert {hit.id: hit.score for hit in hits} == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("layout", RECIPES)
def test_the_first_passages_decide_and_later_ones_keep_it(make: Make, layout: str) -> None:
    connector = make(RECIPES[layout])
    first, later = documents(SHORT), documents(LONG, "long")
    assert average(connector) == UNCOUNTED
    connector.ingest(first)
    assert average(connector) == (2 + 4 + 2) / 3
    check_scores(connector, first, 8 / 3)
    connector.ingest(later)
    again = make()
    again.ingest(documents(["otters otters rivers"], "again"))
    assert average(connector) == average(again) == 8 / 3
    check_scores(again, [*first, *later, *documents(["otters otters rivers"], "again")], 8 / 3)


def test_texts_without_words_do_not_decide(make: Make) -> None:
    connector = make(RECIPES["dense"])
    connector.ingest(documents(["the of", "?!"], "none"))
    assert average(connector) == UNCOUNTED
    connector.ingest(documents(SHORT))
    assert average(connector) == 8 / 3


def test_of_two_writers_the_first_decides_for_both(make: Make) -> None:
    one, other = make(RECIPES["dense"]), make()
    one.ingest(documents(SHORT))
    other.ingest(documents(LONG, "long"))  # which was opened when nothing was counted
    assert average(one) == other.collection.metadata.average_words == 8 / 3
    check_scores(make(), [*documents(SHORT), *documents(LONG, "long")], 8 / 3)


def test_a_writer_that_was_killed_when_it_had_counted_has_decided(make: Make) -> None:
    connector = make(RECIPES["dense"])
    collection = connector.collection
    collection.store.claim_artifact(
        collection.physical, WORDS_FILE, json.dumps({"average_words": 5.5}).encode()
    )
    connector.ingest(documents(SHORT))
    assert average(connector) == 5.5
    check_scores(connector, documents(SHORT), 5.5)


@pytest.mark.parametrize("layout", RECIPES)
def test_a_collection_from_before_weighs_as_before(make: Make, layout: str) -> None:
    """Its description has no average: what is written to it now goes with what was."""
    connector = make(RECIPES[layout])
    connector.collection.write_metadata(average_words=None)
    connector.ingest(documents(SHORT))
    again = make()
    again.ingest(documents(LONG, "long"))
    assert average(again) is None
    check_scores(again, [*documents(SHORT), *documents(LONG, "long")], AVERAGE)


@pytest.mark.parametrize("counted", [True, False])
def test_the_weights_of_a_new_index_are_float16(
    place: dict[str, Any], name: str, tiny: Encoder, counted: bool
) -> None:
    """Not those of a collection from before that is made again, as by an import."""
    metadata = new_metadata(RECIPES["dense"], tiny, **({} if counted else {"average_words": None}))
    assert metadata.collection_schema.weights == ("float16" if counted else "float32")
    store = open_store(**place)
    Collection.make(store, name, metadata)
    if isinstance(store, EdgeStore):
        (file,) = Path(store.location).rglob("edge_config.json")
        found = json.loads(file.read_text())["sparse_vectors"]["lexical"]["datatype"]
    else:
        params = store._client.get_collection(name).config.params  # type: ignore[attr-defined]
        found = params.sparse_vectors["lexical"].index.datatype.value
    assert found == metadata.collection_schema.weights
    store.drop(name)
    store.close()


def test_without_words_nothing_is_counted(make: Make) -> None:
    connector = make(Recipe(name="mine", layout="dense"))
    connector.ingest(documents(SHORT))
    assert "average_words" not in connector.collection.store.info(connector.collection.physical)


@pytest.mark.parametrize("damaged", ["-1", "x", "nan", "inf"])
def test_a_damaged_average_is_refused(make: Make, damaged: str) -> None:
    connector = make(RECIPES["dense"])
    connector.collection.store.set_info(connector.collection.physical, {"average_words": damaged})
    with pytest.raises(CollectionError, match="unusable average_words"):
        make()


def migrated(connector: Connector, folder: Path, *up: str) -> None:
    """Apply one revision after the other."""
    folder.mkdir()
    for number, step in enumerate(up, 1):
        down = f'"{number - 1:04d}"' if number > 1 else None
        (folder / f"{number:04d}_it.py").write_text(
            textwrap.dedent(
                f'''
                """It."""
                revision = "{number:04d}"
                down_revision = {down}
                irreversible = "not tested"


                def upgrade(ctx):
                    ctx.{step}
                '''
            )
        )
    Migrations(connector, folder).upgrade()


def test_a_version_of_what_is_stored_keeps_it(make: Make, tmp_path: Path) -> None:
    connector = make(RECIPES["multivector"])
    connector.ingest(documents(SHORT))
    connector.ingest(documents(LONG, "long"))
    migrated(connector, tmp_path / "m", 'recode(codec="int8")')
    assert average(connector) == 8 / 3
    check_scores(connector, [*documents(SHORT), *documents(LONG, "long")], 8 / 3)


@pytest.mark.parametrize("before", [None, 8 / 3])
def test_reindex_counts_all_anew(make: Make, tmp_path: Path, before: float | None) -> None:
    connector, taken = make(RECIPES["dense"]), [*documents(SHORT), *documents(LONG, "long")]
    if before is None:
        connector.collection.write_metadata(average_words=None)
    connector.ingest(taken[:3])
    connector.ingest(taken[3:])
    assert average(connector) == before
    migrated(connector, tmp_path / "m", "reindex()")
    assert average(connector) == (2 + 4 + 2 + 41 + 61) / 5
    check_scores(connector, taken, 110 / 5)


def test_words_that_are_added_are_counted_before(make: Make, tmp_path: Path) -> None:
    connector, taken = (
        make(Recipe(name="mine", layout="dense")),
        [*documents(SHORT), *documents(LONG, "long")],
    )
    connector.ingest(taken)
    migrated(connector, tmp_path / "m", 'add_vector("lexical", "english")')
    connector.ingest(documents(["otters otters rivers"], "again"))
    assert average(connector) == 110 / 5
    check_scores(connector, [*taken, *documents(["otters otters rivers"], "again")], 110 / 5)


def test_words_that_are_dropped_and_added_in_another_language_are_counted_anew(
    make: Make, tmp_path: Path
) -> None:
    connector = make(RECIPES["dense"])
    connector.ingest(documents(SHORT))
    connector.ingest(documents(["the rivers of the north"], "more"))
    migrated(connector, tmp_path / "m", 'drop_vector("lexical")', 'add_vector("lexical", "german")')
    assert average(connector) == (2 + 4 + 2 + 5) / 4


def test_an_index_of_words_is_added_to_nothing(make: Make, tmp_path: Path) -> None:
    connector = make(Recipe(name="mine", layout="dense"))
    migrated(connector, tmp_path / "m", 'add_vector("lexical", "english")')
    assert average(connector) == UNCOUNTED
    connector.ingest(documents(SHORT))
    assert average(connector) == 8 / 3
    check_scores(connector, documents(SHORT), 8 / 3)
