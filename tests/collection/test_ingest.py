"""A run that is killed and run again ends where a run that was left alone does."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from connector import Connector, Document, Encoder, IngestReport, Recipe
from connector.collection.collection import Collection
from connector.collection.pipeline import WINDOW
from connector.collection.recipe import load_recipe
from connector.core.errors import CollectionExists
from connector.migrations import Migrations
from connector.stores import open_store
from connector.stores.edge.store import EdgeStore

COUNT = 700
STEMS = ("otter", "river", "compiler", "bread", "moon", "table", "violin", "flower", "lake", "engine")
WORDS = [stem + end for stem in STEMS for end in ("", "s", "less", " of", " under", " forgets")]

NURSERY = """
import importlib, json, os, sys, traceback
from connector import load_encoder
WORK = importlib.import_module(sys.argv[1]).WORK
encoder = load_encoder()
encoder.fingerprint
for line in sys.stdin:
    what, *arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            print("started", os.getpid(), flush=True)
            WORK[what](encoder, *arguments)
            print("finished", flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""

Line = tuple[float, str]
"""Seconds after the start, and what was printed then."""

Moment = tuple[int, float]
"""How many lines are printed before, and how many seconds after the last one of them."""


class Nursery:
    """Runs work in processes that can be killed; library and model are loaded once for all of them.

    Args:
        module: whose `WORK` it is.
    """

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )

    def run(self, *work: str, kill: Moment | None = None) -> list[Line]:
        """What a process prints that does this work, until it is killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        word, child = self._line().split()
        assert word == "started"
        printed, started = list[Line](), time.monotonic()
        while True:
            if kill is not None and len(printed) == kill[0]:
                time.sleep(kill[1])
                with contextlib.suppress(ProcessLookupError):  # it has finished
                    os.kill(int(child), signal.SIGKILL)
                kill = None
            line = self._line()
            if line == "ended":
                return printed
            printed.append((time.monotonic() - started, line))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that starts the others has ended"
        return line.rstrip("\n")

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(__name__)
    yield nursery
    nursery.close()


def some(count: int, of: int) -> list[Any]:
    """So many seeds in the default run, the others in the slow one."""
    return [*range(count), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(count, of))]


# Ingest


def documents() -> list[Document]:
    chance = random.Random(0)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(4, 16))) for _ in range(COUNT)]
    return [Document(id=f"doc {n}", text=text, metadata={"n": n}) for n, text in enumerate(texts)]


WAITS = Recipe(
    name="waits", summary="", layout="codes", reduction="ward-6", codec="pq-8", query_weights="idf"
)
"""Whose codec wants more than there is."""


def create_and_ingest(
    path: str,
    encoder: Encoder,
    progress: Callable[[IngestReport], None] | None = None,
    recipe: str | Recipe = "compact",
) -> IngestReport:
    """Make the collection unless it is there, and ingest all documents."""
    try:
        connector = Connector.create("c", path=path, recipe=recipe, model=encoder)
    except CollectionExists:
        connector = Connector.open("c", path=path, model=encoder)
    with connector:
        return connector.ingest(documents(), progress=progress)


def contents(path: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Payload and CLS vector of every point."""
    store = open_store(path=path)
    keys = ["id", "passage", "text", "metadata", "hash", "passages", "rows", "codes", "title"]
    found = {
        record.id: (record.payload, record.vectors["cls"].tobytes())
        for record in store.scroll("c", keys, ["cls"])
    }
    store.close()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("undisturbed")
    create_and_ingest(str(path), encoder)
    return contents(path)


