"""The commands as a user types them, in their own processes where that matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connector import Recipe
from connector.cli import main
from connector.cli.render import show, table

Invoke = Callable[..., Result]

RECORDS = [
    {"id": "a", "text": "The river otter sleeps on its back.", "year": 2001},
    {"id": "b", "text": "A compiler turns source into machine code.", "title": "Compilers", "year": 2010},
    {"id": "c", "text": "Sourdough rises because of wild yeast.", "metadata": {"year": 2020}},
]


@pytest.fixture
def invoke() -> Invoke:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    return ["--collection", "docs", "--path", str(tmp_path / "qdrant")]


def loaded(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


def test_ingest_search_and_stats(invoke: Invoke, source: Path, place: list[str]) -> None:
    report = loaded(invoke("ingest", source, *place, "--recipe", "compact", "--json"))
    assert (report["documents"], report["passages"], report["bad"]) == (3, 3, [])
    assert 0 < report["tokens_after"] < report["tokens_before"]

    found = loaded(invoke("search", "what makes bread rise?", *place, "-k", 2, "--json"))
    assert found["query"] == "what makes bread rise?"
    assert len(found["hits"]) == 2
    assert found["hits"][0]["id"] == "c"
    assert found["hits"][0]["metadata"] == {"year": 2020}
    assert set(found["ms"]) == {"encode", "candidates", "rerank", "feedback", "total"}

    stats = loaded(invoke("stats", *place, "--json"))
    assert (stats["documents"], stats["recipe"], stats["layout"]) == (3, "compact", "codes")
    assert stats["bytes_per_passage"]["tokens"] == pytest.approx(16 * report["tokens_after"] / 3, abs=0.1)
    assert stats["at_rest_bytes"] > 0


def test_ingest_twice_writes_once(invoke: Invoke, source: Path, place: list[str]) -> None:
    invoke("ingest", source, *place)
    report = loaded(invoke("ingest", source, *place, "--json"))
    assert (report["documents"], report["unchanged"]) == (0, 3)


def test_ingest_reads_what_is_piped_into_it(source: Path, tmp_path: Path, place: list[str]) -> None:
    """A pipe, which can be read once, and is read twice."""
    program, environment = [sys.executable, "-m", "connector.cli"], {**os.environ, "TMPDIR": str(tmp_path)}
    command = [*program, "ingest", "-", *place, "--recipe", "dense", "--json"]
    run = partial(subprocess.run, command, capture_output=True, env=environment, check=False)
    done = run(input=source.read_bytes())
    assert json.loads(done.stdout)["documents"] == 3
    bad = source.read_bytes() + b"{oops"
    again = run(input=bad)
    assert (again.returncode, again.stdout) == (1, b"")
    assert b"stdin line 4 is not JSON" in again.stderr
    assert not list(tmp_path.glob("connector-*")), "what was kept of it is removed"
    empty = run(stdin=subprocess.DEVNULL)
    assert b"standard input, and it is empty" in empty.stderr


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_an_ingest_that_is_told_to_end_writes_what_it_has_encoded(
    told: signal.Signals, invoke: Invoke, tmp_path: Path, place: list[str]
) -> None:
    """Though its codec still waits for more."""
    if signal.getsignal(told) == signal.SIG_IGN:
        pytest.skip("who has started the tests ignores it, and so would the command")
    pytest.importorskip("faiss", reason="pq needs faiss; pip install '.[faiss]'")
    recipe, source = tmp_path / "waits.json", tmp_path / "many.jsonl"
    recipe.write_text(Recipe(name="waits", summary="", layout="codes", codec="pq-8").model_dump_json())
    source.write_text("".join(f'{{"id": "{n}", "text": "Number {n} of many."}}\n' for n in range(700)))
    words = ["ingest", str(source), *place, "--recipe", str(recipe)]
    command = [sys.executable, "-m", "connector.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not [
        *tmp_path.glob("qdrant/collections/*/artifacts/waiting-00000.safetensors")
    ]:
        time.sleep(0.01)
    process.send_signal(told)
    out, err = process.communicate()
    assert (process.returncode, out) == (128 + told, "")
    assert "goes on from there" in err
    written = loaded(invoke("stats", *place, "--json"))["documents"]
    assert 256 <= written < 700
    report = loaded(invoke(*words, "--json"))
    assert (report["unchanged"], report["documents"]) == (written, 700 - written)


def test_a_filter_is_json_on_metadata(invoke: Invoke, source: Path, place: list[str]) -> None:
    invoke("ingest", source, *place)
    old = '{"must": [{"key": "year", "range": {"lt": 2005}}]}'
    found = loaded(invoke("search", "bread", *place, "--filter", old, "--json"))
    assert [hit["id"] for hit in found["hits"]] == ["a"]
    refused(invoke("search", "bread", *place, "--filter", "{year}"), "{year}", "filter")


def test_for_a_person(invoke: Invoke, source: Path, place: list[str]) -> None:
    said = invoke("ingest", source, *place).stdout
    assert "3 documents into 'docs'" in said
    assert "bytes a passage" in said
    assert "otter" in invoke("search", "otter", *place).stdout
    assert "codes" in invoke("stats", *place).stdout
    assert "hybrid" in invoke("recipes").stdout
    assert set(loaded(invoke("recipes", "--json"))) == {"recipes"}


def test_every_command_has_help_and_stands_in_the_readme(invoke: Invoke) -> None:
    root = Path(__file__).parents[2]
    pages = [(root / it).read_text(encoding="utf-8") for it in ("README.md", "docs/commands.md")]
    for name, command in main.commands.items():
        assert command.help, name
        assert invoke(name, "--help").exit_code == 0
        assert all(f"`connector {name}" in page for page in pages)


BAD_LINES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "not JSON": (b"{oops\n", ("line 4", "JSON")),
    "not an object": (b"[1, 2]\n", ("line 4", "list")),
    "deep": (b"[" * 200_000 + b"\n", ("line 4", "JSON")),
    "no text": (b'{"id": "d", "words": "hello"}\n', ("line 4", "'words'", "--text-field")),
    "text is a number": (b'{"id": "d", "text": 7}\n', ("line 4", "int")),
    "empty text": (b'{"id": "d", "text": "  "}\n', ("line 4", "empty")),
    "NUL": (b'{"id": "d", "text": "a\\u0000b"}\n', ("line 4", "NUL")),
    "lone surrogate": (b'{"id": "d", "text": "a\\ud800b"}\n', ("line 4", "surrogate")),
    "not UTF-8": (b'{"id": "d", "text": "\xff"}\n', ("line 4", "UTF-8")),
    "same id": (b'{"id": "a", "text": "something else"}\n', ("'a'", "another content")),
    "NaN": (b'{"id": "d", "text": "x", "n": NaN}\n', ("line 4", "nan")),
    "a million characters": (
        json.dumps({"id": "d", "text": "word " * 200_000}).encode() + b"\n",
        ("'d'", "1,000,000", "--chunk-tokens"),
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_record_leaves_no_collection(
    invoke: Invoke, source: Path, place: list[str], tmp_path: Path, case: str
) -> None:
    line, words = BAD_LINES[case]
    with source.open("ab") as file:
        file.write(line)
    refused(invoke("ingest", source, *place), *words)
    refused(invoke("stats", *place), "no collection 'docs'")
    assert not list((tmp_path / "qdrant").glob("collections/*"))


def test_bad_records_are_skipped_counted_and_named(invoke: Invoke, source: Path, place: list[str]) -> None:
    with source.open("ab") as file:
        for line, _ in BAD_LINES.values():
            file.write(line)
    report = loaded(invoke("ingest", source, *place, "--skip-bad", "--json"))
    assert report["documents"] == 3
    assert len(report["bad"]) == len(BAD_LINES)
    said = invoke("ingest", source, *place, "--skip-bad").stdout
    assert f"bad records: {len(BAD_LINES)}" in said
    assert "line 4" in said


def test_a_source_without_documents_makes_no_collection(
    invoke: Invoke, tmp_path: Path, place: list[str]
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    refused(invoke("ingest", empty, *place), "empty.jsonl", "no document")
    empty.write_text("oops\n")
    refused(invoke("ingest", empty, *place, "--skip-bad"), "no document", "line 1")
    refused(invoke("stats", *place), "no collection 'docs'")


def test_a_long_text_can_be_split(invoke: Invoke, source: Path, place: list[str]) -> None:
    source.write_text(json.dumps({"id": "long", "text": "Otters swim. Bees fly. " * 400}), encoding="utf-8")
    whole = loaded(invoke("ingest", source, *place, "--recipe", "compact", "--json"))
    assert (whole["truncated"], whole["passages"]) == (1, 1)
    pieces = ["otter", "##s", "swim", ".", "bees", "fly", "."]
    assert whole["tokens_lost"] == 400 * len(pieces) - (256 - 2)
    split = loaded(invoke("ingest", source, *place, "--chunk-tokens", 100, "--chunk-overlap", 10, "--json"))
    assert split["truncated"] == 0
    assert split["passages"] > 20
    stats = loaded(invoke("stats", *place, "--json"))
    assert (stats["documents"], stats["passages"]) == (1, split["passages"])
    assert len(loaded(invoke("search", "otters", *place, "--json"))["hits"]) == 1


def test_a_title_that_does_not_fit_is_one_figure_of_the_report(
    invoke: Invoke, source: Path, place: list[str]
) -> None:
    document = {"id": "long", "text": "Otters swim. " * 99, "title": "Otters swim. " * 99}
    source.write_text(json.dumps(document), encoding="utf-8")
    ingest = ("ingest", source, *place, "--chunk-tokens", 200, "--chunk-overlap", 100)
    shown = invoke(*ingest, "--recipe", "compact").stdout
    assert "titles cut 1" in " ".join(shown.replace("_", " ").split())


def test_wrong_arguments(invoke: Invoke, source: Path, place: list[str], tmp_path: Path) -> None:
    refused(invoke("ingest", tmp_path / "missing.jsonl", *place), "missing.jsonl", "does not exist")
    refused(invoke("ingest", source, *place, "--recipe", "teeny"), "'teeny'", "tiny", "colbert")
    refused(invoke("ingest", source, *place, "--chunk-overlap", 5), "overlap")
    refused(invoke("ingest", source, *place, "--chunk-tokens", 5, "--chunk-overlap", 5), "overlap")
    refused(invoke("ingest", source, *place, "--chunk-tokens", 5000), "5000", "254")
    refused(invoke("ingest", source, *place, "--model", tmp_path / "no-model"), "no-model")
    refused(invoke("search", "  ", *place), "no collection")
    assert invoke("search", "x", "--collection", "docs").exit_code == 2
    assert not list((tmp_path / "qdrant").glob("collections/*"))
    invoke("ingest", source, *place)
    refused(invoke("ingest", source, *place, "--recipe", "compact"), "'default'", "'compact'")
    refused(invoke("search", "  ", *place), "query")
    assert loaded(invoke("stats", *place, "--json"))["documents"] == 3


def test_no_server(invoke: Invoke, source: Path) -> None:
    refused(invoke("ingest", source, "--collection", "docs", "--url", "http://127.0.0.1:9"), "127.0.0.1:9")


def test_the_program_prints_results_on_stdout_and_nothing_else(source: Path, place: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "connector.cli", "ingest", str(source), *place, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout)["documents"] == 3
    assert run.stderr == ""


# Reductions


def test_another_reduction_than_the_recipes(invoke: Invoke, source: Path, place: list[str]) -> None:
    words = ["--recipe", "compact", "--reduction", "first-3", "--query-weights", "idf"]
    report = loaded(invoke("ingest", source, *place, *words, "--json"))
    assert report["tokens_after"] == 9
    assert loaded(invoke("stats", *place, "--json"))["recipe"] == "compact:first-3:idf"
    assert loaded(invoke("search", "yeast", *place, "--json"))["hits"][0]["id"] == "c"
    assert loaded(invoke("ingest", source, *place, *words, "--json"))["unchanged"] == 3
    assert loaded(invoke("ingest", source, *place, "--json"))["unchanged"] == 3
    refused(invoke("ingest", source, *place, "--reduction", "first-4"), "compact:first-3:idf", "first-4")


def test_all_tokens_are_kept_where_the_reduction_is_none(
    invoke: Invoke, source: Path, place: list[str]
) -> None:
    report = loaded(invoke("ingest", source, *place, "--recipe", "compact", "--reduction", "none", "--json"))
    assert report["tokens_after"] == report["tokens_before"]


def test_an_unknown_reduction_makes_no_collection(
    invoke: Invoke, source: Path, place: list[str], tmp_path: Path
) -> None:
    refused(invoke("ingest", source, *place, "--reduction", "word"), "'word' is not known", "whole-words")
    refused(invoke("ingest", source, *place, "--reduction", "stopwords-xx"), "'xx'", "there are da")
    assert not (tmp_path / "qdrant").exists()


def test_every_step_is_listed(invoke: Invoke) -> None:
    listed = loaded(invoke("reductions", "--json"))
    assert [it["form"] for it in listed["query_reduction"]] == ["icf-K", "saliency-K"]
    assert {"first-K", "whole-words", "ward-SIZE"} <= {it["form"] for it in listed["reduction"]}
    shown = invoke("reductions").stdout
    for side in listed.values():
        for step in side:
            assert step["form"] in shown
            assert step["source"] in shown


# What is printed


def test_tables_are_broken_in_a_terminal_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines() -> list[str]:
        show([table([("0001", "word " * 40, ""), ("2", "[bold]", ":smile:")], ">><"), "text " * 40])
        return capsys.readouterr().out.splitlines()

    words = " ".join(["word"] * 40)
    assert [line.split(maxsplit=1) for line in lines()[:1]] == [["0001", words]]
    assert lines()[1].split() == ["2", "[bold]", ":smile:"]
    assert not [line for line in lines() if line.endswith(" ")]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, lines()[:-1])) <= 50
    assert len(lines()[-1]) == 199, "what may be copied is not broken"
