"""Revisions, their ledger, and each step of a migration on every engine."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from qdrant_client import models

from connector import Connector, Document, Encoder
from connector.cli import main
from connector.collection.collection import Collection
from connector.collection.documents.document_state import mark
from connector.collection.versions.aliases import names, versions
from connector.core.errors import CollectionError, MigrationError, RecipeError, StoreLocked
from connector.core.types import passage_text, point_id
from connector.migrations import Migrations, Planned, collect, compare, load_revisions, versions_of
from connector.migrations import rebuild as rebuild_module
from connector.migrations import verify as verify_module
from connector.migrations.revisions import Ledger
from connector.scoring.bm25 import BM25
from connector.stores import Point, open_store
from connector.stores.schema import Distribution

HEAD = 'revision = "{0:04d}"\ndown_revision = {1}\n'


def write(folder: Path, number: int, body: str, name: str = "it") -> Path:
    """A revision file after the one with the number below."""
    folder.mkdir(exist_ok=True)
    down = "None" if number == 1 else f'"{number - 1:04d}"'
    path = folder / f"{number:04d}_{name}.py"
    path.write_text(f'"""Change {number}."""\n' + HEAD.format(number, down) + textwrap.dedent(body))
    return path


def steps(up: str, down: str) -> str:
    return f"\ndef upgrade(ctx):\n    {up}\n\n\ndef downgrade(ctx):\n    {down}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of one revision, from default to compact and back."""
    write(tmp_path / "migrations", 1, steps('ctx.reindex(recipe="compact")', 'ctx.reindex(recipe="pooled")'))
    return tmp_path / "migrations"


@pytest.fixture
def docs(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> Iterator[Connector]:
    """Twelve documents, one of them of three passages, by recipe default."""
    with Connector.create(name, **place, recipe="pooled", model=encoder) as connector:
        connector.ingest(documents)
        connector.ingest([LONG], chunk_tokens=20)
        yield connector
        if not connector._closed:
            connector.drop()


LONG = Document(
    id="long", title="A long one", text="Rye bread is baked of sour dough. " * 6, metadata={"number": 99}
)


def contents(collection: Collection) -> dict[str, Any]:
    """Everything that is stored of each point, vectors as bytes."""
    keys = ["id", "passage", "passages", "hash", "rows", "codes", "text", "title", "metadata", "words"]
    vectors = [vector.name for vector in collection.schema.vectors]
    return {
        record.id: (record.payload, {name: it.tobytes() for name, it in record.vectors.items()})
        for record in collection.store.scroll(collection.physical, keys, vectors)
    }


def texts(collection: Collection) -> dict[str, Any]:
    """What is stored of each point beside its vectors."""
    keys = ["id", "passage", "passages", "hash", "text", "title", "metadata"]
    return {it.id: it.payload for it in collection.store.scroll(collection.physical, keys)}


# Revisions


def test_revisions_are_a_chain_whatever_their_files_are_called(tmp_path: Path) -> None:
    write(tmp_path / "m", 2, steps("pass", "pass"), "b")
    write(tmp_path / "m", 1, steps("pass", "pass"), "z")
    (tmp_path / "m" / "_helper.py").write_text("not Python")
    (tmp_path / "m" / "README.md").write_text("no revision")
    found = load_revisions(tmp_path / "m")
    assert [(it.revision, it.down_revision, it.summary) for it in found] == [
        ("0001", None, "Change 1."),
        ("0002", "0001", "Change 2."),
    ]
    assert not list(tmp_path.rglob("__pycache__")), "loading leaves nothing behind"


def test_the_checksum_is_of_the_content_not_of_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "m", 1, steps("pass", "pass"))
    (before,) = load_revisions(tmp_path / "m")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (ends,) = load_revisions(tmp_path / "m")
    path.write_bytes(path.read_bytes() + b"# more\n")
    (after,) = load_revisions(tmp_path / "m")
    assert ends.checksum == before.checksum != after.checksum


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("def upgrade(ctx): pass", "one of downgrade"),
        ('irreversible = "no"\ndef upgrade(ctx): pass\ndef downgrade(ctx): pass', "one of downgrade"),
        ('irreversible = "no"', "has no upgrade"),
        ("irreversible = 3\ndef upgrade(ctx): pass", "irreversible = 3"),
        ("revision = None\ndef upgrade(ctx): pass\ndef downgrade(ctx): pass", "has revision None"),
        ('revision = "base"\ndef upgrade(ctx): pass\ndef downgrade(ctx): pass', "has revision 'base'"),
        ('revision = "a b"\ndef upgrade(ctx): pass\ndef downgrade(ctx): pass', "has revision 'a b'"),
        ("del revision", "has no revision"),
        ("def (", "line 4: SyntaxError"),
        ("\n1 / 0", "line 5: ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_what_is_no_revision_is_named(tmp_path: Path, body: str, match: str) -> None:
    write(tmp_path / "m", 1, body)
    with pytest.raises(MigrationError, match=match) as caught:
        load_revisions(tmp_path / "m")
    assert "0001_it.py" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"0002": 'revision = "0001"\ndown_revision = None'}, "both revision '0001'"),
        ({"0002": "down_revision = None"}, "both come after None"),
        ({"0002": 'down_revision = "0003"'}, "both come after|no revision"),
        ({"0001": 'down_revision = "0003"'}, "no revision in"),
        ({"0003": 'down_revision = "nothing"'}, "after 'nothing'"),
    ],
)
def test_what_is_no_chain_is_named(tmp_path: Path, changes: dict[str, str], match: str) -> None:
    for number in (1, 2, 3):
        path = write(tmp_path / "m", number, steps("pass", "pass"))
        path.write_text(path.read_text() + changes.get(f"{number:04d}", ""))
    with pytest.raises(MigrationError, match=match):
        load_revisions(tmp_path / "m")