@pytest.mark.parametrize("seed", some(2, 30))
def test_a_killed_run_is_finished_exactly_by_the_next(
    tmp_path: Path, seed: int, encoder: Encoder, undisturbed: dict[str, Any], nursery: Nursery
) -> None:
    """Of the three windows, the last one is never waited for, so that the kill comes in time."""
    delay = random.Random(seed).uniform(0, 0.5)
    printed = [line for _, line in nursery.run("ingest", str(tmp_path), kill=(seed % 3, delay))]
    acknowledged = max((int(line) for line in printed if line.isdigit()), default=0)
    found = contents(tmp_path) if acknowledged else {}
    assert len(found) >= acknowledged
    if seed == 0:
        assert len(found) < COUNT, "the kill came too late to test anything"
    assert found.items() <= undisturbed.items()
    report = create_and_ingest(str(tmp_path), encoder)
    assert report.unchanged >= acknowledged
    assert report.unchanged + report.documents == COUNT
    assert contents(tmp_path) == undisturbed


def test_the_undisturbed_run_is_complete(undisturbed: dict[str, Any]) -> None:
    payloads = [payload for payload, _ in undisturbed.values()]
    assert sorted(payload["metadata"]["n"] for payload in payloads) == list(range(COUNT))
    assert all(payload["codes"] and payload["hash"] for payload in payloads)
    assert COUNT > 2 * WINDOW


@pytest.mark.parametrize("recipe", ["dense", "floats", "compact", "colbert"])
def test_what_has_nothing_to_wait_for_is_there_after_its_first_window(
    tmp_path: Path, recipe: str, nursery: Nursery
) -> None:
    printed = [line for _, line in nursery.run("ingest", str(tmp_path), recipe, kill=(1, 0.0))]
    assert printed[0] == str(WINDOW)
    assert len(contents(tmp_path)) >= WINDOW


