"""The demonstration: its corpus, and the command on a part of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from connector.cli import demo_corpus as demo
from connector.cli import main


def test_the_standard_library_is_thousands_of_passages() -> None:
    documents = demo.standard_library()
    by_id = {document.id: document for document in documents}
    assert len(by_id) == len(documents) > 3_000
    assert by_id["json"].metadata == {"module": "json", "kind": "module"}
    assert by_id["json.loads"].metadata == {"module": "json", "kind": "function"}
    assert by_id["threading.Thread"].metadata["kind"] == "class"
    assert "os.getcwd" in by_id
    assert "len" in by_id
    assert not any(part.startswith("_") for id_ in by_id for part in id_.split("."))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [
        item
        for item in demo.standard_library()
        if item.metadata["module"] in ("os", "copy", "threading", "itertools")
    ]
    monkeypatch.setattr(demo, "standard_library", lambda: documents)


@pytest.mark.usefixtures("few")
def test_the_command(tmp_path: Path) -> None:
    command = ["demo", "--path", str(tmp_path / "demo")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "os.walk" in result.stdout
    assert "*files*" in result.stdout, "words that matched are marked"
    assert "connector search" in result.stdout

    again = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    size = again["bytes_per_passage"]
    assert size["this collection"] < size["one float32 dense vector"] < size["float32 late interaction"]
    assert "os.walk" in again["answers"][demo.QUESTIONS[0]]
