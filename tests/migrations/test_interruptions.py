"""Migrations over lost answers and busy servers, and cut off at every write: nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from connector import Connector, Document, Encoder
from connector.collection.collection import Collection
from connector.collection.handle import CollectionHandle
from connector.collection.recipe import RECIPES
from connector.collection.versions import transcode
from connector.core.errors import ConnectorError
from connector.core.types import Embedding
from connector.migrations import Migrations
from connector.stores import EdgeStore, Store
from connector.stores.server import retry as retry_module
from tests.conftest import TEXTS
from tests.migrations.test_runner import steps, texts, write
from tests.stores.test_retry import PASSING, Faulty, by_chance


class Remembering:
    """An encoder that encodes no text twice, so that a migration takes milliseconds."""

    def __init__(self, encoder: Encoder) -> None:
        self.wrapped = encoder
        self.known: dict[tuple[str, str, bool], Embedding] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> list[Embedding]:
        for text in texts:
            if ("document", text, attention) not in self.known:
                (made,) = self.wrapped.encode_documents([text], attention)
                self.known["document", text, attention] = made
        return [self.known["document", text, attention] for text in texts]

    def encode_queries(self, texts: Sequence[str]) -> list[Embedding]:
        for text in texts:
            if ("query", text, False) not in self.known:
                (self.known["query", text, False],) = self.wrapped.encode_queries([text])
        return [self.known["query", text, False] for text in texts]


@pytest.fixture(scope="module")
def quick_encoder(encoder: Encoder) -> Remembering:
    return Remembering(encoder)


DOCUMENTS = [
    *(Document(id=f"doc {n}", text=text, metadata={"number": n}) for n, text in enumerate(TEXTS[:6])),
    Document(id="long", title="Rye", text="Rye bread is baked of sour dough. " * 4, metadata={"number": 99}),
]
"""Of which the last one has several passages."""

QUERY = "sour bread"

BUMPED = 'ctx.map_payload(lambda m: {{**m, "number": m["number"] {} 1}})'

REVISIONS = {
    "reindex": steps('ctx.reindex(recipe="compact")', 'ctx.reindex(recipe="pooled")'),
    "recode": steps('ctx.recode(recipe="compact")', 'ctx.reindex(recipe="pooled")'),
    "add_vector": steps('ctx.add_vector("lexical", "english")', 'ctx.drop_vector("lexical")'),
    "map_payload": steps(BUMPED.format("+"), BUMPED.format("-")),
    "index": steps('ctx.create_payload_index("number", "integer")', "pass"),
    "several": steps(
        f'ctx.reindex(recipe="compact"); ctx.add_vector("lexical", "english"); {BUMPED.format("+")}',
        f'{BUMPED.format("-")}; ctx.drop_vector("lexical"); ctx.reindex(recipe="pooled")',
    ),
}


def folder_of(tmp_path: Path, kind: str) -> Path:
    write(tmp_path / "migrations", 1, REVISIONS[kind])
    return tmp_path / "migrations"


def fill(connector: Connector) -> None:
    connector.ingest(DOCUMENTS[:-1])
    connector.ingest(DOCUMENTS[-1:], chunk_tokens=12)


def contents(collection: Collection) -> dict[str, Any]:
    """Everything of each point, once, but what names the run that changed it."""
    keys = ["id", "passage", "passages", "hash", "rows", "codes", "saliency", "text", "title", "metadata"]
    vectors = [vector.name for vector in collection.schema.vectors]
    found = [*collection.store.scroll(collection.physical, [*keys, "words"], vectors)]
    assert len({it.id for it in found}) == len(found) == collection.store.count(collection.physical)
    return {
        it.id: (it.payload, {name: vector.tobytes() for name, vector in it.vectors.items()}) for it in found
    }


def ends(connector: Connector) -> dict[str, Any]:
    """What a migration leaves that a user can tell."""
    collection = Collection(connector.collection.store, connector.name)
    said = collection.read_metadata().stored()
    assert not any(said.get(key) for key in ("building", "rebuild", "frozen", "filling", "migration.pending"))
    by_words = "lexical" if collection.recipe.lexical else "dense"
    return {
        "contents": contents(collection),
        "recipe": collection.recipe.name,
        "head": said.get("migration"),
        "indexes": collection.metadata.indexes,
        "hits": connector.search(QUERY, 4),
        "by words": connector.search("a telescope", 3, candidates_by=by_words),  # type: ignore[arg-type]
    }


def searched(connector: Connector) -> None:
    """Raises unless searches find what they should, whatever stands half done."""
    assert connector.search(QUERY, 1)[0].id in ("long", "doc 2")
    assert {hit.id for hit in connector.search(QUERY, 20)} == {it.id for it in DOCUMENTS}


# A server that fails


def on_client(client: Any, encoder: Any, *, make: bool = False) -> Connector:
    if make:
        return Connector.create("docs", client=client, recipe="pooled", model=encoder)
    return Connector.open("docs", client=client, model=encoder)


def server_run(client: Any, folder: Path, encoder: Any) -> list[dict[str, Any]]:
    """What is there after an upgrade and after the way back."""
    found = []
    with on_client(client, encoder) as connector:
        migrations = Migrations(connector, folder)
        for go in (migrations.upgrade, lambda: migrations.downgrade("base")):
            go()
            found.append(ends(connector))
    return found


@pytest.fixture
def client(quick_encoder: Remembering) -> Iterator[QdrantClient]:
    """Of a server that holds the documents."""
    opened = QdrantClient(":memory:")
    with on_client(opened, quick_encoder, make=True) as connector:
        fill(connector)
    yield opened
    opened.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and more attempts than any run of bad luck."""
    monkeypatch.setattr(retry_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retry_module, "ATTEMPTS", 40)


