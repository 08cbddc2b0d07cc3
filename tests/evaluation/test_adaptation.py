"""Adaptation: what is tried scores as a search does, the pick by hand, and what is stored of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from click.testing import CliRunner, Result
from ir_measures import nDCG
from safetensors.numpy import save_file

from connector import Connector, Document, Encoder, Recipe
from connector.cli import main
from connector.cli.render import show
from connector.cli.results import adaptation_lines
from connector.collection.search.candidates import Plan
from connector.collection.search.options import SearchOptions, search_options
from connector.collection.search.search import rank
from connector.core.errors import CollectionError, DocumentError, InputError, SourceError
from connector.evaluation.adaptation import (
    Adaptation,
    Measured,
    leave_one_out,
    pick,
    scored_by,
    steps_between,
    steps_from,
    strategies_from,
)
from connector.evaluation.beir import load_examples
from connector.evaluation.metrics import ndcg
from connector.evaluation.ranking import best_first
from connector.scoring.alignment import Alignment, TopK, TopP
from connector.scoring.feedback import Feedback
from connector.scoring.fusion import Fusion, parse_fusion
from connector.scoring.strategy import Strategy, weighted
from tests.conftest import TEXTS

QUERY = "How do honeybees tell each other the way?"


def mine(**parts: Any) -> Recipe:
    return Recipe(name="mine", **{"layout": "codes", "codec": "float32", **parts})


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A head that finds tokens more or less salient by their first coordinate."""
    folder = tmp_path_factory.mktemp("head")
    weight = np.zeros((1, 384), np.float32)
    weight[0, 0] = 10
    sides = ("query", "document")
    arrays = {f"{side}.weight": weight for side in sides}
    arrays |= {f"{side}.bias": np.array([0.5], np.float32) for side in sides}
    save_file(arrays, folder / "model.safetensors")
    settings = {"query_share": 0.8, "document_share": 0.5, "epsilon": 0.1}
    (folder / "config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture
def make(tmp_path: Path, encoder: Encoder, documents: list[Document]) -> Iterator[Callable[..., Connector]]:
    """The twelve documents under a recipe."""
    made: list[Connector] = []

    def create(recipe: str | Recipe = "compact", **chunks: int) -> Connector:
        made.append(Connector.create("docs", path=tmp_path / "qdrant", recipe=recipe, model=encoder))
        made[-1].ingest(documents, **chunks)
        return made[-1]

    yield create
    for connector in made:
        connector.close()


def telling(connector: Connector, alignment: str) -> list[tuple[str, str]]:
    """Examples in which this alignment's best document is not what the collection finds now."""
    words = sorted({word.strip(".,") for text in TEXTS for word in text.split()})
    queries = [f"{first} {second}" for first, second in zip(words, words[7:], strict=False)]
    embeddings = connector.encoder.encode_queries(queries)
    examples: list[tuple[str, str]] = []
    for query, embedding in zip(queries, embeddings, strict=True):
        now = rank(connector.collection, embedding, SearchOptions(k=1, rerank="client"))
        then = rank(connector.collection, embedding, search_options(k=1, alignment=alignment))
        (answer,) = then.scores()
        if answer not in now.scores():
            examples.append((query, answer))
    return examples[:8]


# --- what is tried ---


def summed(alignment: Alignment | None, cls: float | None = None) -> Strategy:
    """w · CLS + (1 − w) · tokens."""
    return Strategy(alignment, weighted(cls))


STRATEGIES = strategies_from(summed(TopK(1)))


def test_the_strategies_that_are_tried() -> None:
    aligned = ["top-2", "top-4", "top-6", "top-8", "top-0.5%", "top-1%", "top-1.5%", "top-2%", "top-1"]
    shares = ["", ", sum:tokens=0.75,cls=0.25", ", sum:tokens=0.5,cls=0.5"]
    names = [strategy.name for strategy in STRATEGIES]
    assert sorted(names) == sorted(f"{name}{share}" for name in aligned for share in shares)
    assert names[0] == "top-1"


def test_what_is_tried_where_parts_are_scaled() -> None:
    start = Strategy(None, parse_fusion("minmax:tokens=1,bm25=0.5,cls=0.25"), Feedback(codes=3))
    tried = strategies_from(start, words=True, codes=True)
    assert tried[0] == start
    assert len(tried) == len(set(tried)) == 1 + 8 + 15 + 2
    changed = [
        [it.alignment != start.alignment, it.fusion != start.fusion, it.feedback != start.feedback]
        for it in tried[1:]
    ]
    assert all(sum(it) == 1 for it in changed)  # one thing at a time
    assert {it.feedback for it in tried} == {None, Feedback(codes=1), Feedback(codes=3)}
    assert (np.diff(steps_from(tried)) >= 0).all()
    wordless = strategies_from(Strategy(None, Fusion("minmax", tokens=1, cls=0.5)))
    assert all(not it.fusion.bm25 and it.feedback is None for it in wordless)


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        (summed(TopK(1)), summed(TopK(1)), 0),
        (summed(TopK(1)), summed(TopK(8)), 4),
        (summed(TopK(1)), summed(TopP(0.5)), 1),
        (summed(TopK(2)), summed(TopP(1)), 3),
        (summed(TopP(2)), summed(TopP(0.5), 0.5), 5),
        (summed(TopK(3)), summed(TopK(4)), 1),
        (summed(TopK(1), 0.3), summed(TopK(1), 0.25), 1),
        (summed(None, 0.25), summed(TopK(1), 0.25), 1),
        (summed(TopK(20), 1.0), summed(TopK(8), 0.5), 2),
    ],
)
def test_steps_between_strategies(one: Strategy, other: Strategy, steps: int) -> None:
    assert steps_between(one, other) == steps_between(other, one) == steps