def test_a_file_without_a_number_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m", 1, steps("pass", "pass"))
    path.rename(tmp_path / "m" / "first.py")
    with pytest.raises(MigrationError, match=r"call it 0001_first\.py"):
        load_revisions(tmp_path / "m")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="give a folder of revisions"):
        load_revisions(tmp_path / "nothing")


# There and back


def test_there_and_back_is_what_it_was(docs: Connector, folder: Path, encoder: Encoder) -> None:
    before, hits = contents(docs.collection), docs.search("sour bread", 5)
    migrations = Migrations(docs, folder)
    assert [it.revision for it in migrations.upgrade()] == ["0001"]
    assert docs.recipe.name == "compact"
    assert docs.collection.physical == f"{docs.name}__v0002"
    assert texts(docs.collection) == texts(Collection(docs.collection.store, f"{docs.name}__v0001"))
    assert docs.search("sour bread", 1)[0].id == hits[0].id
    assert migrations.ledger.head == "0001"
    assert migrations.ledger.applied["0001"].encoder == encoder.fingerprint
    assert migrations.upgrade() == []
    assert [it.revision for it in migrations.downgrade("base")] == ["0001"]
    assert docs.collection.physical == f"{docs.name}__v0001", "the version from before is used again"
    assert contents(docs.collection) == before
    assert docs.search("sour bread", 5) == hits
    assert migrations.ledger.head is None
    assert not migrations.ledger.applied


def test_a_migrated_version_is_what_an_ingest_makes(
    docs: Connector, folder: Path, encoder: Encoder, documents: list[Document], place: dict[str, Any]
) -> None:
    Migrations(docs, folder).upgrade()
    other = f"{docs.name}-other"
    with Connector.create(other, **place, recipe="compact", model=encoder) as made:
        made.ingest(documents)
        made.ingest([LONG], chunk_tokens=20)
        assert texts(docs.collection) == texts(made.collection)
        assert docs.stats().bytes_per_passage == made.stats().bytes_per_passage
        for query in ("sour bread", "moons of a planet", "a program that runs"):
            ours, theirs = docs.search(query, 5), made.search(query, 5)
            assert [hit.id for hit in ours][:2] == [hit.id for hit in theirs][:2]
        assert docs.ingest(documents).unchanged == 12
        assert docs.ingest([LONG], chunk_tokens=20).unchanged == 1
        made.drop()


def test_what_was_written_since_survives_the_way_back(
    docs: Connector, folder: Path, documents: list[Document]
) -> None:
    migrations = Migrations(docs, folder)
    migrations.upgrade()
    docs.ingest([Document(id="new", text="Quinces are hard and yellow.")])
    docs.ingest([Document(id="doc 0", text="Otters eat sea urchins.", metadata={"number": 0})])
    docs.ingest([Document(id="long", text="Now it is short.")])
    docs.delete(["doc 1", "doc 2"])
    after = texts(docs.collection)
    migrations.downgrade("base")
    assert texts(docs.collection) == after
    assert docs.search("yellow quinces", 1)[0].id == "new"
    assert docs.search("what otters eat", 1)[0].text == "Otters eat sea urchins."
    assert not {"doc 1", "doc 2"} & {hit.id for hit in docs.search("compiler or bread", 20)}
    assert docs.stats().documents == len(documents) + 2 - 2


def test_a_migrated_collection_opens_by_its_name_alone(
    docs: Connector, folder: Path, place: dict[str, Any], encoder: Encoder
) -> None:
    Migrations(docs, folder).upgrade()
    with Connector.open(docs.name, **place, model=encoder) as again:
        assert again.recipe.name == "compact"
        assert again.search("sour bread", 3) == docs.search("sour bread", 3)


def test_a_hit_of_before_is_not_explained_by_another_recipe(docs: Connector, folder: Path) -> None:
    (hit,) = docs.search("sour bread", 1)
    assert docs.explain("sour bread", hit).pairs
    docs.migrations(folder).upgrade()
    with pytest.raises(CollectionError, match="search again"):
        docs.explain("sour bread", hit)
    (hit,) = docs.search("sour bread", 1)
    assert docs.explain("sour bread", hit).pairs


def test_drop_leaves_nothing(docs: Connector, folder: Path, place: dict[str, Any]) -> None:
    Migrations(docs, folder).upgrade()
    docs.drop()
    store = open_store(**place)
    assert docs.name not in names(store)
    assert not versions(store, docs.name)
    store.close()


def test_the_revisions_of_this_repository_there_and_back(
    place: dict[str, Any], encoder: Encoder, documents: list[Document], name: str
) -> None:
    with Connector.create(name, **place, recipe="default", model=encoder) as docs:
        docs.ingest(documents)
        before = texts(docs.collection)
        migrations = Migrations(docs, Path(__file__).parents[2] / "migrations")
        assert [it.revision for it in migrations.upgrade()] == ["0001", "0002"]
        assert docs.recipe.name == "tiny"
        assert docs.search("a telescope", 1)[0].metadata["origin"] == "ingest"
        migrations.downgrade("base")
        assert docs.recipe.name == "default"
        assert texts(docs.collection) == before