@pytest.fixture(scope="module")
def undisturbed(quick_encoder: Remembering, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What a run without faults ends in, by kind, on a server."""
    known: dict[str, Any] = {}

    def found(kind: str) -> Any:
        if kind not in known:
            opened = QdrantClient(":memory:")
            with on_client(opened, quick_encoder, make=True) as connector:
                fill(connector)
            folder = folder_of(tmp_path_factory.mktemp(kind), kind)
            known[kind] = server_run(opened, folder, quick_encoder)
            opened.close()
        return known[kind]

    return found


SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", REVISIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_migrations_over_faults_end_as_those_without(
    client: QdrantClient,
    kind: str,
    seed: int,
    tmp_path: Path,
    quick_encoder: Remembering,
    undisturbed: Callable[[str], Any],
) -> None:
    faulty = Faulty(client, by_chance(seed))
    assert server_run(faulty, folder_of(tmp_path, kind), quick_encoder) == undisturbed(kind)
    assert faulty.faults["before"] > 3
    assert faulty.faults["after"] > 3


@pytest.mark.parametrize("kind", REVISIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_migration_that_fails_is_finished_when_the_server_is_well_again(
    client: QdrantClient,
    kind: str,
    seed: int,
    tmp_path: Path,
    quick_encoder: Remembering,
    undisturbed: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retry_module, "ATTEMPTS", 2)
    folder, failed, found = folder_of(tmp_path, kind), 0, []
    for number, direction in enumerate(("upgrade", "downgrade")):
        to = None if direction == "upgrade" else "base"
        for attempt in range(6):  # each comes a little further, or does not even begin
            chance = by_chance(100 * seed + 10 * attempt + number, rate=0.35)
            calls = [0]

            def plan(name: str, calls: list[int] = calls, chance: Any = chance) -> Any:
                calls[0] += 1
                return chance(name) if calls[0] > 10 else (None, None)

            try:
                with on_client(Faulty(client, plan), quick_encoder) as connector:
                    getattr(Migrations(connector, folder), direction)(to)
            except ConnectorError:
                failed += 1
                release(client)
            with on_client(client, quick_encoder) as connector:
                searched(connector)
        with on_client(client, quick_encoder) as connector:
            getattr(Migrations(connector, folder), direction)(to)
            found.append(ends(connector))
    assert failed > 0
    assert found == undisturbed(kind)


def release(client: QdrantClient) -> None:
    """As a minute does that passes."""
    if client.collection_exists("connector__locks"):
        client.delete_collection("connector__locks")


def test_each_kind_of_fault_is_among_them() -> None:
    assert {"time-out", "429", "500", "503"} <= PASSING.keys()


# A process that ends at a write

WRITES = (
    "upsert",
    "delete",
    "amend",
    "set_info",
    "switch",
    "create",
    "put_artifact",
    "claim_artifact",
    "create_index",
    "add_vector",
    "drop_vector",
    "finish",
)


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal:
    """A store whose process ends at its n-th write, before or after it is carried out.

    Args:
        store: what carries writes out.
        last: how many are carried out; the next one is the last that is asked for.
        after: whether that one is carried out, too.
    """

    def __init__(self, store: Store, last: float = float("inf"), after: bool = False) -> None:
        self.wrapped = store
        self.last, self.after = last, after
        self.made: list[str] = []
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.wrapped, name)
        if name not in WRITES:
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.dead:  # who cleans up when an exception passes by is not there when a process ends
                raise Killed
            if len(self.made) == self.last:
                self.dead = True
                if self.after:
                    attribute(*args, **kwargs)
                raise Killed
            self.made.append(name)
            return attribute(*args, **kwargs)

        return call


class Home:
    """A collection in a folder, opened again by each process."""

    def __init__(self, path: Path, encoder: Any, migrations: Path) -> None:
        self.path, self.encoder, self.migrations = path, encoder, migrations

    def __call__(self, last: float = float("inf"), after: bool = False) -> tuple[Connector, Mortal]:
        mortal = Mortal(EdgeStore(self.path), last, after)
        return Connector(CollectionHandle(Collection(mortal, "docs"), self.encoder, None)), mortal  # type: ignore[arg-type]

    def go(self, direction: str, last: float = float("inf"), after: bool = False) -> Mortal:
        connector, mortal = self(last, after)
        migrations = Migrations(connector, self.migrations)
        with connector:
            if direction == "upgrade":
                migrations.upgrade()
            else:
                migrations.downgrade("base")
        return mortal


def home_of(tmp_path: Path, kind: str, encoder: Any) -> Home:
    with Connector.create("docs", path=tmp_path / "qdrant", recipe="pooled", model=encoder) as connector:
        fill(connector)
    return Home(tmp_path / "qdrant", encoder, folder_of(tmp_path, kind))


@pytest.fixture(scope="module")
def whole(
    quick_encoder: Remembering, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, tuple[list[str], dict[str, Any]]]]:
    """By kind and direction, the writes of a run that is left alone, and what it ends in."""
    known: dict[str, dict[str, tuple[list[str], dict[str, Any]]]] = {}

    def found(kind: str) -> dict[str, tuple[list[str], dict[str, Any]]]:
        if kind not in known:
            home = home_of(tmp_path_factory.mktemp(kind), kind, quick_encoder)
            known[kind] = {}
            for direction in ("upgrade", "downgrade"):
                writes = home.go(direction).made
                connector, _ = home()
                with connector:
                    known[kind][direction] = writes, ends(connector)
        return known[kind]

    return found


MOST = {"reindex": 14, "recode": 14, "add_vector": 16, "map_payload": 7, "index": 6, "several": 32}
"""Writes of an upgrade or a downgrade, at most; a moment that does not come is skipped."""

OFTEN = {"reindex": 3, "recode": 9, "add_vector": 9, "map_payload": 3, "index": 5, "several": 13}
"""Of how many moments one is tried by default."""

MOMENTS = [
    pytest.param(
        kind,
        direction,
        last,
        after,
        id=f"{kind}-{direction}-{last}-{'after' if after else 'before'}",
        marks=[] if (2 * last + after + (direction == "upgrade")) % OFTEN[kind] == 0 else pytest.mark.slow,
    )
    for kind, most in MOST.items()
    for direction in ("upgrade", "downgrade")
    for last in range(most)
    for after in (False, True)
]


@pytest.mark.parametrize(("kind", "direction", "last", "after"), MOMENTS)
def test_a_migration_that_ends_at_any_write_is_finished_by_the_next_run(
    kind: str,
    direction: str,
    last: int,
    after: bool,
    tmp_path: Path,
    quick_encoder: Remembering,
    whole: Callable[[str], Any],
) -> None:
    writes, expected = whole(kind)[direction]
    assert len(writes) <= MOST[kind], "raise MOST, so that every moment is tried"
    if last >= len(writes):
        pytest.skip(f"there are {len(writes)} writes")
    home = home_of(tmp_path, kind, quick_encoder)
    if direction == "downgrade":
        home.go("upgrade")
    with pytest.raises(Killed):
        home.go(direction, last, after)
    connector, _ = home()
    with connector:
        searched(connector)
    home.go(direction)
    connector, _ = home()
    with connector:
        assert ends(connector) == expected
        searched(connector)
    assert home.go(direction).made == [], "nothing is left to do"


# From every recipe to every other one

QUESTIONS = {
    "rye bread that is baked": "long",
    "moons of a planet": "doc 3",
    "machine code of a program": "doc 1",
    "rows of a table": "doc 4",
}

PAIRS = [
    pytest.param(
        old,
        new,
        id=f"{old}-{new}",
        marks=[] if (old, new) in {("dense", "aligner"), ("aligner", "pooled")} else pytest.mark.slow,
    )
    for old in RECIPES
    for new in RECIPES
    if old != new
]


def moved(tmp_path: Path, old: str, step: str, back: str, encoder: Any) -> dict[str, dict[str, Any]]:
    """What is there before a step, after it, and after the way back."""
    write(tmp_path / "m", 1, steps(step, back))
    found = {}
    with Connector.create("docs", path=tmp_path / "q", recipe=old, model=encoder) as connector:
        fill(connector)
        migrations = Migrations(connector, tmp_path / "m", min_overlap=0.3)
        for moment in ("before", "after", "back"):
            if moment != "before":
                getattr(migrations, "upgrade" if moment == "after" else "downgrade")(
                    "0001" if moment == "after" else "base"
                )
            stats = connector.stats()
            found[moment] = {
                "recipe": connector.recipe.name,
                "counts": (stats.documents, stats.passages),
                "texts": texts(connector.collection),
                "best": {query: connector.search(query, 1)[0].id for query in QUESTIONS},
            }
    return found


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_every_recipe_becomes_every_other_one(
    tmp_path: Path, old: str, new: str, quick_encoder: Remembering
) -> None:
    up, down = (f"ctx.reindex(recipe={recipe!r})" for recipe in (new, old))
    found = moved(tmp_path, old, up, down, quick_encoder)
    assert [it["recipe"] for it in found.values()] == [old, new, old]
    for key in ("counts", "texts"):
        assert found["before"][key] == found["after"][key] == found["back"][key]
    assert found["before"]["counts"][0] == len(DOCUMENTS) < found["before"]["counts"][1]
    assert all(it["best"] == QUESTIONS for it in found.values())


RECODED = [
    (old, new)
    for old in RECIPES
    for new in RECIPES
    if old != new and transcode.why_not(RECIPES[old], RECIPES[new]) is None
]


@pytest.mark.parametrize(("old", "new"), RECODED, ids=str)
def test_recipes_that_can_are_made_of_what_is_stored(
    tmp_path: Path, old: str, new: str, quick_encoder: Remembering
) -> None:
    step, back = f"ctx.recode(recipe={new!r})", f"ctx.reindex(recipe={old!r})"
    found = moved(tmp_path, old, step, back, quick_encoder)
    assert [it["recipe"] for it in found.values()] == [old, new, old]
    assert found["before"]["texts"] == found["after"]["texts"] == found["back"]["texts"]
    assert all(it["best"] == QUESTIONS for it in found.values())


def test_some_recipes_can_be_made_of_what_is_stored() -> None:
    assert ("pooled", "compact") in RECODED
    assert ("colbert", "pooled") not in RECODED
