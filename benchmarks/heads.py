"""The trained head that comes for all-MiniLM-L6-v2: nDCG@10 of its codes, and of pruning by its saliency.

First, MaxSim over every token: full-width floats, nothing trained, and the head's projections as floats and
as signs; the dense top 200 of six test sets (TREC DL 2019: BM25's top 100). Another head may be named, such
as one that was trained without a set, to see what a head does for texts like none that it has seen.

Then pruning to 50 and 25 %, on two of them: by saliency and by what needs no training, at full width; and
recipe `aligner` as it is and with nothing pruned.

    python benchmarks/heads.py [DATA] [CACHE] [HEAD]

DATA holds the folders in BEIR layout; CACHE keeps the encoder's output. A set that DATA lacks is not run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _rerank import Task, dl19, encode, ndcg, scifact
from numpy.typing import NDArray

from connector import Embedding, load_encoder
from connector.compression.codecs import Codec, parse_codec
from connector.compression.heads import head_folder
from connector.compression.reduction import Frequencies, Setting, parse_query_reduction, parse_reduction
from connector.compression.saliency import Saliency
from connector.core.types import Float32
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import Judged, load_judged
from connector.scoring.alignment import TopK
from connector.scoring.maxsim import aligned, maxsim

SETS = ("scifact", "msmarco_dl19", "nfcorpus_nostop", "squadshifts_reddit", "cisi", "checkthat2020")
OWN_HEAD = "all-MiniLM-L6-v2"
CODECS = ["linear-128+float32", "linear-128+binary", "linear-64+binary", "linear-32+binary", "pca-128+binary"]
UNTRAINED = ["attention-{}", "voronoi-{}", "first-{}", "idf-{}"]
SAMPLE = 500
"""Queries of a set that are used, drawn with a fixed seed; all if there are no more."""


@dataclass(frozen=True)
class Rows:
    """Passages' stored rows, one passage after another."""

    rows: NDArray[Any]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    saliency: NDArray[np.uint8] | None = None

    def of(self, numbers: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint8] | None]:
        places = [np.arange(self.starts[it], self.starts[it] + self.lengths[it]) for it in numbers]
        here = np.concatenate(places)
        saliency = None if self.saliency is None else self.saliency[here]
        return self.rows[here], self.lengths[list(numbers)], saliency


def stored(codec: Codec, passages: Sequence[Embedding]) -> Rows:
    parts = [codec.encode(passage.tokens) for passage in passages]
    lengths = np.array([len(it) for it in parts])
    saliency = None
    if passages[0].saliency is not None:
        saliency = np.concatenate([codec.saliency.encode(it.saliency) for it in passages])
    return Rows(np.concatenate(parts), np.cumsum(lengths) - lengths, lengths, saliency)


def fitted(spec: str, head: str, passages: Sequence[Embedding], saliency: bool = False) -> Codec:
    sample = passages[:256]
    values = np.concatenate([it.saliency for it in sample]) if saliency else None
    tokens = np.concatenate([it.tokens for it in sample])
    return parse_codec(spec, head, saliency).fit(tokens, saliency=values)


def by_maxsim(task: Task, codec: Codec, passages: Sequence[Embedding]) -> float:
    table = stored(codec, passages)

    def score(query: str, found: list[int]) -> Float32:
        rows, lengths, _ = table.of(found)
        return maxsim(codec.scorer(codec.encode_query(task.queries[query].tokens)), rows, lengths)

    return ndcg(task, score)


def any_task(folder: Path, encoder: CachedEncoder) -> Task:
    if folder.name == "msmarco_dl19":
        return dl19(folder, encoder)
    if folder.name == "scifact":
        return scifact(folder, encoder)
    ids, passages = encode(folder, encoder, None, attention=False)
    judged = load_judged(folder, "test")
    vectors = encoder.encode_queries(list(judged.queries.values()))
    chosen = np.sort(np.random.default_rng(0).permutation(len(vectors))[:SAMPLE])
    names = [list(judged.queries)[number] for number in chosen]
    queries = {name: vectors[number] for name, number in zip(names, chosen, strict=True)}
    judged = Judged({it: judged.queries[it] for it in names}, {it: judged.qrels[it] for it in names})
    cls = np.stack([passage.cls for passage in passages])
    nearest = {name: np.argsort(-(cls @ query.cls))[:200].tolist() for name, query in queries.items()}
    return Task(folder.name, judged, ids, passages, queries, nearest)