# The ledger


def test_a_changed_file_under_an_applied_revision_is_refused(docs: Connector, folder: Path) -> None:
    Migrations(docs, folder).upgrade()
    path = folder / "0001_it.py"
    path.write_text(path.read_text() + "\n# changed\n")
    for call in (Migrations(docs, folder).pending, Migrations(docs, folder).plan):
        with pytest.raises(MigrationError, match=r"0001_it\.py was changed since it was applied"):
            call()
    with pytest.raises(MigrationError, match="was changed"):
        Migrations(docs, folder).downgrade("base")


def test_a_missing_file_of_an_applied_revision_is_refused(docs: Connector, folder: Path) -> None:
    Migrations(docs, folder).upgrade()
    (folder / "0001_it.py").unlink()
    with pytest.raises(MigrationError, match=r"'0001' was applied on .* restore its file"):
        Migrations(docs, folder).upgrade()


def test_stamping_runs_nothing(docs: Connector, folder: Path) -> None:
    before = contents(docs.collection)
    migrations = Migrations(docs, folder)
    migrations.stamp("0001")
    assert migrations.ledger.applied["0001"].stamped
    assert migrations.upgrade() == []
    migrations.stamp("base")
    assert migrations.ledger.head is None
    assert [it.revision for it in migrations.pending()] == ["0001"]
    assert contents(docs.collection) == before


@pytest.mark.parametrize("rev", ["0009", ""])
def test_an_unknown_revision_is_named_and_the_known_ones(docs: Connector, folder: Path, rev: str) -> None:
    for call in (Migrations(docs, folder).upgrade, Migrations(docs, folder).downgrade):
        with pytest.raises(MigrationError, match="there are 0001"):
            call(rev)


def test_only_what_lies_on_the_way_is_done(docs: Connector, folder: Path) -> None:
    write(folder, 2, steps('ctx.create_payload_index("number", "integer")', "pass"))
    write(folder, 3, steps('ctx.add_vector("lexical", "english")', 'ctx.drop_vector("lexical")'))
    migrations = Migrations(docs, folder)
    assert [it.revision for it in migrations.upgrade("0002")] == ["0001", "0002"]
    with pytest.raises(MigrationError, match="applied already"):
        migrations.upgrade("0001")
    with pytest.raises(MigrationError, match="is not applied"):
        migrations.downgrade("0003")
    assert [it.revision for it in migrations.upgrade()] == ["0003"]
    assert [it.revision for it in migrations.downgrade("0001")] == ["0003", "0002"]
    assert migrations.ledger.head == "0001"


def test_what_cannot_be_taken_back_is_refused_before_anything_is(docs: Connector, folder: Path) -> None:
    write(
        folder, 2, 'irreversible = "names are gone"\ndef upgrade(ctx):\n    ctx.map_payload(lambda m: {})\n'
    )
    write(folder, 3, steps('ctx.create_payload_index("number", "integer")', "pass"))
    migrations = Migrations(docs, folder)
    migrations.upgrade()
    with pytest.raises(MigrationError, match="cannot be taken back: names are gone; restore an export"):
        migrations.downgrade("base")
    assert migrations.ledger.head == "0003"


def test_two_migrations_do_not_run_together(docs: Connector, folder: Path) -> None:
    store = docs.collection.store
    with store.lease(docs.name):
        for call in (
            Migrations(docs, folder).upgrade,
            lambda: Migrations(docs, folder).downgrade("base"),
            lambda: Migrations(docs, folder).stamp("0001"),
            lambda: collect(docs),
        ):
            with pytest.raises(StoreLocked):
                call()
    Migrations(docs, folder).upgrade()


# Plans


def planned(docs: Connector, folder: Path, to: str | None = None) -> list[Planned]:
    return [step for revision in Migrations(docs, folder).plan(to) for step in revision.steps]


def test_a_plan_is_read_only_and_says_what_comes(docs: Connector, folder: Path) -> None:
    write(folder, 2, steps('ctx.add_vector("lexical", "english"); ctx.set_hnsw(m=32)', "pass"))
    store = docs.collection.store
    before = contents(docs.collection), store.info(docs.name), store.names()
    found = planned(docs, folder)
    assert (contents(docs.collection), store.info(docs.name), store.names()) == before
    assert [(step.step, step.points) for step in found[:2]] == [
        ("reindex(recipe='compact')", docs.stats().passages),
        ("add_vector('lexical', 'english')", docs.stats().passages),
    ]
    capabilities = store.capabilities
    routes = ["backfill", "in place"] if capabilities.alters else ["rebuild", "rebuild"]
    assert [step.route for step in found] == ["rebuild", *routes]
    if not capabilities.quantizes:
        assert "ignores" in found[2].notes[0]


def test_the_plan_estimates_what_the_upgrade_writes(docs: Connector, folder: Path) -> None:
    (step,) = planned(docs, folder)
    Migrations(docs, folder).upgrade()
    stats, texts_of = docs.stats(), texts(docs.collection)
    written = stats.bytes_per_passage["cls"] * stats.passages
    written += sum(
        len(it.payload.get("codes", "")) for it in docs.collection.store.scroll(docs.name, ["codes"])
    )
    written += sum(len(json.dumps(payload).encode()) for payload in texts_of.values())
    assert step.bytes == pytest.approx(written, rel=0.2)


