"""Tuning: trials rank as real collections do, the frontier by hand, and a run that is cut off goes on."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connector import Connector, Encoder, Recipe
from connector.cli import main
from connector.cli.demo_corpus import standard_library
from connector.cli.pages import tuning_page as page
from connector.cli.results import tuning_lines
from connector.collection.coding import code
from connector.collection.recipe import get_recipe
from connector.compression.heads import head_folder
from connector.core.errors import InputError, MissingExtra, RecipeError, SourceError
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import load_judged
from connector.evaluation.evaluate import evaluate
from connector.evaluation.metrics import ndcg
from connector.evaluation.trec import write_qrels
from connector.evaluation.tuning import Task, Trial, Tuning, task_of_collection, task_of_source, tune
from connector.evaluation.tuning import sweep as sweeping
from connector.evaluation.tuning.search_space import CODECS, TRAINED, Point, Space, usable
from connector.evaluation.tuning.trials import (
    agreement,
    best,
    frontier,
    interval,
    smallest_alike,
)
from connector.evaluation.tuning.workload import Workload, by_recipe

DOCUMENTS, QUERIES = 90, 12
LITTLE, BUDGET = 560, 800
"""Bytes a passage, of which about 400 are its words and CLS vector."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beginnings of docstrings in BEIR layout, asked for by what follows; train and test."""
    home = tmp_path_factory.mktemp("tune") / "docs"
    (home / "qrels").mkdir(parents=True)
    found = [it for it in standard_library() if len(it.text) > 500][: 6 * DOCUMENTS : 6]
    rows = [{"_id": it.id, "title": it.title or "", "text": it.text[:400]} for it in found]
    queries = [
        {"_id": f"q{n}", "text": " ".join(it.text[400:].split()[1:9])} for n, it in enumerate(found[:QUERIES])
    ]
    write(home / "corpus.jsonl", rows)
    write(home / "queries.jsonl", queries)
    for split in ("train", "test"):
        lines = [f"q{n}\t{it.id}\t1" for n, it in enumerate(found[:QUERIES])]
        (home / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    return home


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture(scope="module")
def cache(folder: Path, encoder: Encoder) -> Path:
    """What a whole run has left."""
    cache = folder.parent / "cache"
    tune(task_of_source(folder), encoder, cache, budget=BUDGET, candidates=50)
    return cache


@pytest.fixture
def tuning(folder: Path, encoder: Encoder, cache: Path) -> Tuning:
    return tune(task_of_source(folder), encoder, cache, budget=BUDGET, candidates=50)


def trial(size: float, *values: float, ms: float | None = None) -> Trial:
    return Trial(Recipe(name=f"r{size}", layout="codes", codec="float32"), size, 1.0, list(values), ms)


def test_the_frontier_by_hand() -> None:
    small, worse, equal, large, best_one = (
        *(trial(10, 0.2, 0.4), trial(20, 0.1, 0.3), trial(20, 0.2, 0.4)),
        *(trial(30, 0.5, 0.5), trial(30, 0.5, 0.7)),
    )
    found = frontier([large, worse, best_one, equal, small])
    assert found == [small, best_one]
    assert best([large, worse, best_one, small], 25) is small
    assert best([large, worse, best_one, small], 30) is best_one
    assert best([large], 29.9) is None


def test_the_smallest_that_is_not_shown_to_be_worse() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(50)
    chosen = trial(100, *values)
    close = trial(50, *(values + rng.normal(0, 0.1, 50) - 0.005))
    far = trial(20, *(values - 0.2))
    assert smallest_alike([chosen, close, far], chosen) is close
    assert smallest_alike([chosen, far], chosen) is chosen


def test_the_interval_is_the_bootstrap_s(rng: np.random.Generator) -> None:
    assert interval(np.full(7, 0.25)) == (0.25, 0.25)
    values = rng.random(40)
    low, high = interval(values)
    means = sorted(np.mean([values[rng.integers(40)] for _ in range(40)]) for _ in range(4000))
    assert low == pytest.approx(means[100], abs=0.01)
    assert high == pytest.approx(means[3900], abs=0.01)
    assert interval(values) == (low, high)


def test_agreement_by_hand() -> None:
    assert agreement([["a", "b"], ["c"]], [["b", "x"], ["c"]]).tolist() == [0.5, 1.0]


def test_ndcg_counts_a_query_without_an_answer_as_zero() -> None:
    values = ndcg([["x", "d"], ["x"]], [{"d": 1}, {"d": 1}])
    assert values.tolist() == [pytest.approx(1 / np.log2(3)), 0.0]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"codec": "center+pca-96+binary", "alignment": "top-2", "query_weights": "sqrt-idf"},
        {"codec": "center+pca-128+int8", "feedback": "none", "fusion": "minmax:tokens=1,bm25=1"},
        {"reduction": "none", "fusion": "minmax:tokens=1,cls=0.5", "lexical": "none", "feedback": "cls=2"},
        {"reduction": "none", "fusion": "none", "feedback": "none", "query_rows": "all"},
        {"reduction": "saliency-50%", "saliency": True, "alignment": "top-1", "head": "own"},
        {"reduction": "ward-3", "codec": "linear-64+binary", "head": "own", "fusion": "tmm:tokens=1,cls=1"},
    ],
    ids=lambda parts: ":".join(map(str, parts.values())) or "default",
)
def test_a_trial_ranks_and_weighs_as_a_real_collection_does(
    folder: Path, encoder: Encoder, cache: Path, parts: dict[str, Any]
) -> None:
    recipe = get_recipe("default").varied(**parts)
    task = task_of_source(folder)
    workload = Workload(task, CachedEncoder(encoder, cache), 30)
    (coded,) = code(task.texts, workload.encoder, [recipe.for_model(encoder.fingerprint)])
    rankings = by_recipe(workload, coded, coded.recipe)
    result = evaluate(folder, encoder, recipe, cache=cache, candidates=30)
    for run, ranking in zip(result.run.values(), rankings, strict=True):
        scores = [run[id_] for id_ in ranking]  # a sign of a code may flip, which changes them by so much
        assert all(first >= second - 0.02 for first, second in itertools.pairwise(scores))
        assert scores[-1] >= sorted(run.values())[-10] - 0.02
    size = workload.bytes_per_passage(coded.recipe, coded)
    assert size == pytest.approx(result.bytes_per_passage["total"], abs=0.1)
    assert coded.lengths.mean() == pytest.approx(result.tokens_per_passage, abs=0.01)
    grades = [(task.qrels or {})[query] for query in task.queries]
    assert ndcg(rankings, grades).mean() == pytest.approx(result.measures["nDCG@10"], abs=1e-5)


