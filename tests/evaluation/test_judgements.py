"""What is judged and what is not there: each is counted and named, and measures mean one thing."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connector import Connector, Document, Encoder
from connector.cli import main
from connector.collection.recipe import get_recipe
from connector.core.errors import InputError, SourceError
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import load_examples, load_qrels, load_queries
from connector.evaluation.evaluate import evaluate
from connector.evaluation.metrics import measure, ndcg
from connector.evaluation.training import load_training_set
from connector.evaluation.trec import load_run
from connector.evaluation.tuning import task_of_source
from connector.evaluation.tuning.workload import Workload
from tests.conftest import TEXTS

QUERIES = {"q1": "telescope and moons", "q2": "yeast in bread", "q3": "memory of a program"}
QRELS = "q1 0 3 1\nq2 0 2 2\nq3 0 8 1\n"
DENSE = ["--recipe", "dense"]


def beir(
    home: Path,
    qrels: str = QRELS,
    queries: Mapping[str, str] = QUERIES,
    documents: Mapping[str, str] | None = None,
    splits: tuple[str, ...] = ("test", "train"),
) -> Path:
    """A folder in BEIR layout."""
    documents = dict(zip(map(str, range(12)), TEXTS, strict=True)) if documents is None else documents
    (home / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        rows = [json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in texts.items()]
        (home / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    for split in splits:
        (home / "qrels" / f"{split}.tsv").write_text(qrels, encoding="utf-8")
    return home


def run(*words: object, code: int = 0) -> Any:
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


# Order


def test_all_measures_are_of_one_order_whatever_scores_are_alike() -> None:
    alike = dict.fromkeys("abcde", 1.0)
    for place, document in enumerate("abcde", 1):
        gain = 1 / np.log2(place + 1)
        expected = {"nDCG@10": gain, "R@100": 1.0, "RR@10": 1 / place, "P@10": 0.1}
        assert measure({"q": {document: 1}}, {"q": alike}) == pytest.approx(expected, abs=1e-5)
        assert ndcg([list(alike)], [{document: 1}]) == pytest.approx(gain, abs=1e-5)


def test_documents_alike_are_measured_in_the_order_of_the_search(encoder: Encoder, tmp_path: Path) -> None:
    same = {f"d{number}": TEXTS[7] for number in range(5)}
    folder = beir(tmp_path / "same", "q1 0 d3 1\n", {"q1": "dancing bees"}, same)
    result = evaluate(folder, encoder, get_recipe("dense"))
    place = 1 + list(result.run["q1"]).index("d3")
    assert result.measures["RR@10"] == pytest.approx(1 / place, abs=1e-5)
    assert result.measures["nDCG@10"] == pytest.approx(1 / np.log2(place + 1), abs=1e-5)


def test_diverse_hits_are_measured_and_written_in_their_order(encoder: Encoder, tmp_path: Path) -> None:
    folder = beir(tmp_path / "mmr")
    recipe = get_recipe("dense")
    diverse = evaluate(folder, encoder, recipe, mmr=0.1)
    assert list(diverse.run["q1"]) != list(evaluate(folder, encoder, recipe).run["q1"])
    last = {query: list(scores)[6] for query, scores in diverse.run.items()}
    judged = "".join(f"{query} 0 {document} 1\n" for query, document in last.items())
    again = evaluate(beir(tmp_path / "sevenths", judged), encoder, recipe, mmr=0.1)
    assert again.measures["RR@10"] == pytest.approx(1 / 7, abs=1e-5)


def test_a_run_of_diverse_hits_has_their_order(encoder: Encoder, tmp_path: Path) -> None:
    place = {"path": tmp_path / "qdrant"}
    with Connector.create("docs", recipe="dense", model=encoder, **place) as connector:
        connector.ingest(Document(str(number), text) for number, text in enumerate(TEXTS))
        expected = [hit.id for hit in connector.search(QUERIES["q1"], mmr=0.1)]
    folder = beir(tmp_path / "docs")
    where = ["--collection", "docs", "--path", tmp_path / "qdrant"]
    said = run("search", *where, "--queries", folder / "queries.jsonl", "--format", "trec", "--mmr", 0.1)
    (tmp_path / "run").write_text(said.stdout)
    assert list(load_run(tmp_path / "run")["q1"]) == expected


# The query's own document

OWN = {"7": TEXTS[7], "2": TEXTS[2], "4": TEXTS[4]}
OWN_QRELS = "7 0 0 1\n2 0 9 1\n4 0 4 1\n"
"""Queries that are documents of the corpus; the last one answers itself."""


def test_a_document_with_the_query_s_own_id_is_left_out(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = beir(tmp_path / "own", OWN_QRELS, OWN)
    kept = evaluate(folder, encoder, get_recipe("dense"), keep_own=True)
    assert [next(iter(scores)) for scores in kept.run.values()] == ["7", "2", "4"]
    assert (kept.own_left_out, "own" in caplog.text) == (0, False)
    left_out = evaluate(folder, encoder, get_recipe("dense"))
    assert left_out.own_left_out == 2  # the third is judged to answer
    assert "2 documents with the id of their query are left out" in caplog.text
    for query in ("7", "2"):
        assert list(left_out.run[query]) == list(kept.run[query])[1:]
    assert left_out.run["4"] == kept.run["4"]
    assert left_out.measures["nDCG@10"] > kept.measures["nDCG@10"]


def test_runs_and_commands_leave_it_out_too(tmp_path: Path) -> None:
    folder, ours = beir(tmp_path / "own", OWN_QRELS, OWN), tmp_path / "run"
    done = run("evaluate", folder, *DENSE, "--save-run", ours)
    assert "--keep-own" in done.stderr
    assert "own left out" in done.stdout
    assert "7" not in load_run(ours)["7"]
    theirs = tmp_path / "theirs"
    theirs.write_text("7 Q0 7 1 9 t\n7 Q0 0 2 8 t\n")
    found = {it: json.loads(run("evaluate", folder, "--run", theirs, "--json", *it).stdout) for it in KEEPING}
    assert [it["own_left_out"] for it in found.values()] == [1, 0]
    assert [it["measures"]["RR@10"] for it in found.values()] == pytest.approx([1 / 3, 1 / 6], abs=1e-5)


KEEPING: tuple[tuple[str, ...], ...] = ((), ("--keep-own",))


def test_tuning_leaves_it_out(encoder: Encoder, tmp_path: Path) -> None:
    folder = beir(tmp_path / "own", OWN_QRELS, OWN)
    task, keeping = task_of_source(folder), task_of_source(folder, keep_own=True)
    assert (task.own, keeping.own) == ({"7", "2"}, set())
    assert task.digest != keeping.digest
    cached = CachedEncoder(encoder, tmp_path / "cache")
    one, other = Workload(task, cached, 20), Workload(keeping, cached, 20)
    for without, whole in zip(one.by_cls(), other.by_cls(), strict=True):
        assert without[:5] == [it for it in whole if it not in task.own or it not in whole[:1]][:5]
    for ranking, query in zip(one.by_words_and_cls(), task.queries, strict=True):
        assert (query in ranking) == (query == "4")
    with pytest.raises(SourceError, match="no grade is above 0"):
        task_of_source(beir(tmp_path / "none", "7 0 0 0\n2 0 9 -1\n", OWN))


def test_ids_that_are_not_the_user_s_are_no_document_s(tmp_path: Path) -> None:
    folder = beir(tmp_path / "sentences", splits=())
    (folder / "qrels").rmdir()
    (folder / "queries.jsonl").unlink()
    assert not task_of_source(folder).own  # sentences are called 1, 2, …
    assert not task_of_source(folder, examples=[("1", "2"), ("3", "4")]).own


def test_training_does_not_push_it_away(encoder: Encoder, tmp_path: Path) -> None:
    documents = {f"d{number}": f"Bees dance in hive number {number}." for number in range(40)}
    queries = {f"d{number}": documents[f"d{number}"] for number in range(5)}
    qrels = "".join(f"d{number} 0 d{number + 20} 1\n" for number in range(5))
    examples = load_training_set(beir(tmp_path / "own", qrels, queries, documents), encoder)
    cls = np.stack([it.cls for it in encoder.encode_documents(list(documents.values()))])
    asked = encoder.encode_queries(list(queries.values()))
    for number, (negatives, query) in enumerate(zip(examples.negatives, asked, strict=True)):
        ranked = np.argsort(-(cls @ query.cls), kind="stable").tolist()
        assert ranked[0] == number
        wrong = [it for it in ranked if it not in (number, number + 20)]
        assert negatives == wrong[2:32]  # the own one is none of the two that are passed over as too near


# Documents that are not there


@pytest.mark.parametrize("command", [["evaluate"], ["tune", "--budget", "1KB"], ["train", "saliency"]])
def test_a_corpus_of_other_documents_is_refused(tmp_path: Path, command: list[str]) -> None:
    folder = beir(tmp_path / "other", "q1 0 x1 1\nq2 0 x2 1\nq3 0 x3 0\n")
    out = ["--out", tmp_path / "head"] if "train" in command else []
    said = run(*command, folder, *out, code=1).stderr
    assert "other holds none of the judged documents, such as 'x1'; give their corpus" in said


def test_documents_that_are_missing_are_counted_and_one_is_named(tmp_path: Path) -> None:
    folder = beir(tmp_path / "some", QRELS + "q1 0 x1 1\nq2 0 x2 1\nq3 0 x3 0\nq3 0 x4 -1\n")
    done = run("evaluate", folder, *DENSE, "--json")
    assert json.loads(done.stdout)["missing"] == 2
    assert "lacks 2 of 5 judged documents, such as 'x1'" in done.stderr


def test_examples_of_documents_that_are_not_there_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    with Connector.create("docs", path=tmp_path / "qdrant", model=encoder) as connector:
        connector.ingest(Document(str(number), text) for number, text in enumerate(TEXTS))
        examples = [("dancing bees", "7"), ("wild yeast", "nowhere")]
        with pytest.raises(InputError, match="holds no document 'nowhere'"):
            connector.adapt_to_queries([f"query {number}" for number in range(60)], examples)
        with pytest.raises(InputError, match="holds no document 'nowhere'"):
            connector.adapt(examples)


def test_a_corpus_without_documents_is_one_line(tmp_path: Path) -> None:
    folder = beir(tmp_path / "empty", documents={})
    assert "empty holds no document; give a source with some" in run("evaluate", folder, code=1).stderr
    long = beir(tmp_path / "long", documents={"3": "word " * 30_000})
    said = run("evaluate", long, *DENSE, "--skip-bad", code=1).stderr
    assert "no document of" in said
    assert "over 100,000" in said


def test_what_is_skipped_is_named(tmp_path: Path) -> None:
    folder = beir(tmp_path / "bad")
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "x"}\n' + json.dumps({"_id": "long", "text": "word " * 30_000}) + "\n")
    skipped = json.loads(run("evaluate", folder, *DENSE, "--skip-bad", "--json").stdout)["skipped"]
    assert [("line 13" in it, "'long'" in it) for it in skipped] == [(True, False), (False, True)]
    said = run("evaluate", folder, *DENSE, "--skip-bad").stdout
    assert "skipped, bad records: 2" in said
    assert "corpus.jsonl line 13" in said
    assert [it.split(":")[0] for it in task_of_source(folder, skip_bad=True).skipped] == [
        "corpus.jsonl line 13",
        "document 'long'",
    ]


# Twice, and differently


def test_a_query_with_two_texts_is_refused_and_named(tmp_path: Path) -> None:
    folder = beir(tmp_path / "twice")
    file = folder / "queries.jsonl"
    same = file.read_text()
    file.write_text(same + same)
    assert load_queries(file) == QUERIES
    file.write_text(same + '{"_id": "q2", "text": "another text"}\n')
    with pytest.raises(SourceError, match="query 'q2' is 'yeast in bread', and further on 'another text'"):
        load_queries(file)
    for command in (["evaluate"], ["tune", "--budget", "1KB"]):
        assert "query 'q2' is" in run(*command, folder, code=1).stderr
    assert "query 'q2' is" in run("train", "saliency", folder, "--out", tmp_path / "h", code=1).stderr


def test_a_pair_with_two_grades_is_refused_and_named(tmp_path: Path) -> None:
    folder = beir(tmp_path / "graded", QRELS + "q2 0 2 1\n")
    for command in (["evaluate"], ["tune", "--budget", "1KB"]):
        said = run(*command, folder, code=1).stderr
        assert "judges '2' for 'q2' as 1, a line before as 2" in said


# Files


def test_nothing_is_quoted_between_tabs(tmp_path: Path) -> None:
    examples = tmp_path / "examples.tsv"
    examples.write_text('query\tid\n"open a file\t1\nwhat is a "word"\t2\n5" disk\t3\n"closed"\t4\n')
    assert load_examples(examples) == [
        ('"open a file', "1"),
        ('what is a "word"', "2"),
        ('5" disk', "3"),
        ('"closed"', "4"),
    ]
    examples.write_text("query\tid\none\ttwo\tthree\n")
    with pytest.raises(SourceError, match="more fields than the header; take the separators out"):
        load_examples(examples)
    queries = tmp_path / "queries.tsv"
    queries.write_text('_id\ttext\nq1\t"open\nq2\tclose"\n')
    assert load_queries(queries) == {"q1": '"open', "q2": 'close"'}
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text('q1\t"d1\t1\nq2\td2"\t1\n')
    assert load_qrels(qrels) == {"q1": {'"d1': 1}, "q2": {'d2"': 1}}
    table = tmp_path / "examples.csv"  # which has quoting
    table.write_text('query,id\n"one, ""two""",1\n')
    assert load_examples(table) == [('one, "two"', "1")]


