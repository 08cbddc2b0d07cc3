"""Measures against values worked out by hand, and a small folder from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from connector import Encoder
from connector.cli import main
from connector.collection.recipe import get_recipe
from connector.core.errors import SourceError
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import Judged, load_judged
from connector.evaluation.evaluate import evaluate
from connector.evaluation.metrics import measure
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
    judged = Judged({"a": "x", "b": "y"}, {"a": {"d1": 2, "d2": 1}, "b": {"d1": 1}})
    run = {"a": {"d3": 3.0, "d1": 2.0, "d2": 1.0}}
    dcg = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert measure(judged, run) == {
        "nDCG@10": pytest.approx(dcg / ideal / 2, abs=1e-5),  # b has no results and counts as zero
        "R@100": 0.5,
        "RR@10": 0.25,
        "P@10": 0.1,
    }
    assert measure(judged, run, min_relevance=2)["P@10"] == 0.05


def test_a_folder_from_end_to_end(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.trec"
    command = [
        "evaluate",
        str(folder),
        "--recipe",
        "compact",
        "--cache",
        str(tmp_path / "c"),
        "--run",
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