def test_dense_hybrid_and_full_are_measured_as_collections_of_them_are(
    tuning: Tuning, folder: Path, encoder: Encoder, cache: Path
) -> None:
    assert (tuning.dense.recipe, tuning.hybrid.recipe) == (get_recipe("dense"), get_recipe("hybrid"))
    for found in (tuning.dense, tuning.hybrid, tuning.full):
        result = evaluate(folder, encoder, found.recipe, split="train", cache=cache, candidates=50)
        assert found.mean == pytest.approx(result.measures["nDCG@10"], abs=1e-3)
        assert found.bytes_per_passage == pytest.approx(result.bytes_per_passage["total"], abs=0.1)


def test_full_is_every_token_with_all_parts_that_a_search_has(tuning: Tuning) -> None:
    default = get_recipe("default")
    parts = {"reduction": None, "codec": "center+float16", "query_rows": "own", "name": "floats"}
    assert tuning.full.recipe.same_as(default.model_copy(update=parts))


def test_a_sweep_finds_what_fits(tuning: Tuning) -> None:
    assert tuning.finished
    assert tuning.measure == "nDCG@10"
    assert tuning.best is not None
    assert tuning.best.bytes_per_passage <= BUDGET
    assert all(it.bytes_per_passage <= 2.2 * BUDGET for it in tuning.trials)
    assert all(it.mean <= tuning.best.mean for it in tuning.trials if it.bytes_per_passage <= BUDGET)
    assert all(it.ms is not None and it.ms > 0 for it in (*tuning.frontier, tuning.dense))
    assert len({it.recipe.name for it in tuning.trials}) == len(tuning.trials) > 20
    for part in ("reduction", "codec", "query_weights", "fusion", "feedback", "alignment"):
        assert len({getattr(it.recipe, part) for it in tuning.trials}) > 1, f"no other {part} was tried"


