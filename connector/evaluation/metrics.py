"""Measures of a ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ir_measures
import numpy as np
from ir_measures import RR, P, R, nDCG
from numpy.typing import NDArray

from connector.evaluation.beir import Judged
from connector.evaluation.ranking import Ranking

Float64 = NDArray[np.float64]


Run = dict[str, dict[str, float]]
"""Query id to document id to score."""


DEPTH = 10
"""Of the measure, nDCG@10."""


def measure(judged: Judged, run: Run, min_relevance: int = 1) -> dict[str, float]:
    """Means over all judged queries; one that the run lacks counts as zero.

    Args:
        judged: the judgements.
        run: the scores.
        min_relevance: the least grade that R, RR and P count as relevant. nDCG uses the grades.
    """
    wanted = {
        "nDCG@10": nDCG @ 10,
        "R@100": R(rel=min_relevance) @ 100,
        "RR@10": RR(rel=min_relevance) @ 10,
        "P@10": P(rel=min_relevance) @ 10,
    }
    means = ir_measures.calc_aggregate(list(wanted.values()), judged.qrels, run)
    return {name: round(means[it], 5) for name, it in wanted.items()}


def ndcg(rankings: Iterable[Ranking], grades: Iterable[Mapping[str, int]]) -> Float64:
    """(Q,) nDCG@10 of each query's ranking, by ir-measures; 0 where nothing is found.

    Args:
        rankings: document ids of each query, best first.
        grades: of each query document id to grade; those that are not there have grade 0.
    """
    qrels = {str(query): dict(it) for query, it in enumerate(grades)}
    run = {
        query: {document: -float(place) for place, document in enumerate(ranking[:DEPTH])}
        for query, ranking in zip(qrels, rankings, strict=True)
    }
    values = {it.query_id: it.value for it in ir_measures.iter_calc([nDCG @ DEPTH], qrels, run)}
    return np.array([values[query] for query in qrels])