def test_strategies_are_ordered_by_their_steps_from_the_one_in_use() -> None:
    ordered = strategies_from(summed(TopK(4), 0.25))
    assert len(ordered) == len(STRATEGIES) == len(set(ordered))
    assert [it.name for it in ordered[:5]] == [
        "top-4, sum:tokens=0.75,cls=0.25",
        "top-4",
        "top-2, sum:tokens=0.75,cls=0.25",
        "top-6, sum:tokens=0.75,cls=0.25",
        "top-4, sum:tokens=0.5,cls=0.5",
    ]
    assert (np.diff(steps_from(ordered)) >= 0).all()
    assert len(strategies_from(summed(TopK(3)))) == len(STRATEGIES) + 1


SCORED: dict[str, dict[str, Any]] = {
    "codes": {"codec": "pca-64+binary", "reduction": "ward-2"},
    "codes, query weights": {"query_reduction": "idf-weight"},
    "multivector": {"layout": "multivector", "codec": "float16"},
    "codes, saliency": {"saliency": True, "codec": "pca-64+binary"},
    "multivector, saliency": {"saliency": True, "layout": "multivector", "codec": "float16"},
}


@pytest.mark.parametrize("case", SCORED)
def test_every_strategy_scores_as_a_search_with_it(
    case: str, make: Callable[..., Connector], head: str
) -> None:
    parts = SCORED[case] | ({"head": head} if SCORED[case].get("saliency") else {})
    connector = make(mine(**parts), chunk_tokens=12)
    collection, query = connector.collection, connector.encoder.encode_queries([QUERY])[0]
    plan = Plan.of(collection, query, SearchOptions(rerank="client"), "cpu")
    found = replace(plan, fusion=Fusion("minmax", tokens=1, cls=1)).candidates(plan.limit)
    for strategy in STRATEGIES:
        assert strategy.alignment is not None
        scored = scored_by(plan, strategy, found)
        records = scored.found.records
        assert {record.id for record in records} == {record.id for record in found.records}
        passages = [(record.payload["id"], record.payload["passage"]) for record in records]
        hits = connector.search(QUERY, fusion=strategy.fusion, alignment=strategy.alignment.spec)
        assert best_first(passages, scored.totals.tolist())[:10] == [hit.id for hit in hits], strategy
        if "multivector" in case and strategy == STRATEGIES[0]:  # by Qdrant, a sum
            continue
        best: dict[str, float] = {}
        for record, score in zip(records, scored.totals.tolist(), strict=True):
            best[record.payload["id"]] = max(score, best.get(record.payload["id"], -9))
        assert [best[hit.id] for hit in hits] == pytest.approx(
            [hit.score for hit in hits], abs=1e-2 if "multivector" in case else 1e-4
        )  # Qdrant rounds queries


