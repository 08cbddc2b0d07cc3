"""Measures of a ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ir_measures
import numpy as np
from ir_measures import RR, P, R, nDCG
from numpy.typing import NDArray

from connector.evaluation.ranking import Ranking
from connector.evaluation.trec import Qrels, Run, by_score

Float64 = NDArray[np.float64]


DEPTH = 10
"""Of the measure, nDCG@10."""


def measure(qrels: Qrels, run: Run, min_relevance: int = 1) -> dict[str, float]:
    """Means over all judged queries; one that the run lacks counts as zero.

    Args:
        qrels: the judgements.
        run: the scores; of those that are alike the first counts as better.
        min_relevance: the least grade that R, RR and P count as relevant. nDCG uses the grades.
    """
    wanted = {
        "nDCG@10": nDCG @ 10,
        "R@100": R(rel=min_relevance) @ 100,
        "RR@10": RR(rel=min_relevance) @ 10,
        "P@10": P(rel=min_relevance) @ 10,
    }
    places = {query: _places(by_score(scores)) for query, scores in run.items()}
    means = ir_measures.calc_aggregate(list(wanted.values()), qrels, places)
    return {name: round(means[it], 5) for name, it in wanted.items()}


def _places(ranking: Iterable[str]) -> dict[str, float]:
    """A ranking as scores, no two alike: each measure has an order of its own for those that are."""
    return {document: -float(place) for place, document in enumerate(ranking)}


def ndcg(rankings: Iterable[Ranking], grades: Iterable[Mapping[str, int]]) -> Float64:
    """(Q,) nDCG@10 of each query's ranking, by ir-measures; 0 where nothing is found.

    Args:
        rankings: document ids of each query, best first.
        grades: of each query document id to grade; those that are not there have grade 0.
    """
    qrels = {str(query): dict(it) for query, it in enumerate(grades)}
    run = {query: _places(ranking[:DEPTH]) for query, ranking in zip(qrels, rankings, strict=True)}
    values = {it.query_id: it.value for it in ir_measures.iter_calc([nDCG @ DEPTH], qrels, run)}
    return np.array([values[query] for query in qrels])
