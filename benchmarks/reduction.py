"""What each reduction keeps of the quality: nDCG@10 of a rerank, from one encoding.

Reranks SciFact's dense top 200 by MaxSim over the float tokens that are left, and TREC DL 2019's BM25 top 100
(`bm25_top100.trec`, with the official judgements). The peer is MaxSim over all tokens.

    python benchmarks/reduction.py [DATA] [CACHE]

DATA holds the folders `scifact` and `msmarco_dl19` in BEIR layout; CACHE keeps the encoder's output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from _rerank import Task, ndcg, tasks

from connector import Embedding
from connector.compression.reduction import (
    Frequencies,
    QueryWeights,
    Setting,
    parse_query_reduction,
    parse_reduction,
    query_weights,
)
from connector.core.types import Float32
from connector.scoring.maxsim import maxsim, products

SHARES = ("50%", "25%", "10%")
SIZED = [
    "first-{}",
    "idf-{}",
    "attention-{}",
    "voronoi-{}",
    "sequential-to-{}",
    "kmeans-to-{}",
    "ward-to-{}",
    "punctuation+ward-to-{}",
    "whole-words+ward-to-{}",
]
UNSIZED = ["punctuation", "stopwords-en", "whole-words"]
QUERY = ["icf-50%", "icf-25%", "icf-10%"]
WEIGHTS: list[QueryWeights] = ["sqrt-idf", "idf"]
UNTRAINED = ["unused-K", "contextual-stopwords"]


def counted(passages: list[Embedding]) -> Setting:
    frequencies = Frequencies()
    frequencies.add(passages)
    return Setting(frequencies=frequencies)


def quality(
    task: Task, passages: list[Embedding], ask: Callable[[Embedding], tuple[Embedding, Float32 | None]]
) -> float:
    def score(name: str, found: list[int]) -> Float32:
        asked, weights = ask(task.queries[name])
        rows = asked.tokens if weights is None else asked.tokens * weights[:, None]
        tokens = np.concatenate([passages[it].tokens for it in found])
        return maxsim(products(rows, lambda block: block), tokens, [len(passages[it]) for it in found])

    return ndcg(task, score)


def cell(task: Task, setting: Setting, spec: str) -> str:
    """nDCG@10, tokens a passage and milliseconds that a passage took."""
    reduction = parse_reduction(spec, setting)
    started = time.perf_counter()
    reduced = [reduction(passage) for passage in task.passages]
    ms = 1e3 * (time.perf_counter() - started) / len(reduced)
    tokens = float(np.mean([len(passage) for passage in reduced]))
    return f"{quality(task, reduced, lambda query: (query, None)):.3f} ({tokens:.0f}; {ms:.1f} ms)"


def query_cell(task: Task, setting: Setting, spec: str) -> str:
    """nDCG@10 and rows a query asks with."""
    reduction = parse_query_reduction(spec, setting)
    rows = float(np.mean([len(reduction(query)) for query in task.queries.values()]))
    return f"{quality(task, task.passages, lambda query: (reduction(query), None)):.3f} ({rows:.0f})"


def weights_cell(task: Task, setting: Setting, name: QueryWeights) -> str:
    """nDCG@10 where query tokens weigh so."""
    weigh = partial(query_weights, weights=name, frequencies=setting.frequencies)
    return f"{quality(task, task.passages, lambda query: (query, weigh(query))):.3f}"


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def table(task: Task) -> None:
    setting = counted(task.passages)
    row(task.name, *SHARES)
    row(*["---"] * 4)
    full = quality(task, task.passages, lambda query: (query, None))
    row("all tokens", f"{full:.3f} ({np.mean([len(it) for it in task.passages]):.0f})", "", "")
    for form in SIZED:
        row(form.format("K"), *(cell(task, setting, form.format(share)) for share in SHARES))
    for spec in UNSIZED:
        row(spec, cell(task, setting, spec), "", "")
    for spec in QUERY:
        row(f"query: {spec}", query_cell(task, setting, spec), "", "")
    for name in WEIGHTS:
        row(f"query weights: {name}", weights_cell(task, setting, name), "", "")
    for spec in UNTRAINED:
        row(spec, "not run: needs a trained model", "", "")
    print()


def main() -> None:
    with tasks(sys.argv[1:]) as found:
        print("nDCG@10 (tokens a passage; time a passage)\n")
        for task in found:
            table(task)


if __name__ == "__main__":
    main()