def test_ndcg_is_that_of_ir_measures(rng: np.random.Generator) -> None:
    documents = [f"d{number}" for number in range(30)]
    for _ in range(20):
        ranking = rng.permutation(documents)[:15].tolist()
        grades = {it: int(rng.integers(-1, 4)) for it in rng.choice(documents, 12, replace=False).tolist()}
        run = {"q": {document: float(-place) for place, document in enumerate(ranking)}}
        (expected,) = ir_measures.iter_calc([nDCG @ 10], {"q": grades}, run)
        assert ndcg([ranking], [grades]) == pytest.approx(expected.value, abs=1e-9)
    assert ndcg([documents, []], [{"d0": 0}, {"d0": 1}]).tolist() == [0, 0]


# --- the pick ---

IN_USE = [0.0, 0.0, 0.0, 0.0]
ONCE = [1.0, 0.0, 0.0, 0.0]
"""Better by 1/4 on the mean, with a standard error of 1/4."""
THRICE = [0.5, 0.5, 0.5, 0.0]
"""Better by 3/8, with a standard error of 1/8."""


@pytest.mark.parametrize(
    ("rows", "steps", "picked"),
    [
        ([IN_USE, THRICE], [0, 1], 1),
        ([IN_USE, THRICE], [0, 2], 1),
        ([IN_USE, THRICE], [0, 3], 0),  # not by more than three standard errors
        ([IN_USE, ONCE], [0, 1], 0),  # one lucky example is never enough
        ([IN_USE, [-0.1, -0.1, -0.1, -0.1]], [0, 1], 0),
        ([IN_USE, THRICE, THRICE[::-1]], [0, 1, 1], 1),  # of equal ones the first
        ([IN_USE, THRICE, [1.0, 1.0, 0.0, 0.0]], [0, 1, 1], 1),  # 1/4 beyond its error; 1/2 − 0.289
        ([IN_USE, THRICE, [0.3, 0.3, 0.3, 0.3]], [0, 1, 9], 2),  # what is sure costs nothing
        ([IN_USE, IN_USE], [0, 1], 0),
    ],
)
def test_the_pick_by_hand(rows: list[list[float]], steps: list[int], picked: int) -> None:
    assert pick(np.array(rows), np.array(steps)) == picked


def test_one_example_picks_nothing() -> None:
    assert pick(np.array([[0.0], [1.0]]), np.array([0, 1])) == 0


def test_the_order_of_examples_changes_nothing(rng: np.random.Generator) -> None:
    steps = np.array([0, 1, 2, 2, 3])
    for _ in range(50):
        values = rng.choice([0, 0.63, 1], (5, 8))
        assert pick(values, steps) == pick(values[:, rng.permutation(8)], steps)


def test_leave_one_out_is_a_mean_of_what_others_pick(rng: np.random.Generator) -> None:
    steps, picks = np.array([0, 1, 2, 3]), set()
    for _ in range(20):
        values = rng.random((4, 6)) + np.array([0, 0.2, 0.4, 0.5])[:, None]
        total = 0.0
        for left in range(6):
            others = [number for number in range(6) if number != left]
            chosen = 0
            best = 0.0
            for number in range(1, 4):
                gains = [values[number, other] - values[0, other] for other in others]
                mean = sum(gains) / 5
                error = (sum((gain - mean) ** 2 for gain in gains) / 4 / 5) ** 0.5
                if mean - steps[number] * error > best:
                    chosen, best = number, mean - steps[number] * error
            total += values[chosen, left]
            picks.add(chosen)
        assert leave_one_out(values, steps) == pytest.approx(total / 6)
    assert len(picks) > 2


# --- a collection ---


