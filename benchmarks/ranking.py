"""What a ranking by pooled token signs, words and CLS gains, and what each of its parts adds: nDCG@10.

Six collections (`_ranking_data.NAMES`), two encoders. The pool of a query is what is best by CLS and by BM25,
or what the collection gives. Each figure of a way to score that has constants is measured with those that are
best on the other collections under all encoders; the grid of constants is in `_ranking_mix.py`. Peers that
are mixed also get the constants that are best on all collections, those judged among them.

Float tokens are full-width MaxSim over all rows of both sides, nothing added. From each recipe one part at a
time is taken away. Brackets hold 95 % of the paired bootstrap.

    python benchmarks/ranking.py DATA CACHE [ENCODER...]

DATA holds the folders in BEIR layout; CACHE keeps the encoder's output and parts of scores. A collection that
DATA lacks is not run. ENCODER is as `load_encoder` takes it; without one, the two of `ENCODERS`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _ranking_data import NAMES, Judging, load
from _ranking_mix import Constants, Feedback, Outcome, Way, interval, left_out, means, measured
from _ranking_parts import Pools, Shape, Stored, stored

from connector import load_encoder
from connector.core.types import Float32
from connector.encoders.cache import CachedEncoder
from connector.evaluation.metrics import ndcg

ENCODERS = ("sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5")
MOST = {"nfcorpus_nostop": 1500, "scifact": 1500, "checkthat2020": 2000}
"""Passages that another encoder than the first sees of a collection."""

SHAPES = {
    "default": Shape("special+ward-4", "pca-256+binary"),
    "tiny": Shape("special+ward-4", "pca-96+binary"),
    "colbert": Shape("", "float32"),
}
WAYS = {
    "default": Way(),
    "tiny": replace(Way(), feedback="cls"),
    "colbert": replace(Way(), feedback="cls"),
}
"""How each recipe is scored."""

FLOATS = "float32"
EVERY = Shape("", FLOATS, centred=False)
"""Every token as it comes from the encoder."""

LESS: dict[str, dict[str, Any]] = {
    "own rows": {"own_rows": False},
    "idf": {"idf": False},
    "fusion": {"fused": False},
    "feedback": {"feedback": ""},
    "fusion, feedback": {"fused": False, "feedback": ""},
}
"""What is taken away."""

MIXTURE = Way(tokens=False, feedback="cls", own_words=False)
ALONE = Constants(0, 0, 0, 0)

Figures = dict[str, list[Float32]]
"""What is judged to the nDCG@10 of each query, for each collection."""


@dataclass(frozen=True)
class Task:
    """One collection with what of it is in memory."""

    pools: Pools
    shapes: dict[Shape, Stored]


def prepared(it: Judging, cache: Path) -> Task:
    """All parts of the scores of one collection."""
    pools = Pools(it)
    wanted = {EVERY}
    for shape in SHAPES.values():
        wanted |= {shape, replace(shape, centred=False), as_floats(shape)}
    task = Task(pools, {shape: stored(it, pools, shape, cache) for shape in sorted(wanted, key=repr)})
    check(it, pools)
    return task


def as_floats(shape: Shape) -> Shape:
    return replace(shape, codec="+".join([*shape.codec.split("+")[:-1], FLOATS]))


def check(it: Judging, pools: Pools) -> None:
    """The measure here is ir-measures', which takes too long for a grid."""
    found = [[it.ids[number] for number in best] for best in pools.ranking(pools.dense)]
    grades = [it.judged.qrels[query] for query in it.judged.queries]
    own, theirs = pools.ndcg(pools.dense).mean(), ndcg(found, grades).mean()
    if abs(own - theirs) > 1e-4:
        raise AssertionError(f"{it.name}: nDCG@10 {own:.5f} here and {theirs:.5f} by ir-measures")


def judged(tasks: Sequence[Task], way: Way, shape: Shape | None = None) -> Outcome:
    """One way to score, on all collections under all encoders."""
    tables = []
    for task in tasks:
        held = None if shape is None else task.shapes[shape]
        vectors = task.pools.cls if held is None or way.feedback == "cls" else held.means
        feedback = Feedback(task.pools, vectors) if way.feedback else None
        tables.append(measured(task.pools, held, way, feedback))
    return left_out(way, tables, [task.pools.name for task in tasks])


def peers(tasks: Sequence[Task]) -> Figures:
    found = {
        "dense": [task.pools.ndcg(task.pools.dense) for task in tasks],
        "BM25, bm25s": [task.pools.ndcg(task.pools.words) for task in tasks],
        "BM25, the library's": [task.pools.ndcg(task.pools.own_words) for task in tasks],
        "float tokens": [
            pools.ndcg(pools.by_tokens(task.shapes[EVERY], np.ones_like(pools.idf), 0))
            for task in tasks
            for pools in [task.pools]
        ],
    }
    for name, way in (
        ("mixture", replace(MIXTURE, feedback="")),
        ("mixture, feedback", MIXTURE),
        ("mixture of the library's BM25", replace(MIXTURE, feedback="", own_words=True)),
        ("mixture of the library's BM25, feedback: hybrid", replace(MIXTURE, own_words=True)),
    ):
        outcome = judged(tasks, way)
        found[f"{name} ({outcome.best})"] = outcome.fixed
        found[f"{name}, left out"] = outcome.queries
    return found


