"""What the rerank benchmarks share: SciFact's dense top 200 and TREC DL 2019's BM25 top 100, encoded once."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connector import Embedding, load_encoder
from connector.collection.pipeline import WINDOW
from connector.core.sources import Source
from connector.core.types import Float32, passage_text
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import Judged, judged_queries, load_judged
from connector.evaluation.metrics import Run, measure
from connector.evaluation.trec import load_run

SETS = ("scifact", "msmarco_dl19")


@contextmanager
def tasks(arguments: list[str]) -> Iterator[list[Task]]:
    """Both sets, from a folder DATA, with the encoder's output kept in CACHE; none where DATA lacks them."""
    data = Path(arguments[0] if arguments else "data")
    if not all((data / name).is_dir() for name in SETS):
        print(f"not run: {data} does not hold {' and '.join(SETS)}; give the folder that does")
        yield []
        return
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(arguments[1] if len(arguments) > 1 else scratch))
        yield [scifact(data / "scifact", encoder), dl19(data / "msmarco_dl19", encoder)]


@dataclass(frozen=True)
class Task:
    """A rerank: for each judged query, numbers of the passages to order."""

    name: str
    judged: Judged
    ids: list[str]
    passages: list[Embedding]
    queries: dict[str, Embedding]
    candidates: dict[str, list[int]]


def scifact(folder: Path, encoder: CachedEncoder) -> Task:
    ids, passages = encode(folder, encoder, None)
    judged = load_judged(folder, "test")
    queries = dict(zip(judged.queries, encoder.encode_queries(list(judged.queries.values())), strict=True))
    cls = np.stack([passage.cls for passage in passages])
    nearest = {name: np.argsort(-(cls @ query.cls))[:200].tolist() for name, query in queries.items()}
    return Task("SciFact", judged, ids, passages, queries, nearest)


def dl19(folder: Path, encoder: CachedEncoder) -> Task:
    run = {query: list(found) for query, found in load_run(folder / "bm25_top100.trec").items()}
    judged = judged_queries(folder / "queries.jsonl", folder / "qrels_official" / "dl19.tsv")
    ids, passages = encode(folder, encoder, {it for found in run.values() for it in found})
    number = {id_: place for place, id_ in enumerate(ids)}
    queries = dict(zip(judged.queries, encoder.encode_queries(list(judged.queries.values())), strict=True))
    candidates = {query: [number[document] for document in run[query]] for query in queries}
    return Task("DL19", judged, ids, passages, queries, candidates)


def encode(
    folder: Path, encoder: CachedEncoder, wanted: set[str] | None, attention: bool = True
) -> tuple[list[str], list[Embedding]]:
    documents = [it for it in Source(folder) if wanted is None or it.id in wanted]
    texts = [passage_text(document.title, document.text) for document in documents]
    embeddings = []
    for start in range(0, len(texts), WINDOW):
        embeddings += encoder.encode_documents(texts[start : start + WINDOW], attention=attention)
        print(f"\r{folder.name}: {len(embeddings)} of {len(texts)} passages", end="", file=sys.stderr)
    print(file=sys.stderr)
    return [document.id for document in documents], embeddings


def ndcg(task: Task, score: Callable[[str, list[int]], Float32]) -> float:
    """nDCG@10 when each query's candidates are ordered by the scores that `score` gives them."""
    run: Run = {}
    for name, found in task.candidates.items():
        scores = score(name, found)
        run[name] = {task.ids[it]: float(value) for it, value in zip(found, scores, strict=True)}
    return measure(task.judged.qrels, run)["nDCG@10"]
