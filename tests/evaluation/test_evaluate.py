"""Measures against values worked out by hand, and a small folder from end to end."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connector import Encoder
from connector.cli import main
from connector.collection.recipe import get_recipe
from connector.core.errors import SourceError
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import load_judged, load_queries
from connector.evaluation.evaluate import evaluate
from connector.evaluation.metrics import measure
from connector.evaluation.trec import write_qrels
from tests.conftest import TEXTS

QUERIES = {"q1": "telescope and moons", "q2": "yeast in bread", "q3": "memory of a program"}
QRELS = {"q1": {"3": 1}, "q2": {"2": 2, "9": 1}, "q3": {"8": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "tiny"
    (home / "qrels").mkdir(parents=True)
    rows = [{"_id": str(i), "title": "", "text": text} for i, text in enumerate(TEXTS)]
    (home / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    queries = [{"_id": key, "text": text} for key, text in {**QUERIES, "q4": "not judged"}.items()]
    (home / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    lines = [f"{query}\t{doc}\t{grade}" for query, docs in QRELS.items() for doc, grade in docs.items()]
    (home / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    return home


def test_measures_by_hand() -> None:
    qrels = {"a": {"d1": 2, "d2": 1}, "b": {"d1": 1}}
    run = {"a": {"d3": 3.0, "d1": 2.0, "d2": 1.0}}
    dcg = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert measure(qrels, run) == {
        "nDCG@10": pytest.approx(dcg / ideal / 2, abs=1e-5),  # b has no results and counts as zero
        "R@100": 0.5,
        "RR@10": 0.25,
        "P@10": 0.1,
    }
    assert measure(qrels, run, min_relevance=2)["P@10"] == 0.05


def test_a_folder_from_end_to_end(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.trec"
    command = [
        "evaluate",
        str(folder),
        "--recipe",
        "compact",
        "--cache",
        str(tmp_path / "c"),
        "--save-run",
        str(run),
    ]
    result = CliRunner().invoke(main, [*command, "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["dataset"], content["recipe"]) == ("tiny", "compact")
    assert (content["queries"], content["documents"]) == (3, 12)
    assert content["measures"]["RR@10"] == 1.0
    assert content["bytes_per_passage"]["cls"] == 196
    assert content["bytes_per_passage"]["tokens"] == pytest.approx(
        16 * content["tokens_per_passage"], abs=0.2
    )
    assert set(content["query_ms"]) == {"p50", "p95"}
    lines = [line.split() for line in run.read_text().splitlines()]
    assert len(lines) == 3 * 12
    assert lines[0][:4] == ["q1", "Q0", "3", "1"]
    assert "nDCG@10" in CliRunner().invoke(main, command).stdout
    judged = said("evaluate", folder, "--run", run)
    none = {"unanswered": 0, "unjudged": 0, "own_left_out": 0}
    assert judged == {"queries": 3, **none, "measures": content["measures"]}


def said(*words: object, input: str | None = None) -> Any:
    """The JSON that a command prints."""
    result = CliRunner().invoke(main, [*map(str, words), "--json"], input=input)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(code: int, *words: object) -> str:
    """What a command says that ends with this code."""
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def test_a_run_of_another_system_is_judged(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "other.run"
    run.write_text("q1 Q0 3 1 2.0 other\nq1 Q0 1 2 1.0 other\nq2 Q0 5 1 9 other\nq9 Q0 5 1 9 other\n")
    expected = {"nDCG@10": 0.33333, "R@100": 0.33333, "RR@10": 0.33333, "P@10": 0.03333}
    content = said("evaluate", folder, "--run", run)
    counts = {"queries": 3, "unanswered": 1, "unjudged": 1, "own_left_out": 0}
    assert content == {**counts, "measures": expected}
    qrels = tmp_path / "qrels.txt.gz"
    write_qrels(QRELS, qrels)
    assert said("evaluate", "--run", run, "--qrels", qrels) == content
    assert said("evaluate", "--run", "-", "--qrels", qrels, input=run.read_text()) == content
    assert said("evaluate", folder, "--run", run, "--min-relevance", 2)["measures"]["P@10"] == 0.0
    assert "unanswered  1" in CliRunner().invoke(main, ["evaluate", str(folder), "--run", str(run)]).stdout


def test_what_does_not_go_with_a_run_is_refused(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "other.run"
    run.write_text("x1 Q0 3 1 2.0 other\n")
    assert "no query of the run is judged: the run has 'x1'" in refused(1, "evaluate", folder, "--run", run)
    for option in (
        ["--recipe", "tiny"],
        ["--save-run", tmp_path / "b"],
        ["--candidates", 20],
        ["--skip-bad"],
    ):
        error = refused(2, "evaluate", folder, "--run", run, *option)
        assert f"{option[0]} goes with a search, not with --run" in error
    assert "give SOURCE" in refused(2, "evaluate", "--run", run)
    assert "give SOURCE" in refused(2, "evaluate", "--qrels", run)
    assert "one of --qrels FILE and --split" in refused(
        2, "evaluate", folder, "--qrels", run, "--split", "dev"
    )


def test_documents_queries_and_judgements_may_be_files_of_their_own(folder: Path, tmp_path: Path) -> None:
    corpus, qrels = tmp_path / "docs.csv.gz", tmp_path / "qrels.txt"
    rows = "".join(f'{number},"{text}"\n' for number, text in enumerate(TEXTS))
    corpus.write_bytes(gzip.compress(f"id,text\n{rows}".encode()))
    write_qrels(QRELS, qrels)
    settings = ["--recipe", "dense", "--cache", tmp_path / "cache"]
    there = said("evaluate", folder, *settings)
    queries = (folder / "queries.jsonl").read_text()
    here = said("evaluate", corpus, "--queries", "-", "--qrels", qrels, *settings, input=queries)
    assert here["dataset"] == "docs.csv.gz"
    assert here["measures"] == there["measures"]
    assert "is not a folder" in refused(1, "evaluate", corpus, "--qrels", qrels)
    for command in (
        ["evaluate"],
        ["tune", "--budget", "1KB"],
        ["train", "saliency", "--out", tmp_path / "h"],
    ):
        assert "standard input is read once" in refused(1, *command, "-")


def test_ids_that_a_run_cannot_hold_are_refused_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.encoders.load_encoder", None)
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('\n{"_id": "page 7", "text": "Seven."}')
    error = refused(1, "evaluate", folder, "--save-run", tmp_path / "run")
    assert "document 'page 7' has white space" in error


def test_a_packed_folder_is_evaluated(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    plain = evaluate(folder, encoder, get_recipe("dense"), cache=tmp_path / "cache")
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    packed = evaluate(folder, encoder, get_recipe("dense"), cache=tmp_path / "cache")
    assert packed.run == plain.run
    with pytest.raises(SourceError, match="splits there: test"):
        load_judged(folder, "dev")


@pytest.mark.parametrize("name", ["queries.csv", "queries.tsv", "queries.ndjson.gz"])
def test_queries_are_records_of_any_kind(tmp_path: Path, name: str) -> None:
    text = {".csv": 'id,query\n1,"one, two"\n', ".tsv": "_id\ttext\n1\tone, two\n"}
    content = text.get(Path(name).suffix, '{"id": 1, "query": "one, two"}\n').encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert load_queries(tmp_path / name) == {"1": "one, two"}


def test_the_cache_spares_the_encoder_and_changes_nothing(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(folder, encoder, get_recipe("colbert"), cache=tmp_path / "cache")
    monkeypatch.setattr(type(encoder), "forward", None)
    second = evaluate(folder, encoder, get_recipe("colbert"), cache=tmp_path / "cache")
    assert first.run == second.run
    assert second.documents_per_second > 0


def test_a_damaged_cache_file_is_made_again(encoder: Encoder, tmp_path: Path) -> None:
    cached = CachedEncoder(encoder, tmp_path)
    before = cached.encode_queries(["one", "two"])
    next(tmp_path.glob("*.safetensors")).write_bytes(b"damaged")
    after = cached.encode_queries(["one", "two"])
    assert [item.cls.tolist() for item in before] == [item.cls.tolist() for item in after]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("qrels/test.tsv", "q1\t3\n", "line 1"),
        ("qrels/test.tsv", "q1\t3\tgood\n", "line 1"),
        ("qrels/test.tsv", "q9\t3\t1\n", "'q9'"),
        ("queries.jsonl", "{}", "line 1"),
    ],
)
def test_damaged_judgements(folder: Path, file: str, content: str, words: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(SourceError, match=words):
        load_judged(folder, "test")


def test_unknown_split_names_the_known(folder: Path) -> None:
    with pytest.raises(SourceError, match="splits there: test"):
        load_judged(folder, "dev")


def test_one_encoding_with_attention_serves_those_that_ask_for_less(encoder: Encoder, tmp_path: Path) -> None:
    cached = CachedEncoder(encoder, tmp_path)
    with_it = cached.encode_documents(TEXTS[:3], attention=True)
    again = cached.encode_documents(TEXTS[:3])
    assert len(list(tmp_path.iterdir())) == 1
    for left, right in zip(with_it, again, strict=True):
        assert left.attention is not None
        assert np.array_equal(left.attention, right.attention)
        assert np.array_equal(left.tokens, right.tokens)
        assert left.text == right.text
    assert cached.encode_documents(TEXTS[3:5])[0].attention is None