def test_the_plan_of_the_way_back(docs: Connector, folder: Path) -> None:
    Migrations(docs, folder).upgrade()
    (revision,) = Migrations(docs, folder).plan("base")
    assert (revision.direction, revision.steps[0].step) == ("downgrade", "reindex(recipe='pooled')")
    assert f"{docs.name}__v0001 is there from before" in revision.steps[0].notes[0]
    assert Migrations(docs, folder).plan() == []


# Steps


@pytest.mark.parametrize(
    ("up", "match"),
    [
        ('ctx.reindex(recipe="nothing")', "recipe 'nothing' is not known"),
        ('ctx.recode(codec="pca-64+binary")', "not a beginning of pca-64"),
        ('ctx.recode(recipe="colbert")', "reduced by ward-6, not by nothing"),
        ("ctx.recode()", "either a codec or a recipe"),
        ('ctx.add_vector("tokens", "x")', "'tokens' cannot be added"),
        ('ctx.add_vector("lexical", "klingon")', "klingon"),
        ('ctx.create_payload_index("a", "number")', "there is no such kind"),
        ("ctx.set_hnsw(m=-1)", "m is -1"),
        ('ctx.set_quantization("x")', "quantization"),
        ("ctx.map_payload(3)", "takes a function"),
        ("ctx.nothing()", "line .*AttributeError"),
    ],
)
def test_a_step_that_cannot_be_done_is_refused_before_anything_is_written(
    docs: Connector, tmp_path: Path, up: str, match: str
) -> None:
    write(tmp_path / "m", 1, steps(up, "pass"))
    before, said = contents(docs.collection), docs.collection.read_metadata()
    for call in (Migrations(docs, tmp_path / "m").plan, Migrations(docs, tmp_path / "m").upgrade):
        with pytest.raises((MigrationError, RecipeError), match=match):
            call()
    assert contents(docs.collection) == before
    assert docs.collection.read_metadata() == said


def test_recode_needs_no_encoder_and_makes_nearly_what_encoding_makes(
    docs: Connector, tmp_path: Path, folder: Path, encoder: Encoder
) -> None:
    write(tmp_path / "m", 1, steps('ctx.recode(recipe="compact")', 'ctx.reindex(recipe="pooled")'))
    asked: list[str] = []

    def refuse(*_: Any, **__: Any) -> Any:
        asked.append("documents")
        raise AssertionError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(encoder), "encode_documents", refuse)
        Migrations(docs, tmp_path / "m").upgrade()
    assert not asked
    assert docs.recipe.name == "compact"
    stored = codes(docs)
    Migrations(docs, tmp_path / "m").downgrade("base")
    Migrations(docs, folder).upgrade()
    encoded = codes(docs)
    same = [
        np.mean(np.unpackbits(stored[key]) == np.unpackbits(encoded[key])) for key in stored.keys() & encoded
    ]
    assert stored.keys() == encoded.keys()
    assert min(same) > 0.97, "half precision turns a few signs that lie at zero"


def codes(connector: Connector) -> dict[str, Any]:
    import base64

    return {
        record.id: np.frombuffer(base64.b64decode(record.payload["codes"]), np.uint8)
        for record in connector.collection.store.scroll(connector.name, ["codes"])
    }


def test_recode_follows_the_codec_to_its_layout(docs: Connector, tmp_path: Path) -> None:
    write(tmp_path / "m", 1, steps('ctx.recode(codec="linear-128+int8")', 'ctx.reindex(recipe="pooled")'))
    Migrations(docs, tmp_path / "m").upgrade()
    assert (docs.recipe.layout, docs.recipe.codec) == ("codes", "linear-128+int8")
    assert docs.search("sour bread", 1)[0].id in ("long", "doc 2")


def test_words_are_added_to_every_point_and_dropped(docs: Connector, tmp_path: Path) -> None:
    write(tmp_path / "m", 1, steps('ctx.add_vector("lexical", "english")', 'ctx.drop_vector("lexical")'))
    before = texts(docs.collection)
    migrations = Migrations(docs, tmp_path / "m")
    migrations.upgrade()
    assert docs.recipe.lexical == "english"
    in_place = docs.collection.store.capabilities.alters
    assert docs.collection.physical.endswith("0001" if in_place else "0002")
    assert docs.search("telescope", 1, candidates_by="lexical")[0].id == "doc 3"
    assert docs.stats().bytes_per_passage["lexical"] > 0
    passages = [it for it in before.values() if it]
    average = BM25("english").mean_length(passage_text(it.get("title"), it["text"]) for it in passages)
    assert docs.collection.metadata.average_words == pytest.approx(average)
    docs.ingest([Document(id="new", text="The zither has strings.")])
    assert docs.search("zither", 1, candidates_by="lexical")[0].id == "new"
    migrations.downgrade("base")
    assert docs.recipe.name == "pooled"
    assert docs.collection.metadata.average_words is None
    assert before.items() <= texts(docs.collection).items()
    assert docs.collection.physical.endswith("0001")
    assert "lexical" not in docs.stats().bytes_per_passage
    with pytest.raises(RecipeError, match="no index of words"):
        docs.search("telescope", 1, candidates_by="lexical")
    migrations.upgrade()
    assert docs.search("zither", 1, candidates_by="lexical")[0].id == "new"


