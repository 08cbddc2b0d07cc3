"""Writers, migrations and the collector of versions in the worst order: what was acknowledged is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connector import Connector, Document, Encoder
from connector.collection.collection import Collection
from connector.collection.documents.document_state import mark, scan, states
from connector.collection.documents.passages import points_of, split_document
from connector.collection.documents.writer import Writer
from connector.collection.recipe import get_recipe
from connector.collection.versions import dual_write as following_module
from connector.collection.versions import transcode as filling_module
from connector.collection.versions.aliases import versions
from connector.core.errors import CollectionError, MigrationError, StoreLocked
from connector.core.types import point_id
from connector.encoders.chunking import Chunking
from connector.migrations import Migrations, collect
from connector.migrations import rebuild as rebuild_module
from connector.migrations import steps as steps_module
from connector.migrations import steps_in_place as in_place_module
from connector.migrations import verify as verify_module
from connector.stores import Point
from tests.conftest import TEXTS
from tests.migrations.test_interruptions import Remembering
from tests.migrations.test_runner import contents, steps, texts, write

UP = {
    "reindex": steps('ctx.reindex(recipe="compact")', 'ctx.reindex(recipe="pooled")'),
    "recode": steps('ctx.recode(recipe="compact")', 'ctx.reindex(recipe="pooled")'),
    "add_vector": steps('ctx.add_vector("lexical", "english")', 'ctx.drop_vector("lexical")'),
    "map_payload": steps('ctx.map_payload(lambda m: {**m, "mapped": True})', "pass"),
}

ZITHER = Document(id="new", text="The zither has strings.", metadata={"number": 1})


@pytest.fixture(scope="module")
def quick_encoder(encoder: Encoder) -> Remembering:
    return Remembering(encoder)


@pytest.fixture(params=["edge", "memory"])
def docs(
    request: pytest.FixtureRequest, name: str, tmp_path: Path, quick_encoder: Any
) -> Iterator[Connector]:
    """Four documents by recipe default, one of them of several passages."""
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    where: dict[str, Any] = {"path": tmp_path / "q"} if request.param == "edge" else {"client": client}
    with Connector.create(name, **where, recipe="pooled", model=quick_encoder) as connector:
        connector.ingest(Document(id=f"doc {n}", text=text) for n, text in enumerate(TEXTS[:3]))
        connector.ingest([Document(id="long", text="Rye bread is baked. " * 6)], chunk_tokens=8)
        yield connector
    client.close()


@pytest.fixture
def migrations(docs: Connector, tmp_path: Path) -> Callable[..., Migrations]:
    """Makes revisions of these kinds and gives them."""

    def made(*kinds: str) -> Migrations:
        for number, kind in enumerate(kinds, 1):
            write(tmp_path / "m", number, UP[kind])
        return Migrations(docs, tmp_path / "m")

    return made


def hooked(
    patched: pytest.MonkeyPatch,
    home: Any,
    name: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
    times: float = 1,
) -> list[int]:
    """Let something happen before or after a call, the first times that it is called; tells how often."""
    real, done = getattr(home, name), [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        now = done[0] < times
        done[0] += now
        if now and before is not None:
            before(*args, **kwargs)
        result = real(*args, **kwargs)
        if now and after is not None:
            after(*args, **kwargs)
        return result

    patched.setattr(home, name, call)
    return done


def whole(docs: Connector) -> None:
    """Raises unless every document has the passages that it says, and no point is of none."""
    collection = docs.collection
    numbers: dict[str, set[int]] = {}
    for record in collection.store.scroll(collection.physical, ["id", "passage"]):
        numbers.setdefault(record.payload["id"], set()).add(record.payload.get("passage", -1))
    assert numbers == {id_: set(range(state.passages)) for id_, state in scan(collection)}


# Writers that know an older version


@pytest.mark.parametrize("kind", ["reindex", "recode"])
def test_what_a_writer_wrote_to_a_version_that_is_collected_is_not_lost(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It had written, and not yet looked, when the version was switched and dropped."""

    def migrate(*_: Any) -> None:
        migrations(kind).upgrade()
        collect(docs)

    hooked(monkeypatch, Writer, "_write", after=migrate)
    assert docs.ingest([ZITHER]).documents == 1
    assert docs.recipe.name == "compact"
    assert docs.search("zither", 1)[0].id == "new"
    whole(docs)