class Counting:
    """An encoder that says what it was given."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.encoded: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: list[str], attention: bool = False) -> Any:
        self.encoded += texts
        return self._encoder.encode_documents(texts, attention)


@pytest.mark.parametrize("damaged", [False, True])
def test_what_waits_for_its_codec_is_not_encoded_again_after_a_kill(
    tmp_path: Path, damaged: bool, encoder: Encoder, nursery: Nursery
) -> None:
    path, other = tmp_path / "killed", tmp_path / "undisturbed"
    nursery.run("ingest", str(path), WAITS.model_dump_json(), kill=(2, 0.0))
    with Connector.open("c", path=path, model=encoder) as connector:
        assert connector.count() == 0
        connector.export(tmp_path / "exported")
    assert "waiting" not in (tmp_path / "exported" / "manifest.json").read_text()
    kept = sorted(path.glob("**/waiting-*"))
    assert len(kept) == 2
    if damaged:
        kept[0].write_bytes(kept[0].read_bytes()[:-1])
    counting: Any = Counting(encoder)
    report = create_and_ingest(str(path), counting, recipe=WAITS)
    texts = [document.text for document in documents()]
    assert counting.encoded == (texts[:WINDOW] if damaged else []) + texts[2 * WINDOW :]
    undisturbed = create_and_ingest(str(other), encoder, recipe=WAITS)
    assert dataclasses.replace(report, seconds=0) == dataclasses.replace(undisturbed, seconds=0)
    assert contents(path) == contents(other)
    assert not [*path.glob("**/waiting-*")]
    found, wanted = (Collection(store, "c") for store in (open_store(path=path), open_store(path=other)))
    assert found.metadata.waiting is None
    assert found.frequencies.stored().save() == wanted.frequencies.stored().save()
    for collection in (found, wanted):
        collection.store.close()


# Migrations

MIGRATED = 150
LONG = Document(id="long", text="Rye bread is baked of sour dough. " * 9, metadata={"n": -1})

REVISIONS = {
    "rebuild": ('ctx.reindex(recipe="compact")', 'ctx.reindex(recipe="pooled")'),
    "in place": (
        'ctx.add_vector("lexical", "english")\n    ctx.map_payload(lambda m: {**m, "n": m["n"] + 1000})\n'
        '    ctx.create_payload_index("n", "integer")',
        'ctx.map_payload(lambda m: {**m, "n": m["n"] - 1000})\n    ctx.drop_vector("lexical")',
    ),
}

CALLS = "create drop switch set_info put_artifact upsert delete amend create_index finish"


def migrate(encoder: Encoder, path: str, folder: str, direction: str) -> None:
    """Says what it asks the store to do before it does it."""
    for name in CALLS.split():
        setattr(EdgeStore, name, said_before(name, getattr(EdgeStore, name)))
    migrated(encoder, path, folder, direction)


def said_before(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def said(*arguments: Any, **named: Any) -> Any:
        print(name, flush=True)
        return call(*arguments, **named)

    return said


def migrated(encoder: Encoder, path: str | Path, folder: str | Path, direction: str) -> None:
    with Connector.open("c", path=path, model=encoder) as connector:
        migrations = Migrations(connector, folder)
        if direction == "upgrade":
            migrations.upgrade()
        else:
            migrations.downgrade("base")


WORK: dict[str, Callable[..., Any]] = {
    "ingest": lambda encoder, path, recipe="compact": create_and_ingest(
        path,
        encoder,
        lambda report: print(report.documents, flush=True),
        load_recipe(recipe) if recipe.startswith("{") else recipe,
    ),
    "migrate": migrate,
}
"""What the nursery is asked for by these names."""


def state(path: Path) -> dict[str, Any]:
    """Everything in a folder but what is drawn, what the clock says, and what an old version announced."""
    store = open_store(path=path)
    found: dict[str, Any] = {"aliases": store.aliases()}
    for physical in store.names():
        left_out = {"uid", "rebuild"} if physical not in found["aliases"].values() else {"uid"}
        said = {key: it for key, it in store.info(physical).items() if it and key not in left_out}
        said = {key: re.sub(r'"time":"[^"]*"', "", it) for key, it in said.items()}
        found[physical] = said, points(Collection(store, physical))
    store.close()
    return found


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Vectors but for rounding, which depends on what texts are encoded together, and turns a few signs."""
    assert found["aliases"] == wanted["aliases"]
    assert found.keys() == wanted.keys()
    for physical in wanted.keys() - {"aliases"}:
        (said, points), (wanted_said, wanted_points) = found[physical], wanted[physical]
        assert said == wanted_said
        assert points.keys() == wanted_points.keys()
        turned = []
        for id_, (payload, vectors) in points.items():
            wanted_payload, wanted_vectors = wanted_points[id_]
            codes, wanted_codes = payload.pop("codes", ""), wanted_payload.get("codes", "")
            assert payload == {key: it for key, it in wanted_payload.items() if key != "codes"}
            assert len(codes) == len(wanted_codes)
            turned.append(np.mean(np.unpackbits(bits(codes) ^ bits(wanted_codes))) if codes else 0.0)
            assert vectors.keys() == wanted_vectors.keys()
            for name, vector in vectors.items():
                np.testing.assert_allclose(vector, wanted_vectors[name], atol=1e-3)
        assert np.mean(turned) < 0.001
        assert max(turned) < 0.02


def bits(codes: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(codes), np.uint8)


def points(collection: Collection) -> dict[str, Any]:
    vectors = [vector.name for vector in collection.schema.vectors]
    keys = ["id", "passage", "passages", "hash", "title", "text", "metadata", "revised", "words"]
    return {
        record.id: (record.payload, record.vectors)
        for record in collection.store.scroll(collection.physical, [*keys, "rows", "codes"], vectors)
    }


def texts(path: Path) -> dict[str, Any]:
    """What a reader can tell of each document, with the metadata as before the migration."""
    store = open_store(path=path)
    found = {}
    for record in store.scroll("c", ["id", "passage", "passages", "hash", "text", "metadata"]):
        number = record.payload["metadata"]["n"]
        found[record.id] = {**record.payload, "metadata": number - 1000 if number > 900 else number}
    store.close()
    return found


