"""What adaptation from a few examples is worth: nDCG@10 before, adapted, and best in hindsight.

Every token of all-MiniLM-L6-v2 at full width, nothing trained, over the dense top 100 (TREC DL 2019: BM25's).
Before is MaxSim without CLS. 20 times some examples are drawn, a strategy is picked by them as `connector
adapt` picks it, and the test queries are measured. Examples are drawn from the train split; a set without one
gives test queries, which are then left out of the measurement. Each query is scored once by each strategy.
Hindsight is the one strategy that is best for all test queries of a set.

    python benchmarks/adaptation.py [DATA] [CACHE]

DATA holds the folders in BEIR layout; CACHE keeps the encoder's output. A set that DATA lacks is not run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import _rerank
import numpy as np
from numpy.typing import NDArray

from connector import Document, Embedding, load_encoder
from connector.collection.pipeline import WINDOW
from connector.core.sources import Source
from connector.core.types import passage_text
from connector.encoders.cache import CachedEncoder
from connector.evaluation.adaptation import ALIGNMENTS, STRATEGIES, pick, steps_from
from connector.evaluation.beir import Judged, load_judged
from connector.evaluation.metrics import ndcg
from connector.scoring.maxsim import aligned, products

Values = NDArray[np.float64]

SETS = ("scifact", "checkthat2020", "cisi", "squadshifts_reddit", "nfcorpus_nostop", "msmarco_dl19")
EXAMPLES = (8, 16, 32, 64)
SEEDS = 20
CANDIDATES = 100
SAMPLE = 300
"""Queries of a split that are used; all if there are no more."""

RELEVANT = {"msmarco_dl19": 2}
"""Least grade of an example's answer; 1 where nothing else is said, and in DL 2019 related only."""

STEPS = steps_from(STRATEGIES)


@dataclass(frozen=True)
class Split:
    """Queries, scored.

    Args:
        grades: of each query, document id to grade.
        rankings: of each query and each strategy, the ten best document ids.
    """

    grades: list[dict[str, int]]
    rankings: list[list[list[str]]]

    def values(self) -> Values:
        """(S, Q) nDCG@10 by all grades."""
        found = zip(self.rankings, self.grades, strict=True)
        return np.array([ndcg(it, [grades] * len(it)) for it, grades in found]).T


@dataclass(frozen=True)
class Task:
    """A set: the split that is measured, and the one that examples come from."""

    name: str
    test: Split
    train: Split

    @property
    def shares_queries(self) -> bool:
        return self.train is self.test


@dataclass(frozen=True)
class Result:
    """Means over the seeds.

    Args:
        before, adapted, hindsight: nDCG@10.
        best_mean: nDCG@10 of the strategy with the best mean over the examples, however little it is better.
        error: standard error of what the examples say of the distance, from before to hindsight.
        kept: how many seeds keep what is in use.
    """

    before: float
    adapted: float
    hindsight: float
    best_mean: float
    error: float
    kept: int

    @property
    def closed(self) -> str:
        """Share of the distance."""
        distance = self.hindsight - self.before
        return f"{(self.adapted - self.before) / distance:.0%}" if distance > 1e-9 else "no distance"


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(sys.argv[2] if len(sys.argv) > 2 else scratch))
        found = []
        for name in SETS:
            if (data / name).is_dir():
                found.append(task(data / name, encoder))
            else:
                print(f"{name} is not run: {data} does not hold it")
    if found:
        strategies_table(found)
        for name, answers in (("one answer", one_answer), ("all answers", all_answers)):
            results = {it.name: adapted(it, EXAMPLES[0], answers) for it in found}
            results_table(f"{EXAMPLES[0]} examples, {name} a query", results)
        examples_table(found)


def task(folder: Path, encoder: CachedEncoder) -> Task:
    if folder.name == "msmarco_dl19":
        test = dl19(folder, encoder)
        return Task("msmarco_dl19", test, test)
    ids, passages = encode(Source(folder), encoder)
    cls = np.stack([passage.cls for passage in passages])
    splits = {}
    for name in ("test", "train"):
        if (folder / "qrels" / f"{name}.tsv").is_file():
            judged = load_judged(folder, name)
            queries = encoder.encode_queries(list(judged.queries.values()))
            found = [np.argsort(-(cls @ it.cls), kind="stable")[:CANDIDATES].tolist() for it in queries]
            splits[name] = split(f"{folder.name} {name}", judged, queries, ids, passages, found)
    return Task(folder.name, splits["test"], splits.get("train", splits["test"]))


def dl19(folder: Path, encoder: CachedEncoder) -> Split:
    pool = _rerank.dl19(folder, encoder)
    queries = [pool.queries[query] for query in pool.judged.queries]
    found = [pool.candidates[query] for query in pool.judged.queries]
    return split("msmarco_dl19", pool.judged, queries, pool.ids, pool.passages, found)


def encode(documents: Iterable[Document], encoder: CachedEncoder) -> tuple[list[str], list[Embedding]]:
    ids, texts = zip(*[(it.id, passage_text(it.title, it.text)) for it in documents], strict=True)
    embeddings = []
    for start in range(0, len(texts), WINDOW):
        embeddings += encoder.encode_documents(texts[start : start + WINDOW])
        print(f"\r{len(embeddings)} of {len(texts)} passages", end="", file=sys.stderr)
    return list(ids), embeddings


