"""Every command that talks to a server, on one in strict mode, as a managed cluster has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from qdrant_client import QdrantClient, models

from connector.cli import main
from connector.stores.server.store import ServerStore
from tests.conftest import TEXTS
from tests.server.doubles import double

Run = Callable[..., Any]

URL = "http://strict.example:6333"

EVEN = json.dumps({"must": [{"key": "even", "match": {"value": True}}]})

REVISIONS = {
    "0001_tiny.py": 'ctx.reindex(recipe="tiny")',
    "0002_year.py": 'ctx.map_payload(lambda it: {**it, "year": 2000 + it["number"]})',
    "0003_index.py": 'ctx.create_payload_index("year", "integer")',
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> QdrantClient:
    """Of the server at `URL`."""
    there = double(strict=True)
    monkeypatch.setattr("connector.stores.connect", lambda url, _key, **_: ServerStore(there, url))
    return there


@pytest.fixture
def run(client: QdrantClient) -> Run:  # noqa: ARG001
    """Run a command on it, which must succeed; gives its JSON, if it prints some."""

    def run(*arguments: str) -> Any:
        command = [*arguments, "--url", URL]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, (command, done.output)
        return json.loads(done.stdout) if "--json" in command else done.output

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "docs.jsonl"
    records = [
        {"id": f"doc {number}", "text": text, "number": number, "even": number % 2 == 0}
        for number, text in enumerate(TEXTS)
    ]
    file.write_text("".join(json.dumps(it) + "\n" for it in records))
    return file


def test_every_command_works_on_a_strict_server(run: Run, source: Path, tmp_path: Path) -> None:
    docs = ("--collection", "docs")
    ingested = run("ingest", str(source), *docs, "--index", "even:bool", "--json")
    assert ingested["documents"] == 12
    assert len(run("search", "bread", *docs, "--filter", EVEN, "--json")["hits"]) == 6
    assert run("stats", *docs, "--json")["documents"] == 12
    assert "bread" in run("explain", "how does bread rise", "--id", "doc 2", *docs)
    run("recount", *docs)
    examples = tmp_path / "examples.jsonl"
    examples.write_text(
        "".join(json.dumps({"query": it, "id": f"doc {n}"}) + "\n" for n, it in enumerate(TEXTS))
    )
    run("adapt", *docs, "--examples", str(examples), "--save")
    assert run("index", "add", "number:integer", *docs, "--json")["indexes"] == {
        "even": "bool",
        "number": "integer",
    }
    run("index", "drop", "number", *docs)
    assert "even: bool" in run("index", "list", *docs)
    assert run("delete", *docs, "--filter", EVEN, "--yes", "--json")["deleted"] == 6
    assert run("ingest", str(source), *docs, "--json")["documents"] == 6
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:10]))
    assert run("ingest", str(source), *docs, "--delete-missing", "--json")["deleted_missing"] == 2
    run("delete", *docs, "--id", "doc 1")

    folder = tmp_path / "revisions"
    folder.mkdir()
    for number, (file, step) in enumerate(REVISIONS.items()):
        parent = repr(f"{number:04}") if number else None
        (folder / file).write_text(
            f'revision = "{number + 1:04}"\ndown_revision = {parent}\n\n\n'
            f"def upgrade(ctx):\n    {step}\n\n\ndef downgrade(ctx):\n"
            + ('    ctx.reindex(recipe="default")\n' if number == 0 else "    pass\n")
        )
    at = (*docs, "--migrations", str(folder))
    run("migrate", "status", *at)
    run("migrate", "plan", *at)
    run("migrate", "upgrade", *at, "--min-overlap", "0")
    year = json.dumps({"must": [{"key": "year", "range": {"gte": 2005}}]})
    assert run("search", "bread", *docs, "--filter", year, "--json")["hits"]
    run("migrate", "verify", *docs)
    run("migrate", "downgrade", *at, "0001")
    run("migrate", "stamp", "0001", *at)
    run("migrate", "gc", *docs, "--yes")

    run("export", str(tmp_path / "export"), *docs)
    run("import", str(tmp_path / "export"), "--as", "copy")
    assert run("stats", "--collection", "copy", "--json")["documents"] == 9
    run("drop", "--collection", "copy", "--yes")


def test_attaching_works_on_a_strict_server(run: Run, client: QdrantClient) -> None:
    client.create_collection(
        "theirs", {"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)}
    )
    client.upsert(
        "theirs",
        [
            models.PointStruct(id=n, vector={"dense": list(np.ones(4))}, payload={"text": text, "n": n})
            for n, text in enumerate(TEXTS)
        ],
    )
    run("attach", "--collection", "theirs", "--plan")
    run("attach", "--collection", "theirs")
    assert run("search", "bread", "--collection", "theirs", "--json")["hits"][0]["id"] == "2"
    assert run("stats", "--collection", "theirs", "--json")["documents"] == 12
    run("attach", "--collection", "theirs")
    run("detach", "--collection", "theirs", "--yes")