def test_a_finished_sweep_is_read_again(
    folder: Path, encoder: Encoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune(task_of_source(folder), encoder, cache, budget=BUDGET, candidates=50)
    monkeypatch.setattr(type(encoder), "forward", None)
    monkeypatch.setattr(sweeping, "by_recipe", None)
    monkeypatch.setattr(sweeping, "milliseconds", None)
    again = tune(task_of_source(folder), encoder, cache, budget=BUDGET, candidates=50)
    assert [it.recipe for it in again.frontier] == [it.recipe for it in first.frontier]
    assert [it.ms for it in again.frontier] == [it.ms for it in first.frontier]


ASKED = {"query_weights": "idf", "fusion": "minmax:tokens=1,bm25=0.5,cls=0.25", "feedback": "none"}
"""Leaves codecs and reductions to be tried."""


class Interrupting:
    """An encoder that is interrupted at its n-th call, and counts the texts that it encoded."""

    def __init__(self, encoder: Encoder, after: int) -> None:
        self._encoder, self._left, self.encoded = encoder, after, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(self, texts: Sequence[str], attention: bool = False) -> Any:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        self.encoded += len(texts)
        return self._encoder.encode_documents(texts, attention)


def test_an_interrupted_sweep_goes_on_without_encoding_again(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.evaluation.tuning.workload.WINDOW", 40)
    monkeypatch.setattr("connector.collection.coding.WINDOW", 40)
    monkeypatch.setattr(
        "connector.evaluation.tuning.search_space._COARSE", ("special+ward-10", "saliency-50%")
    )
    task = task_of_source(folder)
    cut = Interrupting(encoder, after=1)
    with pytest.raises(KeyboardInterrupt):
        tune(task, cut, tmp_path, budget=LITTLE, candidates=50, asked=ASKED)
    whole, trials = Interrupting(encoder, after=9), itertools.count()

    def second_trial(*args: Any) -> Any:
        if next(trials) == 2:
            raise KeyboardInterrupt
        return by_recipe(*args)

    monkeypatch.setattr(sweeping, "by_recipe", second_trial)
    found = tune(task, whole, tmp_path, budget=LITTLE, candidates=50, asked=ASKED)
    assert not found.finished
    assert len(found.trials) == 1
    assert found.frontier == found.trials
    monkeypatch.setattr(sweeping, "by_recipe", by_recipe)
    assert cut.encoded + whole.encoded == DOCUMENTS
    none_left = Interrupting(encoder, after=0)
    result = tune(task, none_left, tmp_path, budget=LITTLE, candidates=50, asked=ASKED)
    assert result.finished
    (kept,) = tmp_path.glob("tune-*")
    shutil.rmtree(kept)
    undisturbed = tune(task, none_left, tmp_path, budget=LITTLE, candidates=50, asked=ASKED)
    assert [it.recipe for it in result.frontier] == [it.recipe for it in undisturbed.frontier]
    assert [it.values for it in result.trials] == [it.values for it in undisturbed.trials]


def test_a_sweep_that_is_ended_at_once_says_so(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    def end(what: str, *_: int) -> None:
        if what == "Reducing":
            raise KeyboardInterrupt

    result = tune(task_of_source(folder), encoder, tmp_path, budget=BUDGET, progress=end)
    assert not result.finished
    assert result.trials == []
    assert result.best is None
    assert "Interrupted before all was tried and timed" in "".join(map(str, tuning_lines(result, None)))


def test_a_damaged_file_of_the_cache_is_made_again(
    folder: Path, encoder: Encoder, cache: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(cache, tmp_path / "copy")
    first = tune(task_of_source(folder), encoder, copy, budget=BUDGET, candidates=50)
    (kept,) = copy.glob("tune-*")
    trials = sorted(kept.glob("*.json"))
    for file in trials[:5]:
        file.write_bytes(file.read_bytes()[:20])
    for file, content in zip([*trials[5:], kept / "full.json"], ["[]", '{"bytes": "x"}', "3"], strict=False):
        file.write_text(content)
    (kept / "full.json").write_text("{}")
    again = tune(task_of_source(folder), encoder, copy, budget=BUDGET, candidates=50)
    assert [it.recipe for it in again.frontier] == [it.recipe for it in first.frontier]


def test_queries_and_judgements_may_be_files_of_their_own(folder: Path, tmp_path: Path) -> None:
    judged = load_judged(folder, "train")
    qrels, queries = tmp_path / "qrels.txt", folder / "queries.jsonl"
    write_qrels(judged.qrels, qrels)
    whole = task_of_source(folder)
    (tmp_path / "docs.jsonl.gz").write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    apart = task_of_source(tmp_path / "docs.jsonl.gz", queries=queries, qrels=qrels)
    assert (apart.passages, apart.queries, apart.qrels) == (whole.passages, whole.queries, whole.qrels)
    assert apart.asked == "judged queries"
    assert task_of_source(folder, qrels=qrels).qrels == whole.qrels
    with pytest.raises(SourceError, match="is not a folder"):
        task_of_source(tmp_path / "docs.jsonl.gz", qrels=qrels)


def test_a_budget_below_the_cls_vector_is_refused(folder: Path, encoder: Encoder, cache: Path) -> None:
    with pytest.raises(InputError, match="a CLS vector alone takes 196"):
        tune(task_of_source(folder), encoder, cache, budget=196)
    with pytest.raises(InputError, match=r"a CLS vector and its words take \d+; give more"):
        tune(task_of_source(folder), encoder, cache, budget=197, candidates=50)


def test_every_combination_is_a_recipe_and_neighbours_are_mutual() -> None:
    space = Space(384, "own")
    points = set(space.coarse())
    for _ in range(2):
        points |= set(space.around(points))
    assert len(points) > len(space.coarse())
    for point in points:
        near = set(space.neighbours(point))
        assert point not in near
        assert all(point in set(space.neighbours(it)) for it in near)
        assert 0 < point.share <= 1
    for point in sorted(points, key=repr)[::97]:
        recipe = space.recipe(point)
        assert recipe.saliency == point.prunes == point.reduction.startswith("saliency")
        assert (recipe.head is None) != (point.prunes or "linear" in point.codec)
    assert len({space.recipe(it).name for it in points}) == len(points)


def test_what_is_tried_first_is_little_and_of_many_sizes() -> None:
    for space in (Space(384), Space(384, "own")):
        assert len(space.coarse()) <= 60
    sizes = [
        space.recipe(it).make_codec().bytes_per_token(384) * it.share for it in space.coarse()
    ]  # of a token of text
    assert min(sizes) < 1
    assert max(sizes) > 500
    default = get_recipe("default")
    start = Space(384).recipe(Point("special+ward-4", "center+pca-256+binary"))
    assert start.same_as(default), start.differences(default)


def test_codecs_that_change_nothing_and_heads_that_nobody_gave_are_not_tried() -> None:
    assert {it.codec for it in Space(384).coarse()} == set(CODECS)
    narrow = {it.codec for it in Space(128).coarse()}
    assert set(CODECS) - narrow == {f"center+pca-{it}+binary" for it in (128, 192, 256)}
    assert {it.codec for it in Space(384, "own").coarse()} >= set(TRAINED)


def test_what_is_given_is_not_tried() -> None:
    asked = {"query_rows": "all", "fusion": "tmm:tokens=1,cls=0.3", "feedback": "none", "query_weights": None}
    space = Space(384, asked=asked)
    points = space.around(space.coarse())
    recipes = [space.recipe(it) for it in points]
    assert {(it.query_rows, it.fusion, it.feedback, it.lexical) for it in recipes} == {
        ("all", "tmm:tokens=1,cls=0.3", None, None)
    }
    assert {it.query_weights for it in recipes} == {"idf", "sqrt-idf"}
    unjudged = Space(384, judged=False)
    assert {(it.weights, it.fusion, it.feedback) for it in unjudged.around(unjudged.coarse())} == {
        (it.weights, it.fusion, it.feedback) for it in [Point("special", "center+binary")]
    }
    for wrong, said in (
        ({"codec": "binary"}, "codec cannot be given to all"),
        ({"fusion": "minmax:bm25=1"}, "leaves tokens out"),
        ({"feedback": "codes=x"}, "feedback"),
    ):
        with pytest.raises(RecipeError, match=said):
            Space(384, asked=wrong)


def test_what_an_encoder_lacks_is_left_out_with_the_reason(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise MissingExtra("faiss-cpu", "faiss")

    monkeypatch.setattr("connector.compression.codecs.vector_quantization.faiss", missing)
    space = Space(encoder.token_width, "own")
    residual = space.recipe(Point("special", "center+pca-128+residual-2"))
    assert "faiss" in str(usable(residual, encoder))
    other = replace_fingerprint(encoder)
    pruned = next(it for it in space.coarse() if it.prunes)
    assert "no head comes" in str(usable(space.recipe(pruned), other))
    pooled = usable(space.recipe(Point("special+ward-2", "linear-128+binary")), other)
    assert isinstance(pooled, Recipe)
    assert pooled.codec == "pca-128+binary"
    with pytest.raises(RecipeError, match="head own: none comes with this library"):
        space.check_head(other)


def replace_fingerprint(encoder: Encoder) -> Any:
    class Other:
        fingerprint = "another"
        token_width = encoder.token_width
        late_interaction = False

    return Other()


def test_a_task_takes_dev_then_train_and_never_test_unasked(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert task_of_source(copy).asked == "judged queries of split train"
    shutil.copy(copy / "qrels" / "train.tsv", copy / "qrels" / "dev.tsv")
    assert task_of_source(copy).asked == "judged queries of split dev"
    for split in ("dev", "train"):
        (copy / "qrels" / f"{split}.tsv").unlink()
    with pytest.raises(SourceError, match="judgements for test, neither for dev nor for train; choose with"):
        task_of_source(copy)
    assert task_of_source(copy, split="test").qrels
    with pytest.raises(SourceError, match="no judgements for split 'other'"):
        task_of_source(copy, split="other")


def test_a_sample_keeps_what_answers_and_its_order(folder: Path) -> None:
    whole = task_of_source(folder)
    part = task_of_source(folder, most_passages=30, most_queries=5)
    assert len(part.passages) == 30
    assert (part.documents, part.sampled) == (DOCUMENTS, 30)
    assert len(part.queries) == 5
    ids = [it.document.id for it in part.passages]
    assert {answer for answers in (part.qrels or {}).values() for answer in answers} <= set(ids)
    order = [it.document.id for it in whole.passages]
    assert [order.index(it) for it in ids] == sorted(order.index(it) for it in ids)
    assert part.digest != whole.digest
    assert task_of_source(folder, most_passages=30, most_queries=5) == part


def test_a_sample_draws_every_document_alike(tmp_path: Path) -> None:
    home = tmp_path / "many"
    home.mkdir()
    write(
        home / "corpus.jsonl",
        [{"_id": str(n), "text": f"Text number {n} has some words here."} for n in range(2000)],
    )
    drawn = [int(it.document.id) for it in task_of_source(home, most_passages=200).passages]
    assert len(set(drawn)) == 200
    assert abs(np.mean(drawn) - 1000) < 4 * 2000 / np.sqrt(12 * 200)


def test_without_judgements_recipes_agree_with_every_token(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    home = shutil.copytree(folder, tmp_path / "unjudged", ignore=shutil.ignore_patterns("qrels"))
    task = task_of_source(home)
    assert task.qrels is None
    assert task.asked == "queries without judgements"
    result = tune(task, encoder, folder.parent / "cache", budget=LITTLE, candidates=50)
    assert result.measure == "agreement@10"
    assert result.full.mean == 1.0
    assert result.best is not None
    assert 0 < result.best.mean < 1
    (home / "queries.jsonl").unlink()
    sentences = task_of_source(home, most_queries=8)
    assert sentences.asked == "sentences of the passages"
    assert len(sentences.queries) == 8
    texts = " ".join(it.text for it in sentences.passages)
    assert all(sentence in texts for sentence in sentences.queries.values())
    with pytest.raises(SourceError, match="leave --split out"):
        task_of_source(home, split="train")


def test_a_collection_is_tuned_by_examples(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    source = task_of_source(folder)
    with Connector.create("docs", path=tmp_path, recipe="compact", model=encoder) as connector:
        connector.ingest([it.document for it in source.passages], chunk_tokens=64)
        answers = {query: next(iter(grades)) for query, grades in (source.qrels or {}).items()}
        examples = [(source.queries[query], answer) for query, answer in answers.items()]
        task = task_of_collection(connector.collection, examples=examples)
        assert task.documents == DOCUMENTS
        assert len(task.passages) > DOCUMENTS  # as they were split
        assert task.asked == "examples"
        result = tune(task, encoder, tmp_path / "cache", budget=LITTLE, candidates=50)
        assert result.best is not None
        assert result.best.mean > 0.5
        with pytest.raises(InputError, match="'docs' holds no document 'nowhere'"):
            task_of_collection(connector.collection, examples=[*examples, ("a query", "nowhere")])
        assert task_of_collection(connector.collection).asked == "sentences of the passages"
        files = {"queries": folder / "queries.jsonl", "qrels": folder / "qrels" / "train.tsv"}
        judged = task_of_collection(connector.collection, **files)
        assert (judged.queries, judged.qrels, judged.asked) == (
            source.queries,
            source.qrels,
            "judged queries",
        )
        with pytest.raises(InputError, match=r"train\.tsv judges queries whose texts are not given"):
            task_of_collection(connector.collection, qrels=files["qrels"])


def test_examples_take_the_place_of_a_folder_s_judgements(folder: Path) -> None:
    whole = task_of_source(folder)
    first, second = list(whole.queries.values())[:2]
    ids = [it.document.id for it in whole.passages]
    task = task_of_source(folder, examples=[(first, ids[5]), (first, ids[6]), (second, ids[7])])
    assert task.asked == "examples"
    assert task.qrels == {first: {ids[5]: 1, ids[6]: 1}, second: {ids[7]: 1}}
    with pytest.raises(InputError, match="'docs' holds no document 'nowhere'"):
        task_of_source(folder, examples=[(first, "nowhere"), (second, ids[7])])


@pytest.mark.parametrize("content", [[], [{"_id": "1", "text": "One short text."}]])
def test_too_little_is_refused(tmp_path: Path, content: list[dict[str, Any]]) -> None:
    write(tmp_path / "docs.jsonl", content)
    with pytest.raises(SourceError, match=r"holds no document|too few queries for docs.jsonl: [01]"):
        task_of_source(tmp_path / "docs.jsonl")


def run(*command: str) -> Any:
    return CliRunner().invoke(main, ["tune", *command])


def test_the_command_from_end_to_end(folder: Path, cache: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("page.html", "mine.json")}
    command = [str(folder), "--budget", f"{BUDGET}B", "--candidates", "50", "--cache", str(cache)]
    outputs = ["--html", str(files["page.html"]), "--save", str(files["mine.json"])]
    result = run(*command, *outputs)
    assert result.exit_code == 0, result.output
    assert "◄ best in the budget" in result.stdout
    assert "12 judged queries of split train, 90 passages" in result.stdout
    assert f"--recipe {files['mine.json']}" in result.stdout
    assert '<circle class="best"' in files["page.html"].read_text(encoding="utf-8")
    content = json.loads(run(*command, "--json").stdout)
    assert content["finished"] is True
    assert content["best"]["bytes_per_passage"] <= BUDGET
    saved = get_recipe(str(files["mine.json"]))
    assert saved.same_as(Recipe.model_validate(content["best"]["recipe"]))
    evaluated = CliRunner().invoke(
        main, ["evaluate", str(folder), "--recipe", str(files["mine.json"]), "--cache", str(cache), "--json"]
    )
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["bytes_per_passage"]["total"] == content["best"]["bytes_per_passage"]
    place = ["--collection", "docs", "--path", str(tmp_path / "qdrant"), "--recipe", str(files["mine.json"])]
    assert CliRunner().invoke(main, ["ingest", str(folder), *place]).exit_code == 0
    with Connector.open("docs", path=tmp_path / "qdrant") as connector:
        assert connector.recipe.same_as(saved)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--budget", "1KB"], "give one of SOURCE and --collection NAME"),
        (["docs", "--collection", "docs", "--budget", "1KB"], "give one of SOURCE and --collection NAME"),
        (["docs", "--budget", "lots"], "'lots' is not a size; give bytes a passage, such as 768, 1KB or 2MB"),
        (["docs", "--budget", "1KB", "--path", "x"], "--path goes with --collection"),
        (
            ["docs", "--budget", "1KB", "--examples", "x", "--queries", "y"],
            "one of --examples FILE and --queries",
        ),
        (
            ["docs", "--budget", "1KB", "--examples", "x", "--split", "dev"],
            "one of --examples FILE and --split",
        ),
        (
            ["--collection", "docs", "--path", "x", "--split", "dev", "--budget", "1KB"],
            "--split goes with SOURCE",
        ),
        (["--collection", "docs", "--budget", "1KB"], "give one of --path DIR (embedded) and --url URL"),
        (["docs"], "Missing option '--budget'"),
    ],
)
def test_wrong_usage_is_told(command: list[str], said: str) -> None:
    result = run(*command)
    assert result.exit_code == 2
    assert said in result.output


def test_a_folder_that_is_not_there_is_told_before_anything_is_done(folder: Path) -> None:
    for option, ending in (("--html", ".html"), ("--save", ".json")):
        result = run(str(folder), "--budget", "1KB", option, f"no/such/file{ending}")
        assert result.exit_code == 1
        assert "there is no folder 'no/such'; make it first" in result.output


def test_what_no_recipe_can_ask_by_is_told_before_anything_is_done(folder: Path, tmp_path: Path) -> None:
    for option, value, said in (
        ("--fusion", "minmax:bm25=1", "fusion minmax:bm25=1 leaves tokens out"),
        ("--feedback", "word", "feedback 'word' is not known"),
        ("--query-rows", "few", "query_rows"),
        ("--query-weights", "2", "query_weights"),
    ):
        result = run(str(folder), "--budget", "1KB", "--cache", str(tmp_path / "cache"), option, value)
        assert result.exit_code == 1
        assert said in result.output
    assert not (tmp_path / "cache").exists()


def test_a_file_of_another_kind_is_told(folder: Path) -> None:
    result = run(str(folder), "--budget", "1KB", "--save", "file.txt")
    assert result.exit_code == 1
    assert "'file.txt': give a file that ends in .json" in result.output


def test_a_head_of_one_s_own_is_used_where_it_is_needed(
    folder: Path, encoder: Encoder, cache: Path, tmp_path: Path
) -> None:
    own = head_folder("all-MiniLM-L6-v2")
    task = task_of_source(folder, most_queries=4)
    found = tune(task, encoder, cache, budget=LITTLE, candidates=50, head=own)
    heads = {("linear" in str(it.recipe.codec), it.recipe.head) for it in found.trials}
    assert (True, own) in heads
    assert all(head in (None, own) for _, head in heads)
    for nowhere in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RecipeError, match="head "):
            tune(task, encoder, tmp_path / "cache", budget=230, head=str(nowhere))
    assert not (tmp_path / "cache").exists()


def test_nothing_to_compare_by_is_told(
    folder: Path, encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(InputError, match="there are examples of 0 queries; give at least 2"):
        task_of_source(copy, examples=[])
    qrels = copy / "qrels" / "train.tsv"
    lines = qrels.read_text().splitlines()
    qrels.write_text("\n".join([*lines[:-1], "q1\tnowhere\t1"]))
    assert task_of_source(copy).qrels
    assert "lacks 1 of 12 judged documents, such as 'nowhere'" in caplog.text
    qrels.write_text("q1\tnowhere\t1\nq2\tneither\t1\n")
    with pytest.raises(SourceError, match="copy holds none of the judged documents, such as 'neither'"):
        task_of_source(copy)
    few = tmp_path / "few"
    few.mkdir()
    lines = (folder / "corpus.jsonl").read_text().splitlines()
    (few / "corpus.jsonl").write_text("\n".join(lines[:7]))
    with pytest.raises(InputError, match="few has 7 documents, and recipes are compared by their 10 best"):
        tune(task_of_source(few), encoder, tmp_path / "cache", budget=BUDGET)


def test_a_recipe_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.json cannot be read"):
        get_recipe(str(tmp_path / "gone.json"))
    (tmp_path / "bad.json").write_text('{"name": "x", "layout": "codes"}')
    with pytest.raises(RecipeError, match=r"bad\.json: not a valid recipe: layout codes with codec None"):
        get_recipe(str(tmp_path / "bad.json"))
    with pytest.raises(RecipeError, match=r"or give a \.json file"):
        get_recipe("unknown")


EVIL = "</title><script>window.evil = 1</script>\"'&"


def made_up(**parts: Any) -> Tuning:
    points = [trial(300, 0.2, 0.4, ms=1.0), trial(900, 0.6, 0.7, ms=2.0), trial(800, 0.1, 0.2)]
    task = Task(EVIL, [], 0, {"q": "x"}, None, EVIL)
    dense, hybrid, full = trial(1536, 0.3, 0.3, ms=0.5), trial(500, 0.4, 0.4), trial(99_000, 0.7, 0.7)
    arguments: dict[str, Any] = {
        **{"task": task, "model": EVIL, "measure": "nDCG@10", "budget": 1000.0, "candidates": 9},
        **{
            "dense": dense,
            "hybrid": hybrid,
            "full": full,
            "trials": points,
            "left_out": [],
            "finished": True,
        },
    }
    return Tuning(**(arguments | parts))


def test_the_page_takes_no_text_for_markup() -> None:
    html = page(made_up())
    assert EVIL not in html
    assert html.count("<script>") == 1
    assert html.count("<circle") == 3
    assert "r900: 900 bytes, nDCG@10 0.6500 (0.600–0.700), 1.0 tokens a passage, 2.0 ms a query" in html


@pytest.mark.parametrize("only", [0, 1])
def test_few_points_are_drawn_too(only: int) -> None:
    tuning = made_up(trials=[trial(300, 0.5, 0.5)], budget=1000.0 if only else 200.0)
    assert page(tuning).count("<circle") == 1


def test_the_page_in_a_browser(tmp_path: Path, browser: Any) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(made_up()), encoding="utf-8")
    tab, said = browser.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(file.as_uri())
    hint = tab.inner_text("#told")
    tab.hover("circle.best")
    assert tab.inner_text("#told").startswith("r900: 900 bytes")
    tab.mouse.move(0, 0)
    assert tab.inner_text("#told") == hint
    tab.keyboard.press("Tab")
    assert tab.inner_text("#told").startswith("r300: 300 bytes")
    assert tab.evaluate("window.evil") is None
    assert said == []
    tab.close()