def split(
    name: str,
    judged: Judged,
    queries: Sequence[Embedding],
    ids: Sequence[str],
    passages: Sequence[Embedding],
    candidates: Sequence[Sequence[int]],
) -> Split:
    """At most `SAMPLE` of the judged queries, each scored by every strategy."""
    grades = [judged.qrels[query] for query in judged.queries]
    answered = [i for i, it in enumerate(grades) if max(it.values()) > 0]
    chosen = np.sort(np.random.default_rng(0).permutation(answered)[:SAMPLE]).tolist()
    rankings = []
    for done, i in enumerate(chosen, 1):
        found = [passages[number] for number in candidates[i]]
        rankings.append([[ids[candidates[i][j]] for j in best] for best in orders(queries[i], found)])
        print(f"\r{name}: {done} of {len(chosen)} queries scored", end="", file=sys.stderr)
    print(file=sys.stderr)
    return Split([grades[i] for i in chosen], rankings)


def orders(query: Embedding, found: Sequence[Embedding]) -> Iterator[list[int]]:
    """Of each strategy the numbers of the ten best passages."""
    rows = np.concatenate([passage.tokens for passage in found])
    lengths = np.array([len(passage) for passage in found])
    scorer = products(query.tokens, lambda rows: rows)
    tokens = {it: aligned(scorer, rows, lengths, it).astype(np.float64) for it in ALIGNMENTS}
    cls = np.array([float(passage.cls @ query.cls) for passage in found])
    for strategy in STRATEGIES:
        weight = strategy.cls_weight or 0.0
        scores = weight * cls + (1 - weight) * tokens[strategy.alignment]
        yield np.argsort(-scores, kind="stable")[:10].tolist()


Answers = Callable[[dict[str, int], int, np.random.Generator], dict[str, int]]
"""The answers that an example has, of all grades, from a least grade on."""


def one_answer(grades: dict[str, int], least: int, rng: np.random.Generator) -> dict[str, int]:
    answers = [document for document, grade in grades.items() if grade >= least]
    return {answers[rng.integers(len(answers))]: 1}


def all_answers(grades: dict[str, int], least: int, _: np.random.Generator) -> dict[str, int]:
    return {document: 1 for document, grade in grades.items() if grade >= least}


def adapted(task: Task, examples: int, answers: Answers) -> Result:
    """Means over the seeds of what is measured before, after, and by the strategy best for the whole set."""
    values, least = task.test.values(), RELEVANT.get(task.name, 1)
    hindsight = int(values.mean(axis=1).argmax())
    usable = [i for i, grades in enumerate(task.train.grades) if max(grades.values()) >= least]
    means, kept = [], 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        drawn = rng.choice(usable, examples, replace=False)
        asked = [(task.train.rankings[i], answers(task.train.grades[i], least, rng)) for i in drawn]
        told = np.array([ndcg(all_, [found] * len(all_)) for all_, found in asked]).T
        picked, luckiest = pick(told, STEPS), pick(told, np.zeros_like(STEPS))
        measured = np.delete(values, drawn, axis=1) if task.shares_queries else values
        means.append(measured.mean(axis=1)[[0, picked, hindsight, luckiest]])
        kept += picked == 0
    drawable = task.train.values()
    error = float((drawable[hindsight] - drawable[0]).std(ddof=1) / np.sqrt(examples))
    return Result(*np.mean(means, axis=0).tolist(), error, kept)


def strategies_table(found: Sequence[Task]) -> None:
    """What there is to win: each strategy, less MaxSim."""
    print(f"\nnDCG@10 less that of {STRATEGIES[0].name}, of all measured queries\n")
    row("strategy", *(task.name for task in found))
    row(*["---"] * (1 + len(found)))
    tables = [task.test.values().mean(axis=1) for task in found]
    row(STRATEGIES[0].name, *(f"{table[0]:.4f}" for table in tables))
    for number, strategy in enumerate(STRATEGIES[1:], 1):
        row(strategy.name, *(f"{table[number] - table[0]:+.4f}" for table in tables))


def results_table(title: str, results: dict[str, Result]) -> None:
    print(f"\n{title}: means over {SEEDS} seeds\n")
    row("set", "before", "adapted", "by best mean", "in hindsight", "distance", "its error", "closed", "kept")
    row(*["---"] * 9)
    for name, it in results.items():
        after = [f"{value:.4f} ({value - it.before:+.4f})" for value in (it.adapted, it.best_mean)]
        far = [f"{it.hindsight:.4f}", f"{it.hindsight - it.before:.4f}", f"{it.error:.4f}"]
        row(name, f"{it.before:.4f}", *after, *far, it.closed, f"{it.kept} of {SEEDS}")
    gain = sum(it.adapted - it.before for it in results.values())
    distance = sum(it.hindsight - it.before for it in results.values())
    print(f"\nOf the distances together {gain / distance:.0%} is closed.")


def examples_table(found: Sequence[Task]) -> None:
    """How many examples it takes; sets of too few queries have none of the larger numbers."""
    print("\nAdapted less before, by the number of examples with all their answers\n")
    row("set", *(str(examples) for examples in EXAMPLES))
    row(*["---"] * (1 + len(EXAMPLES)))
    for task in found:
        cells = []
        for examples in EXAMPLES:
            if 2 * examples > len(task.train.grades):
                cells.append("too few queries")
                continue
            result = adapted(task, examples, all_answers)
            cells.append(f"{result.adapted - result.before:+.4f} ({result.closed})")
        row(task.name, *cells)


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
