"""The collections of `ranking.py`, encoded once: passages, queries, judgements, pools."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connector import Document, Embedding
from connector.collection.pipeline import WINDOW
from connector.core.sources import Source
from connector.core.types import passage_text
from connector.encoders.cache import CachedEncoder
from connector.evaluation.beir import Judged, judged_queries, load_judged
from connector.evaluation.trec import load_run

NAMES = ("cisi", "squadshifts_reddit", "nfcorpus_nostop", "scifact", "checkthat2020", "msmarco_dl19")
RERANKED = "msmarco_dl19"
"""Whose candidates are BM25's published 100 of each query."""

QUERIES = 500
"""Of a collection that are used, drawn with a fixed seed; all if there are no more."""


@dataclass(frozen=True)
class Judging:
    """One collection under one encoder.

    Args:
        name: the collection's.
        judged: the queries that are used, and their judgements.
        ids: of the passages.
        texts: what the encoder sees of each.
        passages: their embeddings.
        queries: the queries' embeddings, in the order of `judged`.
        pools: for each query numbers of the passages to order; None where all are searched.
    """

    name: str
    judged: Judged
    ids: list[str]
    texts: list[str]
    passages: list[Embedding]
    queries: list[Embedding]
    pools: list[list[int]] | None


def load(folder: Path, encoder: CachedEncoder, most: int | None = None) -> Judging:
    """One collection, encoded.

    Args:
        folder: in BEIR layout.
        encoder: of both sides.
        most: take about so many passages: those that are judged relevant, and others drawn at random.
    """
    judged, run = _judged(folder)
    documents = list(Source(folder))
    if run is not None:
        wanted = {document for found in run.values() for document in found}
        documents = [it for it in documents if it.id in wanted]
    elif most is not None:
        documents = _sampled(documents, judged, most)
    texts = [passage_text(document.title, document.text) for document in documents]
    passages = _encoded(folder.name, texts, encoder)
    number = {document.id: place for place, document in enumerate(documents)}
    pools = None if run is None else [[number[it] for it in run[query]] for query in judged.queries]
    queries = encoder.encode_queries(list(judged.queries.values()))
    return Judging(folder.name, judged, list(number), texts, passages, queries, pools)


def _judged(folder: Path) -> tuple[Judged, dict[str, list[str]] | None]:
    if folder.name == RERANKED:
        run = {query: list(found) for query, found in load_run(folder / "bm25_top100.trec").items()}
        return judged_queries(folder / "queries.jsonl", folder / "qrels_official" / "dl19.tsv"), run
    whole = load_judged(folder, "test")
    names = sorted(whole.queries)
    if len(names) > QUERIES:
        names = sorted(random.Random(0).sample(names, QUERIES))
    return Judged({it: whole.queries[it] for it in names}, {it: whole.qrels[it] for it in names}), None


def _sampled(documents: Sequence[Document], judged: Judged, most: int) -> list[Document]:
    relevant = {id_ for grades in judged.qrels.values() for id_, grade in grades.items() if grade > 0}
    rest = [place for place, it in enumerate(documents) if it.id not in relevant]
    count = max(most - (len(documents) - len(rest)), 0)
    drawn = set(random.Random(0).sample(rest, min(count, len(rest))))
    return [it for place, it in enumerate(documents) if it.id in relevant or place in drawn]


def _encoded(name: str, texts: Sequence[str], encoder: CachedEncoder) -> list[Embedding]:
    passages: list[Embedding] = []
    for start in range(0, len(texts), WINDOW):
        for it in encoder.encode_documents(texts[start : start + WINDOW]):
            half = np.ascontiguousarray(it.tokens, np.float16)  # a collection of floats is large
            passages.append(_with_tokens(it, half))
        print(f"\r{name}: {len(passages)} of {len(texts)} passages", end="", file=sys.stderr)
    print(file=sys.stderr)
    return passages


def _with_tokens(embedding: Embedding, tokens: np.ndarray) -> Embedding:
    object.__setattr__(embedding, "tokens", tokens)
    return embedding