@pytest.mark.parametrize("recipe", ["compact", "pooled"])
def test_a_saved_choice_is_followed(
    recipe: str, make: Callable[..., Connector], encoder: Encoder, tmp_path: Path
) -> None:
    connector = make(recipe)
    examples = telling(connector, "top-6")
    result = connector.adapt(examples, save=True)
    assert result.saved
    assert result.before == Measured(summed(TopK(1)), result.results[0].ndcg)
    assert result.chosen.ndcg > result.before.ndcg
    assert (result.queries, result.missing) == (8, ())
    assert len(result.results) == len(STRATEGIES)
    chosen = result.chosen.strategy
    assert connector.collection.strategy == chosen
    assert chosen.alignment is not None
    expected = connector.search(QUERY, alignment=chosen.alignment.spec, fusion=chosen.fusion)
    connector.close()
    with Connector.open("docs", path=tmp_path / "qdrant", model=encoder) as again:
        assert again.collection.strategy == chosen
        found = again.search(QUERY)
        assert [(hit.id, hit.parts) for hit in found] == [(hit.id, hit.parts) for hit in expected]
        repeated = again.adapt(examples, save=True)
        assert (repeated.chosen.strategy, repeated.saved) == (chosen, False)  # it climbs no further
        again.collection.adapt(None)
        assert (
            again.collection.strategy == repeated.before.strategy
            or again.collection.strategy.alignment is None
        )
        assert again.adapt(examples).chosen.strategy == chosen


def test_the_means_are_those_of_searches(make: Callable[..., Connector]) -> None:
    connector = make("compact")
    examples = telling(connector, "top-6")
    examples.append((examples[0][0], "doc 3"))  # another answer to the first
    answers: dict[str, dict[str, int]] = {}
    for query, answer in examples:
        answers.setdefault(query, {})[answer] = 1
    for result in connector.adapt(examples).results[:4]:
        strategy = result.strategy
        assert strategy.alignment is not None
        spec = strategy.alignment.spec
        runs = {query: connector.search(query, alignment=spec, fusion=strategy.fusion) for query in answers}
        values = ndcg([[hit.id for hit in runs[query]] for query in answers], answers.values())
        assert result.ndcg == pytest.approx(values.mean())