def projections(tasks: Sequence[Task], head: str) -> None:
    print("\nEvery token, MaxSim: nDCG@10, and the share of full-width float32\n")
    specs = [it for it in CODECS if "pca" in it or (Path(head) / it.partition("+")[0]).is_dir()]
    row("set", "float32", *specs)
    row(*["---"] * (2 + len(specs)))
    shares = []
    for task in tasks:
        full = by_maxsim(task, fitted("float32", head, task.passages), task.passages)
        found = [by_maxsim(task, fitted(spec, head, task.passages), task.passages) for spec in specs]
        row(task.name, f"{full:.4f}", *(f"{it:.4f} ({it / full:.1%})" for it in found))
        shares.append([it / full for it in found])
    row("mean", "", *(f"{it:.1%}" for it in np.mean(shares, axis=0)))


def pruning(tasks: Sequence[Task], head: str) -> None:
    print("\nPruned passages, full-width float32, MaxSim: nDCG@10, and the share of all tokens\n")
    row("", *(f"{task.name} {share}" for task in tasks for share in ("50 %", "25 %")))
    row(*["---"] * (1 + 2 * len(tasks)))
    for step in ("saliency-{}", *UNTRAINED):
        cells = []
        for task in tasks:
            full = by_maxsim(task, fitted("float32", head, task.passages), task.passages)
            salient = Saliency(head)(task.passages, "document")
            counts = Frequencies()
            counts.add(task.passages)
            for share in ("50%", "25%"):
                reduction = parse_reduction(step.format(share), Setting(frequencies=counts))
                kept = [without_saliency(reduction(it)) for it in salient]
                found = by_maxsim(task, fitted("float32", head, kept), kept)
                cells.append(f"{found:.4f} ({found / full:.1%})")
        row(f"`{step.format('K')}`", *cells)


def without_saliency(embedding: Embedding) -> Embedding:
    return replace(embedding, saliency=None)


def aligner(tasks: Sequence[Task], head: str) -> None:
    print("\nRecipe aligner (linear-128+binary, saliency, top-1): nDCG@10\n")
    row("passages, queries", *(task.name for task in tasks))
    row(*["---"] * (1 + len(tasks)))
    for kept, asked in (("100%", "100%"), ("50%", "100%"), ("50%", "50%"), ("25%", "100%"), ("25%", "50%")):
        row(f"{kept}, {asked}", *(f"{by_aligner(it, head, kept, asked):.4f}" for it in tasks))
    codecs = [fitted("linear-128+binary", head, it.passages) for it in tasks]
    found = [by_maxsim(it, codec, it.passages) for it, codec in zip(tasks, codecs, strict=True)]
    row("all, all; MaxSim", *(f"{it:.4f}" for it in found))


def by_aligner(task: Task, head: str, kept: str, asked: str) -> float:
    weigh, reduce = Saliency(head), parse_reduction(f"saliency-{kept}")
    reduce_query = parse_query_reduction(f"saliency-{asked}")
    passages = [reduce(it) for it in weigh(task.passages, "document")]
    codec = fitted("linear-128+binary", head, passages, saliency=True)
    table = stored(codec, passages)

    def score(query: str, found: list[int]) -> Float32:
        (salient,) = weigh([task.queries[query]], "query")
        reduced = reduce_query(salient)
        rows, lengths, saliency = table.of(found)
        scorer = codec.scorer(codec.encode_query(reduced.tokens))
        return aligned(scorer, rows, lengths, TopK(1), reduced.saliency, saliency)

    return ndcg(task, score)


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    head = head_folder(sys.argv[3] if len(sys.argv) > 3 else OWN_HEAD)
    with tempfile.TemporaryDirectory() as scratch:
        encoder = CachedEncoder(load_encoder(), Path(sys.argv[2] if len(sys.argv) > 2 else scratch))
        tasks = []
        for name in SETS:
            if (data / name).is_dir():
                tasks.append(any_task(data / name, encoder))
            else:
                print(f"{name} is not run: {data} does not hold it")
    if tasks:
        projections(tasks, head)
    two = [task for task in tasks if task.name in ("SciFact", "DL19")]
    if two and (Path(head) / "saliency").is_dir():
        pruning(two, head)
        aligner(two, head)


if __name__ == "__main__":
    main()