def outcomes_of(tasks: Sequence[Task], name: str, shape: Shape) -> dict[str, Outcome]:
    """Of a recipe, and of what is less."""
    way = WAYS[name]
    found = {name: judged(tasks, way, shape)}
    for part, less in LESS.items():
        found[f"− {part}"] = judged(tasks, replace(way, **less), shape)
    found["− centring"] = judged(tasks, way, replace(shape, centred=False))
    other = {"codes": "cls", "cls": "codes"}[way.feedback]
    found[f"feedback by {other}"] = judged(tasks, replace(way, feedback=other), shape)
    found["+ length"] = judged(tasks, replace(way, length=True), shape)
    found["BM25 of bm25s"] = judged(tasks, replace(way, own_words=False), shape)
    found["as floats"] = judged(tasks, way, as_floats(shape))
    return found


def show(tasks: Sequence[Task], name: str, outcomes: dict[str, Outcome], others: Figures) -> None:
    """The figures of one recipe under one encoder."""
    whole, shape = outcomes[name], SHAPES[name]
    print(f"\n### {name}: {shape.reduction or 'every token'}, center+{shape.codec}\n")
    heading(tasks, "of the whole")
    for part, outcome in outcomes.items():
        row(part, *cells(outcome.queries), ratio(outcome.queries, whole.queries))
    row(f"{name}, chosen on all", *cells(whole.fixed), ratio(whole.fixed, whole.queries))
    print("\n| constants | " + " | ".join(task.pools.name for task in tasks) + " | all |")
    row(*["---"] * (len(tasks) + 2))
    for part, outcome in outcomes.items():
        row(part, *map(str, outcome.chosen), str(outcome.best))
    print()
    for peer, queries in others.items():
        above = sum(ours > theirs for ours, theirs in zip(means(whole.queries), means(queries), strict=True))
        print(f"{name} / {peer}: {ratio(whole.queries, queries)}, above on {above} of {len(tasks)}")


def sizes(tasks: Sequence[Task]) -> None:
    print("\nBytes a token of text\n")
    heading(tasks)
    for name, shape in (("float tokens", EVERY), *SHAPES.items()):
        held = [task.shapes[shape] for task in tasks]
        vectors = [it.rows.sum() * it.row_bytes / t.pools.tokens for it, t in zip(held, tasks, strict=True)]
        row(name, *(f"{it:.2f}" for it in vectors), f"{np.mean(vectors):.2f}")
    words = [task.pools.word_bytes / task.pools.tokens for task in tasks]
    row("words of BM25", *(f"{it:.2f}" for it in words), f"{np.mean(words):.2f}")


def heading(tasks: Sequence[Task], *more: str) -> None:
    names = [task.pools.name for task in tasks]
    row("", *names, "mean", *more)
    row(*["---"] * (len(names) + 2 + len(more)))


def cells(queries: Sequence[Float32]) -> list[str]:
    return [f"{it:.4f}" for it in (*means(queries), means(queries).mean())]


def ratio(ours: Sequence[Float32], theirs: Sequence[Float32]) -> str:
    whole, low, high = interval(ours, theirs)
    return f"{whole:.3f} [{low:.3f}, {high:.3f}]"


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def tasks_of(data: Path, cache: Path, name: str, sampled: bool) -> list[Task]:
    """The collections that there are, under one encoder."""
    encoder = CachedEncoder(load_encoder(name), cache)
    kept = cache / "ranking" / encoder.fingerprint
    kept.mkdir(parents=True, exist_ok=True)
    tasks = []
    for folder in (data / it for it in NAMES):
        if folder.is_dir():
            tasks.append(prepared(load(folder, encoder, MOST.get(folder.name) if sampled else None), kept))
        else:
            print(f"{folder.name} is not run: {data} does not hold it")
    return tasks


def main() -> None:
    data, cache = Path(sys.argv[1]), Path(sys.argv[2])
    names = sys.argv[3:] or list(ENCODERS)
    parts = [tasks_of(data, cache, name, number > 0) for number, name in enumerate(names)]
    tasks = [task for part in parts for task in part]
    if not tasks:
        return
    others = peers(tasks)
    outcomes = {name: outcomes_of(tasks, name, shape) for name, shape in SHAPES.items()}
    first = 0
    for name, part in zip(names, parts, strict=True):
        here = slice(first, first + len(part))
        first = here.stop
        print(f"\n## {Path(name).name}\n")
        beside = {peer: queries[here] for peer, queries in others.items()}
        mixture = next(queries for peer, queries in beside.items() if peer.startswith("mixture ("))
        heading(part, "of the mixture")
        for peer, queries in beside.items():
            row(peer, *cells(queries), ratio(queries, mixture))
        sizes(part)
        for recipe, found in outcomes.items():
            show(part, recipe, {way: outcome.of(here) for way, outcome in found.items()}, beside)


if __name__ == "__main__":
    main()
