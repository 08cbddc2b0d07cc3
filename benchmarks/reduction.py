"""What each reduction keeps of the quality: nDCG@10 of a rerank, from one encoding.

Reranks SciFact's dense top 200 by MaxSim over the float tokens that are left, and TREC DL 2019's BM25 top 100
(`bm25_top100.trec`, with the official judgements). The peer is MaxSim over all tokens.

    python benchmarks/reduction.py [DATA] [CACHE]

DATA holds the folders `scifact` and `msmarco_dl19` in BEIR layout; CACHE keeps the encoder's output.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connector import Embedding, load_encoder
from connector.encoders.cache import CachedEncoder
from connector.evaluation import Judged, Run, load_judged, load_qrels, load_queries, measure
from connector.ingest import WINDOW
from connector.reduction import Frequencies, Setting, parse_query_reduction, parse_reduction
from connector.scoring import maxsim
from connector.sources import Source
from connector.types import Float32, passage_text

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
QUERY = ["icf-50%", "icf-25%", "icf-10%", "idf-weight"]
UNTRAINED = ["unused-K", "contextual-stopwords"]


@dataclass(frozen=True)
class Task:
    """A rerank: for each judged query, numbers of the passages to order."""

    name: str
    judged: Judged
    ids: list[str]
    passages: list[Embedding]
    queries: dict[str, Embedding]
    candidates: dict[str, list[int]]
    setting: Setting


def scifact(folder: Path, encoder: CachedEncoder) -> Task:
    ids, passages = encode(folder, encoder, None)
    judged = load_judged(folder, "test")
    queries = dict(zip(judged.queries, encoder.encode_queries(list(judged.queries.values())), strict=True))
    cls = np.stack([passage.cls for passage in passages])
    nearest = {name: np.argsort(-(cls @ query.cls))[:200].tolist() for name, query in queries.items()}
    return Task("SciFact", judged, ids, passages, queries, nearest, counted(passages))


def dl19(folder: Path, encoder: CachedEncoder) -> Task:
    run: dict[str, list[str]] = {}
    for line in (folder / "bm25_top100.trec").read_text(encoding="utf-8").splitlines():
        query, _, document, *_ = line.split()
        run.setdefault(query, []).append(document)
    qrels = load_qrels(folder / "qrels_official" / "dl19.tsv")
    texts = load_queries(folder / "queries.jsonl")
    judged = Judged({query: texts[query] for query in qrels}, qrels)
    ids, passages = encode(folder, encoder, {it for found in run.values() for it in found})
    number = {id_: place for place, id_ in enumerate(ids)}
    queries = dict(zip(judged.queries, encoder.encode_queries(list(judged.queries.values())), strict=True))
    candidates = {query: [number[document] for document in run[query]] for query in queries}
    return Task("DL19", judged, ids, passages, queries, candidates, counted(passages))


def encode(
    folder: Path, encoder: CachedEncoder, wanted: set[str] | None
) -> tuple[list[str], list[Embedding]]:
    documents = [it for it in Source(folder) if wanted is None or it.id in wanted]
    texts = [passage_text(document.title, document.text) for document in documents]
    embeddings = []
    for start in range(0, len(texts), WINDOW):
        embeddings += encoder.encode_documents(texts[start : start + WINDOW], attention=True)
        print(f"\r{folder.name}: {len(embeddings)} of {len(texts)} passages", end="", file=sys.stderr)
    print(file=sys.stderr)
    return [document.id for document in documents], embeddings


def counted(passages: list[Embedding]) -> Setting:
    frequencies = Frequencies()
    frequencies.add(passages)
    return Setting(frequencies=frequencies)


def ndcg(
    task: Task, passages: list[Embedding], ask: Callable[[Embedding], tuple[Embedding, Float32 | None]]
) -> float:
    run: Run = {}
    for name, query in task.queries.items():
        found = task.candidates[name]
        asked, weights = ask(query)
        rows = asked.tokens if weights is None else asked.tokens * weights[:, None]
        similarities = np.concatenate([passages[it].tokens for it in found]) @ rows.T
        scores = maxsim(similarities, [len(passages[it]) for it in found])
        run[name] = {task.ids[it]: float(score) for it, score in zip(found, scores, strict=True)}
    return measure(task.judged, run)["nDCG@10"]


def cell(task: Task, spec: str) -> str:
    """nDCG@10, tokens a passage and milliseconds that a passage took."""
    reduction = parse_reduction(spec, task.setting)
    started = time.perf_counter()
    reduced = [reduction(passage) for passage in task.passages]
    ms = 1e3 * (time.perf_counter() - started) / len(reduced)
    tokens = float(np.mean([len(passage) for passage in reduced]))
    return f"{ndcg(task, reduced, lambda query: (query, None)):.3f} ({tokens:.0f}; {ms:.1f} ms)"


def query_cell(task: Task, spec: str) -> str:
    """nDCG@10 and rows a query asks with."""
    reduction = parse_query_reduction(spec, task.setting)
    rows = float(np.mean([len(reduction(query)[0]) for query in task.queries.values()]))
    return f"{ndcg(task, task.passages, reduction):.3f} ({rows:.0f})"


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    if not all((data / name).is_dir() for name in ("scifact", "msmarco_dl19")):
        print(f"not run: {data} does not hold scifact and msmarco_dl19; give the folder that does")
        return
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(sys.argv[2] if len(sys.argv) > 2 else scratch))
        tasks = [scifact(data / "scifact", encoder), dl19(data / "msmarco_dl19", encoder)]
    print("nDCG@10 (tokens a passage; time a passage)\n")
    for task in tasks:
        row(task.name, *SHARES)
        row(*["---"] * 4)
        full = ndcg(task, task.passages, lambda query: (query, None))
        row("all tokens", f"{full:.3f} ({np.mean([len(it) for it in task.passages]):.0f})", "", "")
        for form in SIZED:
            row(form.format("K"), *(cell(task, form.format(share)) for share in SHARES))
        for spec in UNSIZED:
            row(spec, cell(task, spec), "", "")
        for spec in QUERY:
            row(f"query: {spec}", query_cell(task, spec), "", "")
        for spec in UNTRAINED:
            row(spec, "not run: needs a trained model", "", "")
        print()


if __name__ == "__main__":
    main()
