"""Measures of a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
from ir_measures import RR, P, R, nDCG

from connector.evaluation.beir import Judged

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
    names = {str(value): name for name, value in wanted.items()}
    totals = dict.fromkeys(wanted, 0.0)
    for result in ir_measures.iter_calc(list(wanted.values()), judged.qrels, run):
        totals[names[str(result.measure)]] += result.value
    return {name: round(total / len(judged.qrels), 5) for name, total in totals.items()}


def _percentile(values: list[float], percent: int) -> float:
    return round(float(np.percentile(values, percent)), 3)


def ndcg(ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """nDCG@10 of document ids, best first, by ir-measures; 0 without any.

    Args:
        ranking: document ids, best first.
        grades: document id to grade; those that are not there have grade 0.
    """
    run = {"query": {document: -float(place) for place, document in enumerate(ranking[:DEPTH])}}
    values = ir_measures.iter_calc([ir_measures.nDCG @ DEPTH], {"query": dict(grades)}, run)
    return float(sum(it.value for it in values))
