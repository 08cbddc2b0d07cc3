"""The parts of a score in `ranking.py`, for each query and each passage of its pool.

All arrays of one collection are (Q, P), P of the largest pool; what lies beyond a query's own pool is masked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from _ranking_data import Judging
from numpy.typing import NDArray

from connector import Embedding
from connector.collection.pipeline import WINDOW
from connector.compression.codecs import parse_codec
from connector.compression.reduction import Frequencies, parse_reduction
from connector.core.types import Float32, unit
from connector.scoring.bm25 import BM25

DEEP = 200
"""Passages that CLS, and the library's BM25, put into a pool."""

OUTSIDE = np.float32(-1e9)
"""The score of what is masked."""


@dataclass(frozen=True)
class Shape:
    """How passages are stored.

    Args:
        reduction: a spec, or "" for all tokens.
        codec: a spec.
        centred: whether the codec begins with center.
    """

    reduction: str
    codec: str
    centred: bool = True


@dataclass(frozen=True)
class Stored:
    """What is known of the passages of one collection in one shape.

    Args:
        maxima: for each query, passage of its pool and query row the best similarity, one after another.
        rows: (N,) stored rows of each passage.
        row_bytes: what one takes.
        means: (N, d) of each passage the mean of its decoded codes, less the mean of all, of unit length.
    """

    maxima: Float32
    rows: NDArray[np.int64]
    row_bytes: int
    means: Float32


class Pools:
    """One collection: the pool of each query, the parts that need no tokens, and the judgements.

    Args:
        it: the collection.
    """

    def __init__(self, it: Judging) -> None:
        passages, queries = np.stack([p.cls for p in it.passages]), np.stack([q.cls for q in it.queries])
        asked = list(it.judged.queries.values())
        dense, words = queries @ passages.T, by_bm25s(it.texts, asked)
        own, entries = by_own_bm25(it.texts, asked)
        pools = it.pools or [np.union1d(_best(a), _best(b)) for a, b in zip(dense, own, strict=True)]
        self.name = it.name
        self.counts = np.array([len(pool) for pool in pools])
        self.inside = np.arange(self.counts.max()) < self.counts[:, None]
        self.pool = np.zeros(self.inside.shape, np.intp)
        self.pool[self.inside] = np.concatenate(pools)
        self.dense, self.words, self.own_words = (
            self.scaled(np.take_along_axis(part, self.pool, axis=1)) for part in (dense, words, own)
        )
        self.cls = unit(passages - passages.mean(axis=0))
        self.tokens = sum(len(p) for p in it.passages)
        self.word_bytes = 8 * entries
        counted = Frequencies()
        counted.add(it.passages)
        self.idf = np.concatenate([counted.idf(q.token_ids) for q in it.queries])
        self.own_rows = np.concatenate([~q.special for q in it.queries])
        self.lengths = np.array([len(q) for q in it.queries])
        self._judge(it)
        self._lay_out()

    def scaled(self, part: NDArray[Any]) -> Float32:
        """(Q, P) each query's from 0, for the least of its pool, to 1."""
        least = np.where(self.inside, part, np.inf).min(axis=1, keepdims=True)
        most = np.where(self.inside, part, -np.inf).max(axis=1, keepdims=True)
        inside = (part - least) / np.maximum(most - least, 1e-12)
        return np.where(self.inside, inside, OUTSIDE).astype(np.float32)

    def by_tokens(self, stored: Stored, weights: Float32, length: float) -> Float32:
        """(Q, P) Σ wᵢ maxⱼ sᵢⱼ / Σ wᵢ − length · ln(rows), scaled; where no row weighs, all have 1."""
        starts = np.cumsum(self.lengths) - self.lengths
        total = np.add.reduceat(weights, starts)
        none = total <= 0
        weights = np.where(np.repeat(none, self.lengths), 1, weights)
        total = np.where(none, self.lengths, total)
        score = np.zeros(self.pool.shape, np.float32)
        score[self._query, self._place] = np.add.reduceat(stored.maxima * weights[self._weight], self._start)
        return self.scaled(score / total[:, None] - length * np.log(stored.rows)[self.pool])

    def ndcg(self, score: Float32) -> NDArray[np.float64]:
        """(Q,) nDCG@10 of the pool in the order of the score, with the grades as gains (as ir-measures)."""
        first = np.argpartition(-score, min(10, score.shape[1] - 1), axis=1)[:, :10]
        order = np.argsort(-np.take_along_axis(score, first, axis=1), axis=1, kind="stable")
        grades = np.take_along_axis(self._grades, np.take_along_axis(first, order, axis=1), axis=1)
        return (grades @ _DISCOUNTS[: grades.shape[1]]) / self._ideal

    def ranking(self, score: Float32) -> list[list[int]]:
        """Numbers of the best ten passages of each query."""
        order = np.argsort(-score, axis=1, kind="stable")[:, :10]
        return [
            list(self.pool[query][places[self.inside[query][places]]]) for query, places in enumerate(order)
        ]

    def alike(self, vectors: Float32) -> Float32:
        """(Q, P, P) inner products of the vectors (N, d) of all pairs of a pool."""
        products = np.empty((*self.pool.shape, self.pool.shape[1]), np.float32)
        for query, pool in enumerate(self.pool):
            products[query] = vectors[pool] @ vectors[pool].T
        return products

    def maxima(self, rows: Callable[[int], Float32], queries: Float32) -> Float32:
        """As `Stored` has them, from the rows of a passage and all queries' rows in the scored space."""
        found = np.empty(self._weight.size, np.float32)
        starts = np.cumsum(self.lengths) - self.lengths
        passages = self.pool[self._query, self._place]
        order = np.argsort(passages, kind="stable")
        numbers, firsts = np.unique(passages[order], return_index=True)
        for passage, pairs in zip(numbers, np.split(order, firsts[1:]), strict=True):
            asking = self._query[pairs]
            asked = _runs(starts[asking], self.lengths[asking])
            places = _runs(self._start[pairs], self.lengths[asking])
            found[places] = (queries[asked] @ rows(passage).T).max(axis=1)
        return found

    def _judge(self, it: Judging) -> None:
        number = {id_: place for place, id_ in enumerate(it.ids)}
        self._grades, ideal = np.zeros(self.pool.shape), []
        for query, name in enumerate(it.judged.queries):
            grades = {id_: grade for id_, grade in it.judged.qrels[name].items() if grade > 0}
            found = {number[id_]: grade for id_, grade in grades.items() if id_ in number}
            self._grades[query] = [found.get(passage, 0) for passage in self.pool[query]]
            best = sorted(grades.values(), reverse=True)[:10]
            ideal.append(np.dot(best, _DISCOUNTS[: len(best)]) if best else 1.0)
        self._grades *= self.inside
        self._ideal = np.array(ideal)

    def _lay_out(self) -> None:
        """Where the maxima of each pair of query and passage begin, and whose weight each of them takes."""
        self._query, self._place = np.nonzero(self.inside)
        asked = self.lengths[self._query]
        self._start = np.cumsum(asked) - asked
        self._weight = _runs((np.cumsum(self.lengths) - self.lengths)[self._query], asked)


