"""TREC's files: what other systems write is read, and what is written is read by them in the same order."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.core.errors import DocumentError, InputError, SourceError
from connector.evaluation.metrics import measure
from connector.evaluation.trec import Qrels, Run, load_qrels, load_run, untied, write_qrels, write_run

QRELS: Qrels = {"q1": {"d1": 2, "d2": 0, "d3": -1}, "q2": {"d 1": 1}}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "qrels"),
    [
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\n", {"q1": {"d1": 1}}),
        ("q1\td1\t1\n\n \nq1\td2\t0", {"q1": {"d1": 1, "d2": 0}}),
        ("q 1\td 1\t 1 \r\n", {"q 1": {"d 1": 1}}),
        ("q1 0 d1 1\nq1 0 d2 -2\nq2\t0\td1\t3\n", {"q1": {"d1": 1, "d2": -2}, "q2": {"d1": 3}}),
        ("  q1   Q0\t d1   1  \r\n\r\n", {"q1": {"d1": 1}}),
        ("q1 0 d1 1\nq1 0 d1 1\n", {"q1": {"d1": 1}}),
    ],
)
def test_qrels_have_three_columns_or_four(tmp_path: Path, text: str, qrels: Qrels) -> None:
    assert load_qrels(written(tmp_path / "qrels.txt", text)) == qrels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q1 0 d1 1\n\nq1 0 d2\n", r"qrels\.txt line 3 is 'q1 0 d2'; give query, 0, document"),
        ("q1 0 d1 1.5\n", r"line 1 is 'q1 0 d1 1.5'"),
        ("q1 d1 1\n", "line 1"),
        ("q1 0 d1 1 more\n", "line 1"),
        ("\td1\t1\n", "line 1"),
        ("q1 0 d1 1\nq1 1 d1 2\n", r"line 2 judges 'd1' for 'q1' as 2, a line before as 1"),
        ("\n", "holds no judgement"),
    ],
)
def test_bad_qrels_are_named_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load_qrels(written(tmp_path / "qrels.txt", text))


@pytest.mark.parametrize("name", ["qrels.txt", "qrels.txt.gz"])
def test_qrels_come_back(tmp_path: Path, name: str) -> None:
    qrels = {"q1": QRELS["q1"], "q3": {"d1": 1}}
    write_qrels(qrels, tmp_path / name)
    assert load_qrels(tmp_path / name) == qrels
    with pytest.raises(InputError, match="document 'd 1' has white space"):
        write_qrels(QRELS, tmp_path / name)


def test_a_run_is_ordered_as_trec_eval_orders_it(tmp_path: Path) -> None:
    lines = ["q1 Q0 a 9 1.0 t", "q1\tQ0\tb\t1\t1\tt", "", "q2 Q0 z 1 -3e2 t", " q1  Q0 c 1 1.00000001 t "]
    run = load_run(written(tmp_path / "run.txt", "\n".join([*lines, "q1 Q0 d 1 1.5 t"])))
    assert {query: list(found) for query, found in run.items()} == {"q1": ["d", "c", "b", "a"], "q2": ["z"]}
    assert run["q2"]["z"] == -300
    for first in ("a", "b", "c", "d"):  # whose place tells in which order trec_eval has them
        judged = {"q1": {first: 1}}
        place = 1 + list(run["q1"]).index(first)
        evaluator = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"})
        given = {"a": 1.0, "b": 1.0, "c": 1.00000001, "d": 1.5}
        assert evaluator.evaluate({"q1": given})["q1"]["recip_rank"] == pytest.approx(1 / place)
        assert measure(judged, run)["RR@10"] == pytest.approx(1 / place, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "q1 Q0 d1 1 0.5 t\nq1 Q0 d2 2 t\n",
            r"run\.txt line 2 is \['q1', 'Q0', 'd2', '2', 't'\]; give query, Q0",
        ),
        ("q1 Q0 d1 1 high t\n", "line 1"),
        ("q1 Q0 d1 1 nan t\n", "line 1"),
        ("q1 Q0 d1 1 0.5 t\nq1 Q0 d1 2 0.4 t\n", "line 2 has document 'd1' again for query 'q1'"),
        ("", "holds no line"),
    ],
)
def test_a_bad_run_is_named_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        load_run(written(tmp_path / "run.txt", text))
    with pytest.raises(SourceError, match="cannot be read"):
        load_run(tmp_path / "missing.txt")


@pytest.mark.parametrize("bad", ["d 1", "d\u00a01", "d\t1", "", "d\r", "d\u2028", "\ufeffd"])
def test_an_id_that_no_column_holds_is_named(tmp_path: Path, bad: str) -> None:
    for run in ({"q1": {bad: 1.0}}, {bad: {"d1": 1.0}}):
        with pytest.raises(InputError, match="has white space, or is empty"):
            write_run(run, tmp_path / "run.txt", "t")
    with pytest.raises(InputError, match="tag"):
        write_run({"q1": {"d1": 1.0}}, tmp_path / "run.txt", "my tag")
    with pytest.raises(DocumentError, match="NUL"):
        write_run({"q1": {"d\0": 1.0}}, tmp_path / "run.txt", "t")


def word(text: str) -> bool:
    return text.split() == [text] and text[0] != "\ufeff"


IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(word)
SCORES = st.floats(-1e30, 1e30) | st.sampled_from([0.5, 0.5 + 1e-12, 0.0, -0.0])
RUNS = st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=12), min_size=1, max_size=4)


@given(RUNS, st.sampled_from(["run.txt", "run.txt.gz"]))
@settings(max_examples=150, deadline=None)
def test_a_run_comes_back_in_its_order_with_untied_scores(run: Run, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_run(run, Path(folder, name), "t")
        again = load_run(Path(folder, name))
    assert list(again) == list(run)
    for query, scores in run.items():
        ordered = sorted(scores, key=lambda it: -scores[it])  # of those alike the first stays first
        assert list(again[query]) == ordered
        assert again[query] == untied(scores)


@given(st.lists(st.floats(-1e6, 1e6, width=32), unique=True, min_size=1))
def test_scores_that_differ_stay_as_they_are(values: list[float]) -> None:
    scores = {str(number): value for number, value in enumerate(sorted(values, reverse=True))}
    assert untied(scores) == scores


def test_scores_alike_are_lowered_by_the_least_there_is() -> None:
    scores = untied({"z": 1.0, "b": 1.0, "a": 1.0, "c": 0.5})
    assert list(scores) == ["z", "b", "a", "c"]
    assert len(set(map(np.float32, scores.values()))) == 4
    assert math.isclose(scores["a"], 1, rel_tol=1e-6)
    assert scores["c"] == 0.5


def figures(qrels: Path, run: Path, *options: str) -> dict[str, float]:
    """What the command of ir-measures says."""
    command = [sys.executable, "-W", "ignore", "-m", "ir_measures", str(qrels), str(run), "-p", "5", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def test_other_programs_give_a_written_run_the_same_figures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    qrels = {f"q{q}": {f"d{d}": int(rng.integers(-1, 3)) for d in range(0, 40, 3)} for q in range(20)}
    scores = {f"q{q}": rng.integers(0, 6, 40) / 7 for q in range(18)}  # many are alike, and two queries lack
    run = {query: untied({f"d{d}": float(it) for d, it in enumerate(of)}) for query, of in scores.items()}
    write_qrels(qrels, tmp_path / "qrels")
    write_run(run, tmp_path / "run", "t")
    ours = measure(qrels, run)
    assert figures(tmp_path / "qrels", tmp_path / "run", *ours) == ours
    assert measure(qrels, load_run(tmp_path / "run")) == ours
    with (tmp_path / "qrels").open() as judged, (tmp_path / "run").open() as made:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(judged), {"ndcg_cut_10", "P_10"})
        per_query = evaluator.evaluate(pytrec_eval.parse_run(made)).values()
    for theirs, name in (("ndcg_cut_10", "nDCG@10"), ("P_10", "P@10")):
        mean = sum(it[theirs] for it in per_query) / len(qrels)
        assert mean == pytest.approx(ours[name], abs=1e-5)