def test_nothing_is_written_but_the_choice(
    make: Callable[..., Connector], monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = make("compact")
    examples, store = telling(connector, "top-6"), connector.collection.store
    info, points = store.info("docs"), contents(connector)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in ("upsert", "delete", "put_artifact", "claim_artifact"):
        monkeypatch.setattr(store, name, refuse)
    monkeypatch.setattr(connector.encoder, "encode_documents", refuse)
    result = connector.adapt(examples)
    assert not result.saved
    assert result.chosen != result.before
    assert store.info("docs") == info
    assert connector.adapt(examples, save=True).saved
    changed = {key for key, value in store.info("docs").items() if info.get(key) != value}
    assert changed
    assert changed <= {"alignment", "adapted_weight", "fusion", "feedback"}
    assert contents(connector) == points


def contents(connector: Connector) -> list[Any]:
    store = connector.collection.store
    return [
        (record.id, record.payload["codes"], record.vectors["cls"].tobytes())
        for record in store.scroll("docs", ["codes"], ["cls"])
    ]


def test_what_is_in_use_stays_where_examples_say_nothing(make: Callable[..., Connector]) -> None:
    connector = make(mine(alignment="top-3"))
    before = connector.collection.store.info("docs")
    sure = [(text, f"doc {number}") for number, text in enumerate(TEXTS[:8])]
    result = connector.adapt(sure, save=True)
    assert not result.saved
    assert result.chosen is result.before is result.results[0]
    assert result.before.strategy.name == "top-3"
    assert result.before.ndcg == result.leave_one_out == 1
    assert connector.collection.store.info("docs") == before


def test_a_share_of_cls_that_came_with_the_model_is_what_is_in_use(make: Callable[..., Connector]) -> None:
    connector = make("compact")
    store, encoder = connector.collection.store, connector.encoder
    store.set_info("docs", {"cls_weight": "0.3"})
    connector.close()
    with Connector.open("docs", path=store.location, model=encoder) as it:
        assert it.collection.strategy == summed(None, 0.3)
        result = it.adapt([(text, f"doc {number}") for number, text in enumerate(TEXTS[:3])])
        assert result.before.strategy.name == "MaxSim, sum:tokens=0.7,cls=0.3"
        assert len(result.results) == len(STRATEGIES) + 1


def test_examples_without_an_answer_among_the_candidates_count_as_zero(
    make: Callable[..., Connector],
) -> None:
    connector = make("compact")
    ranked = connector.search(QUERY, 12, candidates_by="dense", rerank=None)
    last = ranked[-1].id
    result = connector.adapt([(QUERY, last), (TEXTS[0], "doc 0"), (TEXTS[1], "doc 1")], candidates=10)
    assert result.missing == (QUERY,)
    assert result.before.ndcg == pytest.approx(2 / 3)
    with pytest.raises(InputError, match=r"none of the 2 queries .* its candidates.*--candidates"):
        connector.adapt([(QUERY, last), (QUERY + " And why?", last)], candidates=10)


BAD: dict[str, tuple[Sequence[tuple[Any, Any]], str]] = {
    "none": ([], "examples of 0 queries; give at least 2"),
    "one query": ([("bees", "doc 7"), ("bees", "doc 1")], "examples of 1 queries"),
    "blank": ([("bees", "doc 7"), (" \n", "doc 1")], "example 2 has the query"),
    "no text": ([(7, "doc 7"), ("bees", "doc 1")], "example 1 has the query 7"),
    "no id": ([("bees", "doc 7"), ("otters", "")], "example 2, 'otters', has the id ''"),
    "unknown": ([("bees", "doc 7"), ("otters", "doc 77")], "no document 'doc 77'; give ids"),
    "no pair": (["ab", "cd"], "example 1 is 'ab'; give a pair"),  # type: ignore[list-item]
    "three": ([("a", "b", "c")], "example 1 is .*; give a pair"),  # type: ignore[list-item]
    "unknown, many": ([("a", f"{i}") for i in range(7)] + [("b", "doc 1")], "'4' and 2 more; give"),
}


@pytest.mark.parametrize("case", BAD)
def test_examples_that_cannot_be_used(case: str, make: Callable[..., Connector]) -> None:
    examples, says = BAD[case]
    with pytest.raises(InputError, match=says):
        make("compact").adapt(examples, save=True)


def test_characters_that_no_tokenizer_keeps(make: Callable[..., Connector]) -> None:
    with pytest.raises(DocumentError, match="NUL"):
        make("compact").adapt([("bees\0", "doc 7"), ("otters", "doc 0")])


def test_a_collection_without_tokens(make: Callable[..., Connector]) -> None:
    connector = make("dense")
    with pytest.raises(CollectionError, match=r"stores no tokens .* --recipe"):
        connector.adapt([("bees", "doc 7"), ("otters", "doc 0")])
    connector.close()
    with pytest.raises(InputError, match="closed"):
        connector.adapt([("bees", "doc 7"), ("otters", "doc 0")])


def test_an_empty_collection(tmp_path: Path, encoder: Encoder) -> None:
    with (
        Connector.create("docs", path=tmp_path / "qdrant", recipe="compact", model=encoder) as connector,
        pytest.raises(InputError, match="holds no document"),
    ):
        connector.adapt([("bees", "doc 7"), ("otters", "doc 0")])


# --- the command ---

FILES: dict[str, str] = {
    "a.jsonl": '{"query": "bees", "id": "doc 7"}\n\n{"query": "otters", "ids": ["doc 0", 3]}\n',
    "a.csv": 'query,id,note\nbees,doc 7,x\notters,doc 0,"a, b"\notters,3,\n',
    "a.tsv": "id\tquery\ndoc 7\tbees\ndoc 0\totters\n3\totters\n",
}


@pytest.mark.parametrize("file", FILES)
def test_files_of_examples(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.write_text(FILES[file], encoding="utf-8")
    assert load_examples(path) == [("bees", "doc 7"), ("otters", "doc 0"), ("otters", "3")]


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "kind": ("a.txt", b"", "no known kind"),
    "JSON": ("a.jsonl", b'{"query": "a", "id": "b"}\n{oops', "line 2 is not JSON"),
    "no object": ("a.jsonl", b"[1]\n", "line 1 is .1.; give a query"),
    "no query": ("a.jsonl", b'{"id": "b"}\n', "line 1 has the query None; give a query"),
    "blank": ("a.jsonl", b'{"query": " ", "id": "b"}\n', "line 1 .* give a query"),
    "no id": ("a.jsonl", b'{"query": "a"}\n', "line 1, 'a', has the id None; give a document's id"),
    "no ids": ("a.jsonl", b'{"query": "a", "ids": []}\n', "line 1 .* give a query"),
    "ids": ("a.jsonl", b'{"query": "a", "ids": [true]}\n', "line 1, 'a', has the id True; give"),
    "columns": ("a.csv", b"question,id\na,b\n", "line 2 .* give a query"),
    "CSV": ("a.csv", b'query,id\n"a"b,c\n', "line 2 is not CSV"),
    "UTF-8": ("a.csv", b"query,id\n\xff,c\n", "line 2 has a lone surrogate .* its real encoding"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_damaged_files_of_examples(case: str, tmp_path: Path) -> None:
    name, content, says = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_examples(tmp_path / name)
    with pytest.raises(SourceError, match="cannot be read"):
        load_examples(tmp_path / "missing.csv")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command(make: Callable[..., Connector], tmp_path: Path) -> None:
    connector = make("compact")
    path = tmp_path / "examples.jsonl"
    examples = telling(connector, "top-6")
    path.write_text("".join(json.dumps({"query": q, "id": i}) + "\n" for q, i in examples), encoding="utf-8")
    connector.close()
    words = ("adapt", "--collection", "docs", "--path", tmp_path / "qdrant", "--examples", path)

    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    for said in ("cls=0.25", "best of 27", "before", "leave one out", "8 queries, 8 with", "Not saved"):
        assert said in shown.stdout

    saved = json.loads(run(*words, "--save", "--json").stdout)
    assert saved["saved"]
    assert saved["before"] == saved["strategies"][0]
    assert saved["before"] | {"nDCG@10": 0} == {
        "alignment": "top-1",
        "fusion": "sum:tokens=1",
        "feedback": None,
        "nDCG@10": 0,
    }
    assert saved["chosen"]["nDCG@10"] > saved["before"]["nDCG@10"]
    assert (saved["queries"], saved["missing"], len(saved["strategies"])) == (8, [], 27)
    again = json.loads(run(*words, "--save", "--json").stdout)
    assert (again["before"], again["chosen"], again["saved"]) == (saved["before"], saved["chosen"], False)

    path.write_text(
        '{"query": "bees", "id": "doc 77"}\n{"query": "otters", "id": "doc 0"}\n', encoding="utf-8"
    )
    refused = run(*words, "--save")
    assert refused.exit_code == 1
    assert "'doc 77'" in refused.stderr
    assert run("adapt", "--collection", "docs", "--examples", path).exit_code == 2


def test_what_a_person_sees(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = Measured(summed(None, 0.3), 0.5), Measured(summed(TopK(2)), 0.625)
    show(adaptation_lines(Adaptation((old, new), old, new, 0.5625, 8, ("where\x1b[31m?",), True)))
    assert capsys.readouterr().out.splitlines() == [
        "  best of 2                       nDCG@10",
        "  top-2                            0.6250",
        "  MaxSim, sum:tokens=0.7,cls=0.3   0.5000",
        "  before         0.5000, MaxSim, sum:tokens=0.7,cls=0.3",
        "  chosen         0.6250, top-2",
        "  leave one out  0.5625, what to expect for other queries",
        "  examples       8 queries, 7 with an answer among their candidates",
        "    none: where [31m?",
        "Saved: searches of this collection follow it from now on.",
    ]
    show(adaptation_lines(Adaptation((old, new), old, old, 0.5, 8, (), False)))
    shown = capsys.readouterr().out
    assert "chosen         the same" in shown
    assert "aved" not in shown