_DISCOUNTS = 1 / np.log2(np.arange(2, 12))


def _runs(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """start, start + 1, … of each run, one run after another."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


def _best(scores: Float32) -> NDArray[np.intp]:
    best = np.argsort(-scores, kind="stable")[:DEEP]
    return best[scores[best] != 0]


def by_bm25s(texts: Sequence[str], queries: Sequence[str]) -> Float32:
    """(Q, N) BM25 by bm25s with its own settings, English stop words left out."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    split = bm25s.tokenize(list(queries), stopwords="en", show_progress=False, return_ids=False)
    known = [[word for word in words if word in index.vocab_dict] for words in split]
    nothing = np.zeros(len(texts), np.float32)
    return np.stack([index.get_scores(words) if words else nothing for words in known])


def by_own_bm25(texts: Sequence[str], queries: Sequence[str]) -> tuple[Float32, int]:
    """(Q, N) BM25 by the library's weights and Qdrant's idf, and how many weights the passages have."""
    model = BM25("english", BM25("english").mean_length(texts[:WINDOW]))
    weights = [model.passage(text) for text in texts]
    words = np.concatenate([it.indices for it in weights])
    values = np.concatenate([it.values for it in weights])
    passages = np.repeat(np.arange(len(texts)), [len(it) for it in weights])
    order = np.argsort(words, kind="stable")
    words, values, passages = words[order], values[order], passages[order]
    scores = np.zeros((len(queries), len(texts)), np.float32)
    for number, query in enumerate(queries):
        asked = model.query(query)
        for word, times in zip(asked.indices, asked.values, strict=True):
            first, last = np.searchsorted(words, word), np.searchsorted(words, word, "right")
            count = last - first
            idf = np.log1p((len(texts) - count + 0.5) / (count + 0.5))
            scores[number, passages[first:last]] += times * idf * values[first:last]
    return scores, len(words)


def stored(it: Judging, pools: Pools, shape: Shape, cache: Path) -> Stored:
    """The passages in a shape, from the cache if they were there before.

    Args:
        it: the collection.
        pools: its pools.
        shape: what the passages are stored in.
        cache: names one encoder's files.
    """
    named = hashlib.sha256(repr((it.name, len(it.passages), len(it.queries), shape)).encode()).hexdigest()
    path = cache / f"{it.name}-{named[:16]}.npz"
    if path.exists():
        with np.load(path) as kept:
            return Stored(kept["maxima"], kept["rows"], int(kept["row_bytes"]), kept["means"])
    found = _made(it, pools, shape)
    np.savez(path, **vars(found))
    return found


def _made(it: Judging, pools: Pools, shape: Shape) -> Stored:
    reduced = _reduced(it.passages, shape.reduction)
    ends = np.cumsum([len(tokens) for tokens in reduced])
    tokens, asked = np.concatenate(reduced), np.concatenate([q.tokens for q in it.queries])
    sample = np.random.default_rng(0).choice(len(tokens), min(len(tokens), 10_000), replace=False)
    spec = f"center+{shape.codec}" if shape.centred else shape.codec
    codec = parse_codec(spec).fit(tokens[np.sort(sample)].astype(np.float32))
    parts = [codec.encode(part.astype(np.float32)) for part in np.split(tokens, ends[:-1])]
    means = np.stack([codec.decode(part).mean(axis=0) for part in parts])
    return Stored(
        pools.maxima(lambda number: codec.decode(parts[number]), codec.encode_query(asked)),
        np.array([len(part) for part in parts]),
        codec.stored_row_bytes,
        unit(means - means.mean(axis=0)),
    )


def _reduced(passages: Sequence[Embedding], spec: str) -> list[NDArray[Any]]:
    if not spec:
        return [it.tokens for it in passages]
    reduction = parse_reduction(spec)
    return [reduction(as_float(it)).tokens.astype(np.float16) for it in passages]


def as_float(embedding: Embedding) -> Embedding:
    """With token vectors in single precision, which arithmetic is faster in."""
    every = np.arange(len(embedding))
    return embedding.select(every, embedding.tokens.astype(np.float32))