class Case:
    """A migration in one direction: where it starts, what it says on its way, and where it ends."""

    def __init__(self, nursery: Nursery, direction: str, before: Path, folder: Path, home: Path) -> None:
        self.before, self.folder, self.direction = before, folder, direction
        self.after = Path(shutil.copytree(before, home / f"after {direction}"))
        self.said = nursery.run("migrate", str(self.after), str(folder), direction)
        assert self.said[-1][1] == "finished"
        self.texts, self.state = texts(before), state(self.after)
        assert texts(self.after) == self.texts

    def moment(self, seed: int) -> Moment:
        """Any moment, or a moment after any one of the lines."""
        chance = random.Random(seed)
        if seed % 2:
            return 0, chance.uniform(0, self.said[-1][0])
        lines = chance.randrange(len(self.said))
        times = [0.0, *(seconds for seconds, _ in self.said)]
        return lines, chance.uniform(0, times[lines + 1] - times[lines])


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, encoder: Encoder
) -> Callable[[str, str], Case]:
    base = tmp_path_factory.mktemp("base")
    with Connector.create("c", path=base / "q", recipe="pooled", model=encoder) as connector:
        connector.ingest(documents()[:MIGRATED])
        connector.ingest([LONG], chunk_tokens=20)

    @functools.cache
    def case(what: str, direction: str) -> Case:
        home = base / what
        if direction == "downgrade":
            upgraded = case(what, "upgrade")
            return Case(nursery, direction, upgraded.after, upgraded.folder, home)
        (home / "migrations").mkdir(parents=True)
        up, down = REVISIONS[what]
        head = 'revision = "0001"\ndown_revision = None\n'
        body = f"{head}def upgrade(ctx):\n    {up}\ndef downgrade(ctx):\n    {down}\n"
        (home / "migrations" / "0001_it.py").write_text(body)
        return Case(nursery, direction, base / "q", home / "migrations", home)

    return case


@pytest.mark.parametrize("seed", some(1, 30))
@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
@pytest.mark.parametrize("what", REVISIONS)
def test_a_killed_migration_loses_nothing_and_is_finished_by_the_next(
    tmp_path: Path,
    what: str,
    direction: str,
    seed: int,
    encoder: Encoder,
    nursery: Nursery,
    cases: Callable[[str, str], Case],
) -> None:
    case = cases(what, direction)
    path, killed = Path(shutil.copytree(case.before, tmp_path / "q")), 0
    for again in range(2 if seed % 5 == 4 else 1):  # some are killed when they are finished, too
        moment = case.moment(seed + 100 * again)
        printed = nursery.run("migrate", str(path), str(case.folder), direction, kill=moment)
        killed += not any(line == "finished" for _, line in printed)
        if seed == 0:
            assert killed, "the kill came too late to test anything"
        assert texts(path) == case.texts
        with Connector.open("c", path=path, model=encoder) as connector:
            for document in documents()[:MIGRATED:50]:
                assert connector.search(document.text, 3)[0].id == document.id
            assert connector.search(LONG.text[:34], 3)[0].id == "long"
    migrated(encoder, path, case.folder, direction)
    assert_same(state(path), case.state)
    if what == "in place" and direction == "upgrade":
        with Connector.open("c", path=path, model=encoder) as connector:
            assert connector.search("sour", 1, candidates_by="lexical")[0].id == "long"


def test_an_index_comes_to_the_version_from_before_though_the_way_back_was_cut_off(
    tmp_path: Path, encoder: Encoder, cases: Callable[[str, str], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is marked as the one that is being made."""
    case = cases("rebuild", "downgrade")
    path, say = Path(shutil.copytree(case.before, tmp_path / "q")), Collection.write_metadata
    with Connector.open("c", path=path, model=encoder) as connector:
        connector.collection.store.create_index("c", "metadata.n", "integer")
        connector.collection.write_metadata(indexes={"metadata.n": "integer"})

    def cut(collection: Collection, **more: str) -> None:
        say(collection, **more)
        if more.get("building"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "write_metadata", cut)
        with pytest.raises(KeyboardInterrupt):
            migrated(encoder, path, case.folder, "downgrade")
    migrated(encoder, path, case.folder, "downgrade")
    with Connector.open("c", path=path, model=encoder) as connector:
        assert connector.collection.physical == "c__v0001"
        assert connector.collection.metadata.indexes == {"metadata.n": "integer"}