def test_encodings_are_added_to_every_point(docs: Connector, tmp_path: Path) -> None:
    pytest.importorskip("fastembed")
    write(tmp_path / "m", 1, steps('ctx.add_vector("fde", "muvera")', 'ctx.drop_vector("fde")'))
    Migrations(docs, tmp_path / "m").upgrade()
    assert docs.search("moons of Jupiter", 1, candidates_by="muvera")[0].id == "doc 3"
    Migrations(docs, tmp_path / "m").downgrade("base")
    assert docs.recipe.fde is None


def test_a_vector_that_is_being_added_is_not_searched(
    docs: Connector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: dict[str, Any],
    encoder: Encoder,
) -> None:
    from connector.migrations import steps_in_place as in_place

    if not docs.collection.store.capabilities.alters:
        pytest.skip("this engine copies the collection, so that nothing is ever half there")
    write(tmp_path / "m", 1, steps('ctx.add_vector("lexical", "english")', "pass"))
    seen: list[str] = []

    def look(*arguments: Any) -> int:
        with Connector.open(docs.name, **place, model=encoder) as other:
            with pytest.raises(Exception, match="is being added") as caught:
                other.search("telescope", 1, candidates_by="lexical")
            seen.append(str(caught.value))
            assert other.search("a telescope", 1)[0].id == "doc 3"
        return real(*arguments)

    real = in_place.fill
    monkeypatch.setattr(in_place, "fill", look)
    Migrations(docs, tmp_path / "m").upgrade()
    assert seen
    assert docs.search("telescope", 1, candidates_by="lexical")[0].id == "doc 3"


def test_metadata_is_changed_once_in_every_point(docs: Connector, tmp_path: Path) -> None:
    write(
        tmp_path / "m",
        1,
        steps(
            'ctx.map_payload(lambda m: {**m, "number": m["number"] + 1})',
            'ctx.map_payload(lambda m: {**m, "number": m["number"] - 1})',
        ),
    )
    docs.create_index({"number": "integer"})
    before = texts(docs.collection)
    Migrations(docs, tmp_path / "m").upgrade()
    after = texts(docs.collection)
    for key, payload in before.items():
        number = payload["metadata"]["number"] + 1
        assert after[key] == {**payload, "metadata": {**payload["metadata"], "number": number}}
    year = models.Filter(must=[models.FieldCondition(key="number", match=models.MatchValue(value=100))])
    assert [hit.id for hit in docs.search("bread", 5, filter=year)] == ["long"]
    Migrations(docs, tmp_path / "m").downgrade("base")
    assert texts(docs.collection) == before


@pytest.mark.parametrize("change", ["lambda m: m['nothing']", "lambda m: None", "lambda m: {'a': 1e999}"])
def test_a_change_that_fails_for_one_document_changes_none(
    docs: Connector, tmp_path: Path, change: str
) -> None:
    write(tmp_path / "m", 1, steps(f"ctx.map_payload({change})", "pass"))
    before = texts(docs.collection)
    with pytest.raises(MigrationError, match="map_payload"):
        Migrations(docs, tmp_path / "m").upgrade()
    assert texts(docs.collection) == before
    assert not docs.collection.read_metadata().frozen


def test_changed_metadata_reaches_the_version_from_before(docs: Connector, folder: Path) -> None:
    """Content hashes do not tell it, as they are of what was ingested."""
    write(
        folder,
        2,
        steps(
            'ctx.map_payload(lambda m: {**m, "new": True})',
            'ctx.map_payload(lambda m: {k: v for k, v in m.items() if k != "new"})',
        ),
    )
    write(folder, 3, steps('ctx.reindex(recipe="pooled")', 'ctx.reindex(recipe="compact")'))
    migrations = Migrations(docs, folder)
    migrations.upgrade()
    assert all(payload["metadata"]["new"] for payload in texts(docs.collection).values())
    migrations.downgrade("0002")
    assert all(payload["metadata"]["new"] for payload in texts(docs.collection).values())
    migrations.downgrade("base")
    assert not any("new" in payload["metadata"] for payload in texts(docs.collection).values())


def test_an_index_is_there_in_the_next_version_too(docs: Connector, tmp_path: Path) -> None:
    write(tmp_path / "m", 1, steps('ctx.create_payload_index("number", "integer")', "pass"))
    write(tmp_path / "m", 2, steps('ctx.recode(recipe="compact")', 'ctx.reindex(recipe="pooled")'))
    Migrations(docs, tmp_path / "m").upgrade()
    assert docs.collection.metadata.indexes == {"metadata.number": "integer"}
    even = models.Filter(must=[models.FieldCondition(key="number", range=models.Range(gte=98))])
    assert [hit.id for hit in docs.search("bread", 5, filter=even)] == ["long"]


def test_quantization_and_graph_are_said_and_carried_on(docs: Connector, tmp_path: Path) -> None:
    write(
        tmp_path / "m",
        1,
        steps('ctx.set_hnsw(m=24, ef_construct=64); ctx.set_quantization("scalar")', "pass"),
    )
    write(tmp_path / "m", 2, steps("ctx.reindex()", "pass"))
    hits = docs.search("sour bread", 3)
    Migrations(docs, tmp_path / "m").upgrade()
    vector = docs.collection.schema.vector("cls").hnsw
    assert vector is not None
    assert (vector.m, vector.ef_construct, docs.recipe.quantization) == (24, 64, "scalar")
    assert [hit.id for hit in docs.search("sour bread", 1)] == [hits[0].id]


