"""Long trials: commands killed at any moment, a server that is told to end, damaged files, memory."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector import Connector, Encoder
from connector.cli import main
from connector.cli import render as render_module
from connector.cli.commands import migrate as migrate_module
from connector.cli.commands import transfer as transfer_module
from connector.collection.backup.manifest import check_file, read_manifest
from connector.core.errors import CollectionNotFound, ConnectorError
from tests.collection.test_ingest import (
    LONG,
    MIGRATED,
    REVISIONS,
    Line,
    Moment,
    Nursery,
    assert_same,
    documents,
    state,
    texts,
)

SECONDS = 60
"""For which a process may look before it hangs."""

QUERIES = [document.text for document in documents()[:400:10]]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(__name__)
    yield nursery
    nursery.close()


# Commands that are killed


def command(_: Encoder, home: str, *words: str) -> None:
    """A command in a folder, which prints what its progress bar shows."""
    os.chdir(home)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115  (what the nursery reads is no command's)

    @contextlib.contextmanager
    def told() -> Iterator[Callable[..., None]]:
        yield functools.partial(print, sep="\t", flush=True)

    for module in (render_module, migrate_module, transfer_module):
        module.steps_bar = told
    main(words, standalone_mode=False)


PLACE = ("--collection", "c", "--path", "q")

COMMANDS = {
    "ingest": ("ingest", "documents.jsonl", *PLACE, "--recipe", "compact", "--chunk-tokens", "12"),
    "upgrade": ("migrate", "upgrade", *PLACE, "--migrations", "m"),
    "downgrade": ("migrate", "downgrade", "base", *PLACE, "--migrations", "m"),
    "export": ("export", "out", *PLACE),
    "import": ("import", "out", "--path", "q"),
}
"""Each is run in a folder of its own, in which everything is."""


class Killed:
    """A command: a folder in which to begin, what it prints when it is left alone, and what it ends in.

    Args:
        nursery: runs it.
        name: of the command.
        before: the folder in which it begins.
        home: where it is run.
    """

    def __init__(self, nursery: Nursery, name: str, before: Path, home: Path) -> None:
        self.nursery, self.name, self.before = nursery, name, before
        self.after = copied(before, home / f"after {name}")
        self.said = self.run(self.after)
        assert self.said[-1][1] == "finished"
        self.ends = self.left(self.after)

    def run(self, home: Path, kill: Moment | None = None) -> list[Line]:
        return self.nursery.run("command", str(home), *COMMANDS[self.name], kill=kill)

    def moment(self, seed: int) -> Moment:
        """Any moment while there is progress, or any moment after any one of the lines."""
        chance = random.Random(seed)
        last = max(number for number, (_, line) in enumerate(self.said) if "\t" in line)
        times = [0.0, *(seconds for seconds, _ in self.said[: last + 1])]
        if seed % 2:
            return 0, chance.uniform(0, times[-1])
        lines = seed // 2 % (last + 1)
        return lines, chance.uniform(0, times[lines + 1] - times[lines])

    def left(self, home: Path) -> Any:
        return read_manifest(home / "out").sha256 if self.name == "export" else state(home / "q")

    def check(self, home: Path, printed: list[str]) -> None:
        """Raises unless everything is there that a person was told of."""
        if self.name in ("upgrade", "downgrade", "export"):
            assert texts(home / "q") == texts(self.before / "q")
        if self.name == "export" and (home / "out").exists():
            for file in read_manifest(home / "out").files:
                check_file(home / "out", file)
        if self.name == "ingest":
            done = [int(line.split("\t")[1]) for line in printed if line.startswith("Ingesting")]
            acknowledged = documents()[: max(done, default=0)]
            with Connector.open("c", path=home / "q") if acknowledged else contextlib.nullcontext() as there:
                assert there is None or len(there.get([it.id for it in acknowledged])) == len(acknowledged)
        if self.name == "import":
            with contextlib.suppress(CollectionNotFound):
                assert texts(home / "q") == texts(self.after / "q")


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, encoder: Encoder
) -> Callable[[str], Killed]:
    base = tmp_path_factory.mktemp("killed")
    for name in ("new", "old", "exported"):
        (base / name / "m").mkdir(parents=True)
    lines = (json.dumps({"id": it.id, "text": it.text, "n": it.metadata["n"]}) for it in documents())
    (base / "new" / "documents.jsonl").write_text("\n".join(lines))
    with Connector.create("c", path=base / "old" / "q", recipe="pooled", model=encoder) as connector:
        connector.ingest(documents()[:MIGRATED])
        connector.ingest([LONG], chunk_tokens=20)
    for number, (up, down) in enumerate(REVISIONS.values(), 1):
        head = f'revision = "{number}"\ndown_revision = {repr(str(number - 1)) if number > 1 else None}\n'
        body = f"{head}def upgrade(ctx):\n    {up}\ndef downgrade(ctx):\n    {down}\n"
        (base / "old" / "m" / f"{number:04d}_it.py").write_text(body)

    @functools.cache
    def of(name: str) -> Killed:
        if name == "ingest":
            return Killed(nursery, name, base / "new", base)
        if name == "downgrade":
            return Killed(nursery, name, of("upgrade").after, base)
        if name == "import":
            shutil.copytree(of("export").after / "out", base / "exported" / "out", dirs_exist_ok=True)
            return Killed(nursery, name, base / "exported", base)
        return Killed(nursery, name, base / "old", base)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_loses_nothing_and_is_finished_by_the_next(
    name: str, seed: int, tmp_path: Path, killed: Callable[[str], Killed]
) -> None:
    of = killed(name)
    home = copied(of.before, tmp_path / "home")
    printed = [line for _, line in of.run(home, kill=of.moment(seed))]
    if seed == 0:
        assert printed[-1:] != ["finished"], "the kill came too late to test anything"
    of.check(home, printed)
    assert of.run(home)[-1][1] == "finished"
    if name == "export":
        assert of.left(home) == of.ends
        assert {it.name for it in home.iterdir()} == {"m", "q", "out"}
    else:
        assert_same(of.left(home), of.ends)


# A server that is told to end


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_server_that_is_told_to_end_has_written_what_it_acknowledged(
    seed: int, tmp_path: Path, encoder: Encoder
) -> None:
    words = ["serve", "--collection", "c", "--path", str(tmp_path), "--recipe", "default", "--port", "0"]
    acknowledged: list[str] = []

    def write(url: str, client: int) -> None:
        for number in range(350):
            them = documents()[number::350]
            body = [{"id": f"{client} {number} {it.id}", "text": it.text} for it in them]
            try:
                answer = httpx.post(f"{url}documents", json={"documents": body}, timeout=60)
            except httpx.HTTPError:  # it has ended
                return
            if answer.status_code == 200:
                assert answer.json()["documents"] == len(body)
                acknowledged.extend(it["id"] for it in body)

    process = subprocess.Popen(
        [sys.executable, "-m", "connector.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("c: ")
    url = process.stdout.readline().split()[-1]
    clients = [threading.Thread(target=write, args=(url, client)) for client in range(4)]
    for client in clients:
        client.start()
    while not acknowledged:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 2))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS)
    for client in clients:
        client.join(SECONDS)
    assert (process.returncode, err) == (0, "")
    with Connector.open("c", path=tmp_path, model=encoder) as connector:
        assert {it.id for it in connector.get(acknowledged)} == set(acknowledged)
        assert connector.search("an otter", 3)


# Damage


def answers(connector: Connector) -> list[Any]:
    """What a user is told; scores and further hits move a little when the engine counts words again."""
    best = [hits[0].id if hits else None for hits in map(connector.search, QUERIES)]
    return [best, {document.id: document.text for document in connector.get([it.id for it in documents()])}]


def look(encoder: Encoder, path: str) -> None:
    """Say what is found in a folder, and that it can be written; or the error."""
    signal.alarm(SECONDS)  # which ends the process whatever it waits for
    try:
        with Connector.open("c", path=path, model=encoder) as connector:
            print(json.dumps(answers(connector)), flush=True)
            connector.ingest(documents()[:5])
    except ConnectorError as error:
        print(f"{type(error).__name__}: {error}", flush=True)


WORK: dict[str, Callable[..., Any]] = {"look": look, "command": command}

DAMAGES: dict[str, Callable[[Path], Any]] = {
    "removed": Path.unlink,
    "emptied": lambda file: file.write_bytes(b""),
    "halved": lambda file: os.truncate(file, file.stat().st_size // 2),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, nursery: Nursery) -> tuple[Path, Any]:
    """A folder with a collection that was written several times, and what it answers when it is opened."""
    path = tmp_path_factory.mktemp("whole") / "q"
    with Connector.create("c", path=path, model=encoder) as connector:
        for begin in range(0, 400, 100):
            connector.ingest(documents()[begin : begin + 100])
        connector.delete(["doc 1", "doc 101"])
        connector.collection.store.create_index("c", "metadata.n", "integer")
    looked_at = copied(path, path.with_name("looked at"))
    return path, json.loads(nursery.run("look", str(looked_at))[0][1])


def copied(path: Path, to: Path) -> Path:
    subprocess.run(["cp", "-r", "--sparse=always", path, to], check=True)
    return to


def files(path: Path) -> list[Path]:
    """All files of a folder of collections, in an order that does not hang on names drawn at random."""
    found = [it.relative_to(path) for it in path.rglob("*") if it.is_file()]
    return sorted(found, key=lambda it: re.sub(r"[0-9a-f]{8}(-[0-9a-f-]{27})?", "", str(it)))


MOST = 60
"""Files; each is damaged in every way."""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(MOST))
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named_or_does_no_harm(
    number: int, how: str, tmp_path: Path, whole: tuple[Path, Any], nursery: Nursery
) -> None:
    path, expected = whole
    there = files(path)
    assert len(there) <= MOST, "raise MOST, so that every file is damaged"
    if number >= len(there):
        pytest.skip(f"there are {len(there)} files")
    file = there[number]
    DAMAGES[how](copied(path, tmp_path / "q") / file)
    printed = [line for _, line in nursery.run("look", str(tmp_path / "q"))]
    shutil.rmtree(tmp_path / "q")
    assert printed[-1:] == ["finished"], f"{file} {how}: the process has ended otherwise: {printed}"
    if not re.match(r"\w*(Error|NotFound|Locked): ", printed[-2]):
        assert json.loads(printed[0]) == expected, f"{file} {how}: other answers"


# Memory

OFTEN = """
import sys
from pathlib import Path
from connector import Connector, Reranker
for number in range(200):
    how = (Connector.open, Connector.open_or_create)[number % 2]
    with how("c", path=sys.argv[1]) as connector:
        hits = connector.search("an otter of the river")
        connector.ingest([])
    if number % 5 == 0:
        Reranker().rank("an otter", [hit.text for hit in hits])
    print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell it")
def test_what_is_opened_and_closed_often_takes_no_more(whole: tuple[Path, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-c", OFTEN, str(copied(whole[0], tmp_path / "q"))]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = [int(line) for line in run.stdout.split()]
    print([round(it / 1e6) for it in taken[::10]])
    assert len(taken) == 200
    assert max(taken[10:]) - taken[9] < 100e6
