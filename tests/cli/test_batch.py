"""Many queries of a file or a pipe, runs, pages and groups; and how alike hits are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from connector import Connector, Document, Encoder
from connector.cli import main
from connector.evaluation.trec import load_run
from tests.conftest import TEXTS

QUERIES = {"q1": "how do bees share where food is", "q2": "what makes bread rise", "q3": "rock into flour"}


@pytest.fixture(scope="module")
def place(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("batch") / "qdrant"
    with Connector.create("docs", path=path, recipe="compact", model=encoder) as connector:
        connector.ingest(
            Document(id=f"doc-{number}", text=text, metadata={"parity": number % 2})
            for number, text in enumerate(TEXTS)
        )
    return ["--collection", "docs", "--path", str(path)]


def run(*words: Any, code: int = 0, stdin: str | None = None) -> Any:
    done = CliRunner().invoke(main, list(map(str, words)), input=stdin)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    file = tmp_path / "queries.jsonl"
    file.write_text("".join(json.dumps({"_id": id_, "text": it}) + "\n" for id_, it in QUERIES.items()))
    return file


def test_each_query_of_a_file_finds_what_it_finds_alone(place: list[str], queries: Path) -> None:
    lines = run("search", *place, "--queries", queries, "-k", 4).stdout.splitlines()
    found = list(map(json.loads, lines))
    assert [(it["id"], it["query"]) for it in found] == list(QUERIES.items())
    for it in found:
        alone = json.loads(run("search", it["query"], *place, "-k", 4, "--json").stdout)
        assert [hit["id"] for hit in it["hits"]] == [hit["id"] for hit in alone["hits"]]
    piped = run("search", *place, "--queries", "-", "-k", 4, stdin=queries.read_text()).stdout.splitlines()
    assert [json.loads(it)["hits"] for it in piped] == [it["hits"] for it in found]


def test_a_run_is_what_was_found(place: list[str], queries: Path, tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_text(run("search", *place, "--queries", queries, "--format", "trec", "-k", 5).stdout)
    there = load_run(file)
    assert list(there) == list(QUERIES)
    for id_, query in QUERIES.items():
        alone = json.loads(run("search", query, *place, "-k", 5, "--json").stdout)
        assert list(there[id_]) == [hit["id"] for hit in alone["hits"]]
    assert file.read_text().splitlines()[0].split()[1::4] == ["Q0", "compact"]


def test_pages_and_groups(place: list[str]) -> None:
    query = QUERIES["q1"]
    whole = json.loads(run("search", query, *place, "-k", 6, "--json").stdout)["hits"]
    page = json.loads(run("search", query, *place, "-k", 3, "--offset", 3, "--json").stdout)
    assert page["hits"] == whole[3:]
    said = run("search", query, *place, "-k", 2, "--group-by", "parity", "--group-size", 2).stdout
    assert len([line for line in said.splitlines() if line.strip() in ("0", "1")]) == 2
    beyond = run("search", query, *place, "--candidates", 11, "--offset", 11)
    assert "No hits." in beyond.stdout
    assert "candidates= (--candidates) above 11 finds more" in beyond.stderr
    least = json.loads(
        run("search", query, *place, "--min-similarity", whole[1]["similarity"], "--json").stdout
    )
    assert [hit["id"] for hit in least["hits"]] == [hit["id"] for hit in whole[:2]]
    run("search", query, *place, "--mmr", 0.5)


def test_what_many_queries_lack_is_said_once(place: list[str], queries: Path) -> None:
    done = run("search", *place, "--queries", queries, "--candidates", 11, "-k", 12)
    assert done.stderr.count("queries found less than was asked for") == 1
    assert "3 queries" in done.stderr


def test_one_query_or_many(place: list[str], queries: Path) -> None:
    assert "give one of QUERY and --queries" in run("search", *place, code=2).output
    assert (
        "give one of QUERY and --queries" in run("search", "x", *place, "--queries", queries, code=2).output
    )
    assert "--format is for --queries" in run("search", "x", *place, "--format", "trec", code=2).output
    empty = queries.with_name("empty.jsonl")
    empty.write_text('{"_id": "1", "text": " "}')
    assert "query 0 is ' '" in run("search", *place, "--queries", empty, code=1).output


def test_how_alike_hits_are(place: list[str], queries: Path) -> None:
    plain = json.loads(run("stats", *place, "--json").stdout)
    assert "similarity" not in plain
    texts = queries.with_name("queries.txt")
    texts.write_text("\n".join(QUERIES.values()))
    said = json.loads(run("stats", *place, "--scores", "--queries", texts, "--json").stdout)["similarity"]
    assert (said["queries"], said["asked"], list(said["at"])) == (3, "yours", ["1", "10"])
    firsts = []
    for query in QUERIES.values():
        hits = json.loads(run("search", query, *place, "-k", 1, "--json").stdout)["hits"]
        firsts.append(hits[0]["similarity"])
    assert said["at"]["1"]["p50"] == pytest.approx(sorted(firsts)[1], abs=1e-3)
    assert said["at"]["10"]["p95"] < said["at"]["1"]["p5"]
    shown = run("stats", *place, "--scores").stdout
    assert "queries, made of its texts" in shown
    assert "p95" in shown
    assert "--queries is for --scores" in run("stats", *place, "--queries", texts, code=2).output


def test_a_run_keeps_the_order_of_diverse_hits(place: list[str], queries: Path, tmp_path: Path) -> None:
    chosen = ["--queries", queries, "-k", 8, "--mmr", 0.2]
    lines = run("search", *place, *chosen).stdout.splitlines()
    file = tmp_path / "run"
    file.write_text(run("search", *place, *chosen, "--format", "trec").stdout)
    there = load_run(file)
    assert [list(it) for it in there.values()] == [
        [hit["id"] for hit in json.loads(it)["hits"]] for it in lines
    ]


def test_an_id_that_comes_twice_is_refused(place: list[str], tmp_path: Path) -> None:
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}\n')
    done = run("search", *place, "--queries", twice, "--format", "trec", code=1)
    assert "has query '1' twice" in done.output