def test_copies_are_those_of_every_version(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document], folder: Path
) -> None:
    """Only a cluster keeps several; the wish is kept everywhere, for an import there."""
    spread = {"shard_number": 3, "replication_factor": 2, "write_consistency_factor": 2}
    asked: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patched:
        if "client" in place:
            real = place["client"].create_collection
            spy = lambda *words, **named: (asked.append(named), real(*words, **named))[1]  # noqa: E731
            patched.setattr(place["client"], "create_collection", spy)
        with Connector.create(name, **place, recipe="pooled", model=encoder, **spread) as connector:
            connector.ingest(documents)
            Migrations(connector, folder).upgrade()
            assert connector.collection.schema.distribution == Distribution(**spread)
            connector.drop()
    made = [it for it in asked if it.get("shard_number") == 3]
    if "client" in place:
        assert len(made) == 2
        assert all(spread.items() <= it.items() for it in made)


def test_another_model_is_another_version(docs: Connector, tmp_path: Path, encoder: Encoder) -> None:
    """A model of the same weights under another name and of another window."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer  # noqa: F401

    small = tiny_model(tmp_path / "model")
    write(
        tmp_path / "m",
        1,
        steps(
            f'ctx.reindex(recipe="dense", model={str(small)!r})',
            'ctx.reindex(recipe="pooled", model="sentence-transformers/all-MiniLM-L6-v2")',
        ),
    )
    Migrations(docs, tmp_path / "m", min_overlap=0).upgrade()
    assert docs.encoder.fingerprint != encoder.fingerprint
    assert docs.collection.metadata.model == str(small)
    assert len(docs.search("sour bread", 3)) == 3
    assert docs.ingest([Document(id="new", text="Rye.")]).documents == 1
    Migrations(docs, tmp_path / "m", min_overlap=0).downgrade("base")
    assert docs.encoder.fingerprint == encoder.fingerprint
    assert docs.collection.physical.endswith("0001")
    assert docs.stats().documents == 14


def tiny_model(folder: Path) -> Path:
    """A BERT of random weights."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


# Verification