@pytest.mark.parametrize("many", [False, True])
def test_what_was_deleted_from_a_version_that_is_collected_is_gone(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    def migrate(*_: Any) -> None:
        migrations("reindex").upgrade()
        collect(docs)

    id_ = "long" if many else "doc 1"
    hooked(monkeypatch, following_module, "states", after=migrate)
    assert docs.delete([id_]) == 1
    assert not states(docs.collection, [id_])
    whole(docs)


def test_a_document_written_in_parts_is_whole_in_the_next_version(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version is switched and dropped when half of it, and half of all others, are written."""
    from connector.collection import ingest as ingest_module

    monkeypatch.setattr(ingest_module, "WINDOW", 4)
    texts_of = [f"Rye bread number {n} is baked of sour dough and rye. " for n in range(3)]
    first = [Document(id=f"rye {n}", text=it * 6) for n, it in enumerate(texts_of)]
    docs.ingest(first, chunk_tokens=8)
    sizes = {id_: state.passages for id_, state in scan(docs.collection)}
    assert sizes["rye 0"] > 4, "so that it takes two windows"

    def migrate(*_: Any) -> None:
        migrations("reindex").upgrade()
        collect(docs)

    shorter = [Document(id=it.id, text=f"{it.text[: len(it.text) // 2]} {n}.") for n, it in enumerate(first)]
    shorter[0] = Document(id="rye 0", text=texts_of[0] * 5)
    hooked(monkeypatch, Writer, "_write", after=migrate)
    docs.ingest(shorter, chunk_tokens=8)
    assert docs.recipe.name == "compact"
    whole(docs)
    found = texts(docs.collection)
    joined = {
        it.id: "".join(
            found[point_id(it.id, number)]["text"] for number in range(found[point_id(it.id, 0)]["passages"])
        ).replace(" ", "")
        for it in shorter
    }
    assert joined == {it.id: it.text.replace(" ", "") for it in shorter}
    assert docs.ingest(shorter, chunk_tokens=8).unchanged == 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_a_writer_writes_that_does_not_know_of_added_words_has_them(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The whole migration runs while the writer encodes, or before it looks."""
    run = {moment: lambda *_: migrations("add_vector").upgrade()}
    done = hooked(monkeypatch, Writer, "_write", **run)  # type: ignore[arg-type]
    docs.ingest([ZITHER])
    assert done == [1]
    assert docs.search("zither", 1, candidates_by="lexical")[0].id == "new"


def test_a_writer_that_knows_a_dropped_vector_writes_without_it(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single document, too, which is refused as it is."""
    migrations("add_vector").upgrade()
    docs.refresh()
    hooked(monkeypatch, Writer, "_write", before=lambda *_: migrations("add_vector").downgrade("base"))
    report = docs.ingest([ZITHER])
    assert (report.documents, report.refused) == (1, {})
    assert docs.search("zither", 1)[0].id == "new"
    migrations("add_vector").upgrade()
    assert docs.search("zither", 1, candidates_by="lexical")[0].id == "new"


def test_words_of_an_older_text_do_not_stay(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is changed when the migration has made its words and has not written them."""
    if not docs.collection.store.capabilities.alters:
        pytest.skip("this engine copies the collection; there is no moment in between")
    changed = Document(id="doc 0", text="The zither has strings.")
    hooked(monkeypatch, filling_module, "_filled", after=lambda *_: docs.ingest([changed]))
    migrations("add_vector").upgrade()
    assert docs.search("zither", 1, candidates_by="lexical")[0].id == "doc 0"
    assert "doc 0" not in {hit.id for hit in docs.search("otter", 5, candidates_by="lexical")}


def test_words_are_added_to_what_a_writer_wrote_that_did_not_know_of_them_and_was_killed(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the back of the migration, so that nobody looks."""
    if not docs.collection.store.capabilities.alters:
        pytest.skip("this engine copies the collection; there is no moment in between")
    points, old = points_of_new(docs, ZITHER), docs.collection
    put = hooked(
        monkeypatch, in_place_module, "fill", after=lambda *_: old.store.upsert(old.physical, points)
    )
    migrations("add_vector").upgrade()
    assert put == [1]
    assert docs.search("zither", 1, candidates_by="lexical")[0].id == "new"


def points_of_new(docs: Connector, document: Document) -> list[Point]:
    passages = split_document(document, docs.encoder, Chunking())
    materials = docs.collection.pipeline.make(docs.encoder, [it.text for it in passages])
    return points_of(docs.collection, passages, materials)


def test_metadata_of_an_older_document_does_not_stay(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is written when the migration has read it, which ends before the writer looks."""
    docs.ingest([Document(id="doc 0", text="Old.", metadata={"old": True})])
    collection, written = docs.collection, list[str]()
    points = points_of_new(docs, Document(id="doc 0", text="New.", metadata={"new": True}))

    def put() -> None:
        written.append("doc 0")
        collection.store.upsert(collection.physical, points)

    def overtake(*_: Any) -> None:
        if collection.read_metadata().frozen and not written:
            put()

    hooked(monkeypatch, in_place_module.MapPayload, "_window", after=overtake, times=9)
    migrations("map_payload").upgrade()
    assert docs.search("New.", 1)[0].metadata == {"old": True, "mapped": True}, "the order is the worst"
    following_module.settle(collection, ["doc 0"], docs.encoder_of, put)
    assert len(written) == 2
    assert docs.search("New.", 1)[0].metadata == {"new": True}


def test_a_document_that_is_refused_is_not_written_for_ever(
    docs: Connector, migrations: Callable[..., Migrations]
) -> None:
    """What was there stays, with the metadata that a migration made."""
    migrations("map_payload").upgrade()
    tries: list[int] = []
    following_module.settle(docs.collection, ["doc 0"], docs.encoder_of, lambda: tries.append(1))
    assert len(tries) < 3


def test_a_writer_of_an_older_version_waits_while_metadata_of_the_newer_one_is_changed(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = docs.collection
    points = points_of_new(docs, ZITHER)
    migrations("reindex").upgrade()
    docs.refresh()
    docs.collection.write_metadata(frozen="a step")
    waited: list[str] = []

    def thaw(*_: Any) -> None:
        waited.append(docs.collection.physical)
        assert not states(docs.collection, ["new"]), "it is not carried yet"
        docs.collection.write_metadata(frozen=None)

    monkeypatch.setattr(following_module, "_wait_for_payloads", thaw)
    old.store.upsert(old.physical, points)
    following_module.settle(old, ["new"], docs.encoder_of, lambda: None)
    assert waited
    assert docs.search("zither", 1)[0].id == "new"


# Migrations that look while others write


def test_a_migration_ends_while_others_never_stop_writing(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that both versions are compared, a document comes between the one and the other."""
    number = [0]

    def ingest(*_: Any) -> None:
        number[0] += 1
        docs.ingest([Document(id=f"new {number[0]}", text=f"Quince {number[0]}.")])

    hooked(monkeypatch, verify_module, "scan", after=ingest, times=100)
    migrations("reindex").upgrade()
    assert number[0] >= 2
    assert docs.recipe.name == "compact"
    assert docs.stats().documents == 4 + number[0]
    whole(docs)


def test_a_document_that_changes_while_it_is_compared_is_no_damage(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = [0]

    def ingest(*_: Any) -> None:
        count[0] += 1
        docs.ingest([Document(id="doc 0", text=f"Quince {count[0]}.")])

    hooked(monkeypatch, verify_module, "_sample", after=ingest)
    migrations("reindex").upgrade()
    assert docs.search("Quince", 1)[0].id == "doc 0"


@pytest.mark.parametrize("kind", ["reindex", "recode"])
@pytest.mark.parametrize("written", [0, 3])
def test_a_document_whose_ingest_was_killed_stops_no_migration(
    docs: Connector, migrations: Callable[..., Migrations], kind: str, written: int
) -> None:
    """Its mark is there, and some of its passages."""
    collection, store = docs.collection, docs.collection.store
    docs.ingest([Document(id="half", text="Quinces are yellow fruits. " * 8)], chunk_tokens=8)
    size = states(collection, ["half"])["half"].passages
    assert size > 4
    mark(collection, {"half": size})
    store.delete(collection.physical, [point_id("half", n) for n in range(1, size - written)])
    migrations(kind).upgrade()
    assert states(docs.collection, ["half"])["half"].hash is None
    docs.ingest([Document(id="half", text="Quinces are yellow fruits. " * 8)], chunk_tokens=8)
    whole(docs)
    assert docs.search("quinces", 1)[0].id == "half"


def test_passages_that_nobody_knows_are_removed_from_a_version_that_is_made(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as two carriers on two machines may leave, or a first window that was cut off."""

    def spoil(_: Any, __: Any, target: Collection, *___: Any) -> None:
        store = target.store
        (record,) = store.retrieve(
            target.physical, [point_id("doc 0", 0)], ["text"], [v.name for v in target.schema.vectors]
        ).values()
        for id_, number in (("doc 1", 7), ("nobody", 3)):
            payload = {"id": id_, "passage": number, "text": "stray", "metadata": {}}
            store.upsert(target.physical, [Point(point_id(id_, number), record.vectors, payload)])
        store.delete(target.physical, [point_id("long", 1)])

    hooked(monkeypatch, rebuild_module, "verify", before=lambda *args, **_: spoil(None, *args))
    migrations("reindex").upgrade()
    whole(docs)
    assert docs.stats().documents == 4


# Resuming


def test_a_revision_that_is_corrected_after_it_was_cut_off_makes_what_it_says_now(
    docs: Connector, tmp_path: Path
) -> None:
    """As after a version that was refused, because its hits differ too much."""
    write(tmp_path / "m", 1, steps('ctx.reindex(recipe="dense")', 'ctx.reindex(recipe="pooled")'))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            verify_module, "_ask_canaries", lambda found, *_: found.overlaps.update({"a query": 0.0})
        )
        with pytest.raises(MigrationError, match="overlap"):
            Migrations(docs, tmp_path / "m").upgrade()
    write(tmp_path / "m", 1, UP["reindex"])
    Migrations(docs, tmp_path / "m").upgrade()
    assert docs.recipe.name == "compact"
    assert len(versions(docs.collection.store, docs.name)) == 2, "what was begun is given up"
    whole(docs)


def test_a_change_of_metadata_that_is_corrected_after_it_was_begun_is_refused(
    docs: Connector, migrations: Callable[..., Migrations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StoreLocked("lost")

    monkeypatch.setattr(steps_module, "WINDOW", 1)
    with pytest.MonkeyPatch.context() as patched:
        hooked(patched, type(docs.collection.store), "amend", after=fail)
        with pytest.raises(StoreLocked):
            migrations("map_payload").upgrade()
    assert sum("mapped" in payload["metadata"] for payload in texts(docs.collection).values()) >= 1
    path = tmp_path / "m" / "0001_it.py"
    right = path.read_text()
    path.write_text(right.replace("mapped", "other"))
    with pytest.raises(MigrationError, match="restore it"):
        Migrations(docs, tmp_path / "m").upgrade()
    path.write_text(right)
    Migrations(docs, tmp_path / "m").upgrade()
    assert all(payload["metadata"]["mapped"] for payload in texts(docs.collection).values())


def test_who_lost_the_lease_does_not_let_writers_into_the_work_of_its_successor(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[bool] = []

    class Lost:
        def check(self) -> None:
            if docs.collection.read_metadata().frozen:
                lost.append(True)
                raise StoreLocked("taken over")

    real = Migrations._apply
    monkeypatch.setattr(
        Migrations, "_apply", lambda self, revision, direction, _: real(self, revision, direction, Lost())
    )
    with pytest.raises(StoreLocked, match="taken over"):
        migrations("map_payload").upgrade()
    assert lost
    assert docs.collection.read_metadata().frozen
    monkeypatch.setattr(Migrations, "_apply", real)
    migrations("map_payload").upgrade()
    assert not docs.collection.read_metadata().frozen


def test_the_first_version_is_used_again_though_nothing_was_ever_written_to_it(
    name: str, tmp_path: Path, quick_encoder: Any
) -> None:
    write(tmp_path / "m", 1, UP["reindex"])
    with Connector.create(name, path=tmp_path / "q", recipe="pooled", model=quick_encoder) as connector:
        Migrations(connector, tmp_path / "m").upgrade()
        connector.ingest([ZITHER])
        Migrations(connector, tmp_path / "m").downgrade("base")
        assert connector.collection.physical.endswith("__v0001")
        assert connector.recipe.name == "pooled"
        assert connector.search("zither", 1)[0].id == "new"
        connector.ingest([Document(id="other", text="Quinces are yellow.")])
        assert connector.search("yellow quinces", 1)[0].id == "other"


class Cut(BaseException):
    """Stands for the end of the process."""


def test_token_frequencies_come_along_though_the_run_was_cut_off(
    name: str, tmp_path: Path, quick_encoder: Any
) -> None:
    from connector.collection.recipe import get_recipe

    recipe = get_recipe("pooled").varied(query_reduction="idf-weight")
    write(tmp_path / "m", 1, steps('ctx.recode(codec="linear-128+int8")', 'ctx.reindex(recipe="pooled")'))
    with Connector.create(name, path=tmp_path / "q", recipe=recipe, model=quick_encoder) as connector:
        connector.ingest(Document(id=f"doc {n}", text=text) for n, text in enumerate(TEXTS[:4]))

        def cut(*_: Any) -> None:
            raise Cut

        for moment in ({"after": cut}, {"before": cut}):
            with pytest.MonkeyPatch.context() as patched:
                hooked(patched, Collection, "take_codec", **moment)  # type: ignore[arg-type]
                with pytest.raises(Cut):
                    Migrations(connector, tmp_path / "m").upgrade()
            if connector.collection.store.info(f"{name}__v0002").get("codec"):
                break
        Migrations(connector, tmp_path / "m").upgrade()
        assert connector.collection.read_metadata().frequencies == 4


def test_a_version_that_was_whole_and_not_switched_to_is_not_made_again(
    docs: Connector, migrations: Callable[..., Migrations]
) -> None:
    def cut(*_: Any) -> None:
        raise Cut

    with pytest.MonkeyPatch.context() as patched:
        hooked(patched, type(docs.collection.store), "switch", before=cut)
        with pytest.raises(Cut):
            migrations("reindex").upgrade()
    docs.ingest([ZITHER])
    migrations("reindex").upgrade()
    assert len(versions(docs.collection.store, docs.name)) == 2
    assert docs.search("zither", 1)[0].id == "new"
    whole(docs)


# What else happens to what was cut off


def cut_off(going: Migrations, home: Any, call: str) -> None:
    """Begin an upgrade, and end it after the first call of something, with nobody to clean up."""
    real = Collection.write_metadata

    def cut(*_: Any, **__: Any) -> None:
        Collection.write_metadata = lambda *_, **__: None  # type: ignore[method-assign]
        raise Cut

    try:
        with pytest.MonkeyPatch.context() as patched:
            hooked(patched, home, call, after=cut)
            with pytest.raises(Cut):
                going.upgrade()
    finally:
        Collection.write_metadata = real  # type: ignore[method-assign]


def test_stamping_over_a_change_of_metadata_lets_writers_go_on(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following_module, "_FROZEN_SECONDS", 0.1)
    cut_off(migrations("map_payload"), type(docs.collection.store), "amend")
    with pytest.raises(CollectionError, match="was cut off"):
        docs.ingest([ZITHER])
    with pytest.raises(CollectionError, match="was cut off"):
        docs.delete(["doc 0"])
    migrations("map_payload").stamp("0001")
    assert docs.ingest([ZITHER]).documents == 1
    assert docs.delete(["doc 0"]) == 1


def test_stamping_over_a_version_that_is_made_ends_its_making(
    docs: Connector, migrations: Callable[..., Migrations]
) -> None:
    cut_off(migrations("reindex"), rebuild_module, "_copy")
    made = docs.collection.read_metadata().rebuild
    migrations("reindex").stamp("base")
    before = contents(Collection(docs.collection.store, made))
    docs.ingest([ZITHER])
    assert contents(Collection(docs.collection.store, made)) == before, "nobody writes to it in vain"
    migrations("reindex").upgrade()
    assert docs.search("zither", 1)[0].id == "new"
    whole(docs)


def test_collecting_amid_a_migration_that_was_cut_off_loses_nothing(
    docs: Connector, migrations: Callable[..., Migrations]
) -> None:
    cut_off(migrations("reindex"), rebuild_module, "_copy")
    docs.ingest([ZITHER])
    assert len(collect(docs)) == 1
    docs.ingest([Document(id="other", text="Quinces are yellow.")])
    migrations("reindex").upgrade()
    assert docs.stats().documents == 6
    assert docs.search("yellow quinces", 1)[0].id == "other"
    whole(docs)


def test_what_a_killed_writer_left_behind_is_carried_by_the_run_that_passes_it_over(
    docs: Connector, migrations: Callable[..., Migrations], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed after its write and before it looked, when the versions had been compared already."""
    from connector.collection import ingest as ingest_module

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    def write_and_die(*_: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(ingest_module, "settle", lambda _, ids, *__: killed() if ids else None)
            with pytest.raises(Killed):
                docs.ingest([ZITHER])
        assert docs.ingest([ZITHER]).unchanged == 1

    hooked(monkeypatch, type(docs.collection.store), "switch", before=write_and_die)
    migrations("reindex").upgrade()
    assert docs.recipe.name == "compact"
    assert docs.search("zither", 1)[0].id == "new"
    whole(docs)


def test_a_drop_that_was_killed_leaves_nothing_for_the_next_of_its_name(
    docs: Connector,
    migrations: Callable[..., Migrations],
    monkeypatch: pytest.MonkeyPatch,
    quick_encoder: Any,
) -> None:
    store, where = docs.collection.store, docs.name

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    migrations("reindex").upgrade()
    with monkeypatch.context() as patched:
        hooked(patched, type(store), "drop", before=killed)
        with pytest.raises(Killed):
            docs.drop()
    assert versions(store, where)
    again = Collection.create(store, where, get_recipe("dense"), quick_encoder)
    assert (again.documents(), again.recipe.name) == (0, "dense")