def test_a_recipe_s_name_with_blanks_is_one_word_in_a_run(encoder: Encoder, tmp_path: Path) -> None:
    recipe = get_recipe("dense").model_copy(update={"name": "mine of  May"})
    file, folder = tmp_path / "mine.json", beir(tmp_path / "docs")
    file.write_text(recipe.model_dump_json(exclude_none=True))
    run("evaluate", folder, "--recipe", file, "--save-run", tmp_path / "run")
    assert {line.split()[5] for line in (tmp_path / "run").read_text().splitlines()} == {
        "connector-mine-of-May"
    }
    with Connector.create("docs", path=tmp_path / "qdrant", recipe=recipe, model=encoder) as connector:
        connector.ingest(Document(str(number), text) for number, text in enumerate(TEXTS))
    where = ["--collection", "docs", "--path", tmp_path / "qdrant"]
    found = run("search", *where, "--queries", folder / "queries.jsonl", "--format", "trec").stdout
    assert {line.split()[5] for line in found.splitlines()} == {"mine-of-May"}


@pytest.mark.parametrize("name", ["/proc/run", "x" * 300])
def test_a_run_file_that_cannot_be_written_is_found_out_first(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.encoders.load_encoder", None)
    said = run("evaluate", beir(tmp_path / "docs"), "--save-run", tmp_path / name, code=1).stderr
    assert "--save-run" in said
    assert "cannot be written" in said


def test_what_is_there_is_not_touched_before_it_is_written(tmp_path: Path) -> None:
    folder, file = beir(tmp_path / "docs"), tmp_path / "run"
    run("evaluate", folder, "--split", "dev", "--save-run", file, code=1)
    assert not file.exists()
    file.write_text("before")
    run("evaluate", folder, "--split", "dev", "--save-run", file, code=1)
    assert file.read_text() == "before"
    os.mkfifo(tmp_path / "pipe")
    run("evaluate", folder, "--split", "dev", "--save-run", tmp_path / "pipe", code=1)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