def test_a_version_whose_vectors_are_wrong_is_not_switched_to(
    docs: Connector, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, physical = contents(docs.collection), docs.collection.physical

    def damaging(source: Collection, target: Collection, *more: Any, **named: Any) -> Any:
        points = [it.id for it in target.store.scroll(target.physical, [])][:3]
        blank = [rebuild_module.Record(key, {}) for key in points]
        target.store.amend(
            target.physical, [Point(it.id, {"cls": np.eye(1, 384, dtype=np.float32)[0]}, {}) for it in blank]
        )
        return verify_module.verify(source, target, *more, **named)

    monkeypatch.setattr(rebuild_module, "verify", damaging)
    with pytest.raises(MigrationError, match=r"is not what it should be: .* leads to .* as before"):
        Migrations(docs, folder).upgrade()
    assert docs.collection.physical == physical
    assert contents(docs.collection) == before
    assert docs.search("sour bread", 1)
    assert len(versions(docs.collection.store, docs.name)) == 2, "both are there to be looked at"


def test_too_little_overlap_stops_with_both_versions_intact(docs: Connector, tmp_path: Path) -> None:
    write(tmp_path / "m", 1, steps('ctx.reindex(recipe="dense")', 'ctx.reindex(recipe="pooled")'))
    before, said = contents(docs.collection), []
    strict = Migrations(docs, tmp_path / "m", min_overlap=1.0, say=said.append)
    with pytest.raises(MigrationError, match=r"overlap by \d+%, less than 100%"):
        strict.upgrade()
    assert contents(docs.collection) == before
    assert any(re.search(r"canary queries overlap by \d+%", line) for line in said)
    Migrations(docs, tmp_path / "m", min_overlap=0.1).upgrade()
    assert docs.recipe.name == "dense"
    assert len(versions(docs.collection.store, docs.name)) == 2, "the second run goes on with the version"


def test_canary_queries_are_kept_and_asked_again(docs: Connector, folder: Path) -> None:
    migrations = Migrations(docs, folder)
    migrations.upgrade(canaries=["sour bread", "moons"])
    assert set(compare(docs).overlaps) == {"sour bread", "moons"}
    migrations.downgrade("base")
    assert set(compare(docs).overlaps) == {"sour bread", "moons"}


def test_comparing_tells_whether_the_collection_is_whole(docs: Connector, folder: Path) -> None:
    alone = compare(docs)
    assert (alone.problems(0.5), alone.sampled, alone.overlap) == ([], 13, None)
    assert "no other version" in alone.summary()
    Migrations(docs, folder).upgrade()
    docs.ingest([Document(id="new", text="Quinces are yellow.")])
    docs.delete(["doc 1"])
    found = compare(docs)
    assert (found.problems(0.5), found.since) == ([], 2)
    assert "2 written or deleted since" in found.summary()
    store, physical = docs.collection.store, docs.collection.physical
    store.delete(physical, [point_id("long", 1)])
    assert "passages in place of" in compare(docs).problems(0.5)[0]
    mark(docs.collection, {"long": 3})
    assert "1 documents are unfinished" in compare(docs).problems(0.5)[0]


def test_comparing_finds_vectors_that_are_wrong(docs: Connector) -> None:
    store, physical = docs.collection.store, docs.collection.physical
    other = np.eye(1, 384, dtype=np.float32)[0]
    store.amend(physical, [Point(point_id("doc 3", 0), {"cls": other}, {})])
    assert "document 'doc 3' has other vectors" in compare(docs).problems(0.5)[0]


def test_collecting_drops_all_but_the_current_version(docs: Connector, folder: Path) -> None:
    Migrations(docs, folder).upgrade()
    assert [it.current for it in versions_of(docs.collection)] == [False, True]
    (dropped,) = collect(docs)
    assert dropped.physical == f"{docs.name}__v0001"
    assert [it.physical for it in versions_of(docs.collection)] == [f"{docs.name}__v0002"]
    assert collect(docs) == []
    assert docs.search("sour bread", 1)
    Migrations(docs, folder).downgrade("base")
    assert docs.recipe.name == "pooled", "it is made again"


# Cut off


CUT = {
    "making": ("connector.migrations.rebuild", "_made"),
    "fitting": ("connector.migrations.rebuild", "_fit"),
    "copying": ("connector.migrations.rebuild", "_copy"),
    "verifying": ("connector.migrations.rebuild", "verify"),
}


class Cut(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("moment", [*CUT, "switching", "noting"])
def test_what_is_cut_off_goes_on_by_running_it_again(
    docs: Connector, folder: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    store, cut = docs.collection.store, [True]
    with monkeypatch.context() as patched:

        def once(real: Callable[..., Any], after: bool) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                result = real(*arguments, **named) if after else None
                if cut:
                    cut.clear()
                    raise Cut
                return result if after else real(*arguments, **named)

            return call

        if moment in CUT:
            home, name = CUT[moment]
            module = importlib.import_module(home)
            patched.setattr(module, name, once(getattr(module, name), after=True))
        elif moment == "switching":
            patched.setattr(type(store), "switch", once(type(store).switch, after=True))
        else:
            patched.setattr(Ledger, "applied_keys", once(Ledger.applied_keys, after=False))
        with pytest.raises(Cut):
            Migrations(docs, folder).upgrade()
    assert docs.search("sour bread", 1), "it is searched all the time"
    docs.ingest([Document(id="late", text="Quinces are yellow.")])
    assert docs.search("yellow quinces", 1)[0].id == "late"
    with pytest.raises(
        MigrationError,
        match=r"cut off after \d steps; finish it with connector migrate upgrade, or give it up",
    ):
        Migrations(docs, folder).downgrade("base")
    Migrations(docs, folder).upgrade()
    assert docs.recipe.name == "compact"
    assert docs.search("yellow quinces", 1)[0].id == "late"
    assert len(versions(store, docs.name)) == 2
    assert Ledger.of(docs.collection.read_metadata()).pending is None
    said = docs.collection.read_metadata().stored()
    assert not any(said.get(key) for key in ("building", "rebuild", "frozen", "filling"))


STEPWISE = """
def changed(metadata):
    return {{**metadata, "changed": metadata.get("changed", 0) + 1}}


def bad(metadata):
    {body}


def upgrade(ctx):
    ctx.map_payload(changed)
    ctx.recode(recipe="compact")
    ctx.map_payload(bad)


irreversible = "it is a test"
"""


def test_a_step_that_fails_is_corrected_and_the_steps_before_it_are_not_done_again(
    docs: Connector, tmp_path: Path
) -> None:
    write(tmp_path / "m", 1, STEPWISE.format(body="1 / 0"))
    with pytest.raises(
        MigrationError, match=r"The 2 steps before it are done and stay\. Correct the revision"
    ):
        Migrations(docs, tmp_path / "m").upgrade()
    assert docs.recipe.name == "compact"
    write(tmp_path / "m", 1, STEPWISE.format(body="raise SystemExit(0)"))
    with pytest.raises(MigrationError, match="SystemExit: 0"):
        Migrations(docs, tmp_path / "m").upgrade()
    write(tmp_path / "m", 1, STEPWISE.format(body='return {**metadata, "good": True}'))
    Migrations(docs, tmp_path / "m").upgrade()
    found = [payload["metadata"] for payload in texts(docs.collection).values()]
    assert {it["changed"] for it in found} == {1}
    assert all(it["good"] for it in found)


def test_steps_that_are_done_cannot_become_others(docs: Connector, tmp_path: Path) -> None:
    write(tmp_path / "m", 1, STEPWISE.format(body="1 / 0"))
    with pytest.raises(MigrationError, match="steps before it"):
        Migrations(docs, tmp_path / "m").upgrade()
    write(tmp_path / "m", 1, steps('ctx.reindex(recipe="dense")', "pass"))
    with pytest.raises(MigrationError, match=r"are done and were map_payload.*migrate stamp base"):
        Migrations(docs, tmp_path / "m").upgrade()
    assert Migrations(docs, tmp_path / "m").stamp("base") == []
    Migrations(docs, tmp_path / "m", min_overlap=0).upgrade()
    assert docs.recipe.name == "dense"


def test_stamping_back_tells_what_would_run_again(docs: Connector, folder: Path) -> None:
    write(folder, 2, steps('ctx.create_payload_index("number", "integer")', "pass"))
    migrations = Migrations(docs, folder)
    migrations.upgrade()
    path = folder / "0001_it.py"
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(MigrationError, match="connector migrate stamp 0002"):
        Migrations(docs, folder).upgrade()
    assert Migrations(docs, folder).stamp("0002") == []
    assert Migrations(docs, folder).upgrade() == []
    assert Migrations(docs, folder).stamp("0001") == ["0002"]


def test_queries_that_are_given_to_a_second_run_are_asked(docs: Connector, folder: Path) -> None:
    said: list[str] = []
    with pytest.raises(MigrationError, match="overlap"):
        Migrations(docs, folder, min_overlap=1).upgrade()
    Migrations(docs, folder, say=said.append).upgrade(canaries=["sour bread", "moons"])
    assert any("2 canary queries" in line for line in said)


def test_what_a_refused_version_leaves_can_be_given_up(docs: Connector, folder: Path) -> None:
    with pytest.raises(MigrationError, match=r"give it up with connector migrate stamp base"):
        Migrations(docs, folder, min_overlap=1).upgrade()
    Migrations(docs, folder).stamp("base")
    assert collect(docs)
    assert [it.current for it in versions_of(docs.collection)] == [True]
    assert Ledger.of(docs.collection.read_metadata()).pending is None
    assert docs.recipe.name == "pooled"


# Commands


@pytest.fixture
def run(tmp_path: Path, encoder: Encoder, documents: list[Document], folder: Path) -> Callable[..., Any]:
    """Runs `connector migrate` on a collection in a folder."""
    with Connector.create("docs", path=tmp_path / "q", recipe="pooled", model=encoder) as connector:
        connector.ingest(documents)
    at = ["--collection", "docs", "--path", str(tmp_path / "q")]

    def invoke(*words: str, code: int = 0, out: bool = False) -> str:
        given = ["--migrations", str(folder)] if words[0] not in ("verify", "gc") else []
        result = CliRunner().invoke(main, ["migrate", *words, *at, *given])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return str(result.stdout if out else result.output)

    return invoke


def test_the_commands_tell_what_they_do(run: Callable[..., Any]) -> None:
    assert "0001  not applied" in run("status")
    assert "rebuild: 12 points, about" in run("plan")
    out = run("upgrade")
    assert "verified: 12 of 12 documents" in out
    assert "applied: 0001; 'docs' is at 0001" in out
    assert "0001  applied 2" in run("status")
    assert "current  docs__v0002  compact  12 documents" in run("status")
    assert "nothing to do" in run("plan")
    assert "nothing to do; 'docs' is at 0001" in run("upgrade")
    assert "downgrade 0001" in run("plan", "base")
    assert "overlap by" in run("verify")
    assert "taken back: 0001; 'docs' is at no revision" in run("downgrade", "base")
    assert "'docs' is at 0001" in run("stamp", "0001")
    assert "dropped docs__v0002" in run("gc", "--yes")


def test_the_commands_print_json(run: Callable[..., Any]) -> None:
    status = json.loads(run("status", "--json"))
    assert (status["head"], status["waiting"], len(status["versions"])) == (None, ["0001"], 1)
    (plan,) = json.loads(run("plan", "--json"))["revisions"]
    assert plan["steps"][0]["route"] == "rebuild"
    assert json.loads(run("upgrade", "--json")) == {"applied": ["0001"], "head": "0001"}
    assert json.loads(run("verify", "--json"))["problems"] == []
    assert json.loads(run("downgrade", "base", "--json")) == {"taken_back": ["0001"], "head": None}
    assert json.loads(run("gc", "--yes", "--json"))["dropped"][0]["recipe"] == "compact"


def test_the_commands_print_one_object_whatever_a_revision_prints(
    run: Callable[..., Any], folder: Path
) -> None:
    path = folder / "0001_it.py"
    path.write_text(f'print("loaded")\n{path.read_text()}\nprint("still")\n')
    for words in (("status",), ("plan",), ("upgrade",), ("downgrade", "base"), ("stamp", "0001")):
        assert json.loads(run(*words, "--json", out=True))
    assert json.loads(run("gc", "--json", "--yes", out=True))["dropped"]


def test_status_tells_of_files_that_were_changed_or_lost(run: Callable[..., Any], folder: Path) -> None:
    run("upgrade")
    path = folder / "0001_it.py"
    path.write_text(path.read_text() + "# changed\n")
    assert ", and changed since" in run("status")
    path.unlink()
    assert "its file is missing" in run("status")
    assert json.loads(run("status", "--json"))["missing"] == ["0001"]


def test_a_collection_is_dropped_by_the_command(run: Callable[..., Any], tmp_path: Path) -> None:
    run("upgrade")
    at = ["--collection", "docs", "--path", str(tmp_path / "q")]
    asked = CliRunner().invoke(main, ["drop", *at], input="n\n")
    assert (asked.exit_code, "nothing was done" in asked.output) == (1, True)
    alone = CliRunner().invoke(main, ["drop", *at])
    assert (alone.exit_code, "give --yes" in alone.output) == (1, True)
    assert CliRunner().invoke(main, ["drop", *at, "--yes"]).output == "dropped 'docs'\n"
    assert "no collection 'docs'" in CliRunner().invoke(main, ["stats", *at]).output
    assert not list((tmp_path / "q" / "collections").iterdir())


def test_the_commands_refuse_with_one_line(run: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    assert "there are 0001" in run("upgrade", "0007", code=1)
    assert "no other version" in run("verify")
    (tmp_path / "empty.txt").write_text("\n")
    assert "holds no query" in run("upgrade", "--canaries", str(tmp_path / "empty.txt"), code=1)
    (folder / "0001_it.py").write_text("def (")
    for words in (("status",), ("plan",), ("upgrade",), ("downgrade", "base"), ("stamp", "base")):
        assert "SyntaxError" in run(*words, code=1)
