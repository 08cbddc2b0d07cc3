"""What is stored and found stays what it was: see `tests/golden/record.py` for what is compared."""

from __future__ import annotations

import json
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Encoder, Recipe
from connector.migrations import Migrations
from tests.golden import record as golden

RECORDED = json.loads(golden.GOLDEN.read_text(encoding="utf-8"))
COLLECTIONS: dict[str, Any] = RECORDED["collections"]


def close(score: float) -> Any:
    """A score that differs in its last bits at most."""
    return pytest.approx(score, rel=1e-3, abs=1e-3)


def check_hits(connector: Connector, recorded: dict[str, list[list[Any]]]) -> None:
    """The scores are the recorded ones, and so are the hits where no other one scores alike."""
    for query, wanted in recorded.items():
        hits = golden.found(connector, query)
        assert [score for *_, score in hits] == [close(score) for *_, score in wanted], query
        for position, (id_, passage, score) in enumerate(wanted):
            others = [it for at, (*_, it) in enumerate(wanted) if at != position]
            if not any(score == close(it) for it in others) and position < len(wanted) - 1:
                assert hits[position][:2] == [id_, passage], query


@pytest.fixture(scope="module")
def remembering(encoder: Encoder) -> Any:
    return golden.Remembering(encoder)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_what_is_stored_and_found_is_what_it_was(name: str, remembering: Any, tmp_path: Path) -> None:
    recorded = COLLECTIONS[name]
    recipe = Recipe(**recorded["metadata"]["recipe"])  # names may come to mean others
    if "residual" in str(recipe.codec) or "pq" in str(recipe.codec):
        pytest.importorskip("faiss", reason="faiss is not installed; pip install '.[faiss]'")
    if recipe.fde is not None:
        pytest.importorskip("fastembed", reason="fastembed is not installed; pip install '.[muvera]'")
    with golden.made(tmp_path / "qdrant", recipe, remembering, golden.documents()) as connector:
        contents = json.loads(json.dumps(golden.contents(connector)))
        check_hits(connector, recorded["hits"])
    exact, hits = contents.pop("exact"), contents.pop("hits")
    arrays = {file: it.pop("exact") for file, it in contents["artifacts"].items()}
    codec = contents["metadata"].pop("codec", None)  # a digest of the codec's arrays
    assert (
        Recipe(**contents["metadata"].pop("recipe")) == recipe
    )  # parts of today mean nothing else if unsaid
    for key, value in contents.items():
        wanted = recorded[key]
        if key == "artifacts":
            wanted = {file: {"arrays": it["arrays"]} for file, it in wanted.items()}
        if key == "metadata":
            wanted = {name: it for name, it in wanted.items() if name not in ("codec", "recipe")}
        assert value == wanted, key
    if golden.environment() == RECORDED["environment"]:
        assert exact == recorded["exact"]
        assert arrays == {file: it["exact"] for file, it in recorded["artifacts"].items()}
        assert codec == recorded["metadata"].get("codec")
        assert hits == recorded["hits"]


@pytest.fixture
def kept(tmp_path: Path, encoder: Encoder) -> Iterator[Connector]:
    """A collection that was written when the form was recorded, without the last documents."""
    with tarfile.open(golden.ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    with Connector.open("golden", path=tmp_path / "qdrant", model=encoder) as connector:
        yield connector


def test_a_collection_of_then_is_searched_extended_and_migrated(kept: Connector, tmp_path: Path) -> None:
    documents = golden.documents()
    assert kept.stats().documents == len(documents) - golden.ADDED
    check_hits(kept, RECORDED["kept"])
    assert kept.ingest(documents[: golden.ADDED]).unchanged == golden.ADDED - len(golden.CHUNKED)

    report = kept.ingest(documents[-golden.ADDED :])
    assert report.documents == golden.ADDED
    assert kept.stats().documents == len(documents)
    assert kept.search(documents[-1].text, k=1, candidates_by="hybrid")[0].id == documents[-1].id
    assert kept.collection.metadata.average_words is None  # its words go on weighing by 256

    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_default.py").write_text(
        textwrap.dedent(
            '''
            """Tokens that Qdrant scores."""
            revision = "0001"
            down_revision = None


            def upgrade(ctx):
                ctx.reindex(recipe="pooled")


            def downgrade(ctx):
                ctx.reindex(recipe="compact")
            '''
        )
    )
    migrations = Migrations(kept, folder)
    migrations.upgrade()
    assert (kept.recipe.name, kept.stats().documents) == ("pooled", len(documents))
    assert kept.search(documents[-1].text, k=1)[0].id == documents[-1].id
    migrations.downgrade("base")
    assert kept.recipe.name.startswith("compact")
    assert kept.search(documents[0].text, k=1)[0].id == documents[0].id
