"""Voronoi pruning: drop the tokens whose loss changes the score of a random query least."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from connector.core.registry import Method
from connector.core.types import Embedding, Float32
from connector.reduction.base import Budget, Need, Rows, Setting, Step

_QUERIES = 256
"""Random queries that stand for all of them. 512 and 1,024 gave no better rankings on SciFact."""

_ROUND = 0.1
"""Share of the rows left that go in one round. Dropping one at a time cost 1.7 times as long for the same."""


@dataclass(frozen=True, slots=True)
class Voronoi:
    """The k rows left when those with the smallest estimated error are dropped, round after round.

    A token's Voronoi cell are the queries that it is the best match of. Dropping it changes the MaxSim of a
    query q in its cell by max over all rows of q·d less the max over the other rows; the mean of that over
    queries drawn uniformly from the unit sphere (256, the same ones always) is the token's error. Errors are
    estimated anew after each round, which drops the tenth with the smallest ones.

    Source: Kankanampati, Zong, Tomeh, Piwowarski and Le Roux, "A Voronoi Cell Formulation for Principled
    Token Pruning in Late-Interaction Retrieval Models", SIGIR 2026, arXiv 2603.09933; here with a budget a
    passage, where the paper also spends one over the whole corpus.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    budget: Budget

    def keep(self, embedding: Embedding) -> Rows:
        left = np.arange(len(embedding))
        wanted = self.budget.rows(len(left))
        scores = _queries(embedding.tokens.shape[1]) @ embedding.tokens.T
        while len(left) > wanted:
            errors = removal_errors(scores)
            dropped = max(min(int(_ROUND * len(left)), len(left) - wanted), 1)
            stay = np.sort(np.argsort(errors, kind="stable")[dropped:])
            left, scores = left[stay], scores[:, stay]
        return left


def removal_errors(scores: Float32) -> Float32:
    """(n,) by how much the best score of a query falls when a token is missing, summed over the queries.

    Args:
        scores: (S, n) inner products of S queries with n ≥ 2 tokens.
    """
    rows = np.arange(len(scores))
    best = scores.argmax(axis=1)
    highest = scores[rows, best]
    scores[rows, best] = -np.inf
    margins = highest - scores.max(axis=1)
    scores[rows, best] = highest
    errors: Float32 = np.bincount(best, margins, minlength=scores.shape[1]).astype(np.float32)
    return errors


@cache
def _queries(width: int) -> Float32:
    """(S, w) float32 rows drawn uniformly from the unit sphere."""
    gaussian = np.random.default_rng(0).normal(size=(_QUERIES, width))
    queries: Float32 = (gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True)).astype(np.float32)
    return queries


METHODS: tuple[Method[Step, Setting], ...] = (
    Method(
        "voronoi-K",
        "the K tokens whose loss would change the score of random queries most",
        "Kankanampati et al., A Voronoi Cell Formulation, SIGIR 2026",
        lambda text, setting: Voronoi(Budget.parse(text, setting)),
    ),
)
