"""Fusion: by hand, against a slow reference, and its laws."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core.errors import RecipeError
from connector.scoring.feedback import Feedback, agreement, first_of_each, parse_feedback
from connector.scoring.fusion import METHODS, PARTS, Float64, Fusion, Method, parse_fusion

SCORES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=30).map(lambda it: np.array(it, float) / 8)


def fused(fusion: Fusion, parts: dict[str, Float64]) -> Float64:
    """The score of each candidate."""
    return np.sum([w * fusion.scale(name, parts[name])(parts[name]) for name, w in fusion.weights.items()], 0)


def slowly(method: str, scores: list[float], name: str) -> list[float]:
    """Scaled scores, as the definitions say."""
    if method == "rrf":
        return [1 / (60 + 1 + sum(other > it for other in scores)) for it in scores]
    low, high = min(scores), max(scores)
    if method == "tmm":
        low = {"tokens": -1.0, "bm25": 0.0, "cls": -1.0}[name]
    if method == "zscore":
        low = sum(scores) / len(scores)
        high = low + math.sqrt(sum((it - low) ** 2 for it in scores) / len(scores))
    if method == "sum":
        low, high = 0.0, 1.0
    return [(it - low) / (high - low) if high > low else 0.0 for it in scores]


def test_min_max_by_hand() -> None:
    fusion = parse_fusion("minmax:tokens=1,bm25=0.5,cls=0.25")
    parts = {
        "tokens": np.array([0.2, 0.4, 0.8]),
        "bm25": np.array([10.0, 0.0, 5.0]),
        "cls": np.array([0.3, 0.3, 0.3]),  # equal for all: it decides nothing
    }
    assert fused(fusion, parts) == pytest.approx([0.5, 1 / 3, 1.25])


def test_ranks_by_hand() -> None:
    scale = Fusion("rrf", cls=1).scale("cls", np.array([0.1, 0.9, 0.5, 0.5]))
    assert scale(np.array([0.9, 0.5, 0.1])) == pytest.approx([1 / 61, 1 / 62, 1 / 64])
    assert scale(np.array([0.6, 2.0])) == pytest.approx([1 / 62, 1 / 61])  # of others than the candidates


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PARTS)
@given(scores=SCORES)
def test_a_scale_is_as_defined(method: Method, name: Any, scores: Float64) -> None:
    scaled = Fusion(method, **{name: 1.0}).scale(name, scores)(scores)
    assert scaled == pytest.approx(slowly(method, scores.tolist(), name), rel=1e-9, abs=1e-9)


@given(scores=SCORES, factor=st.integers(1, 64), shift=st.integers(-64, 64))
def test_min_max_does_not_change_under_a_positive_affine_change(
    scores: Float64, factor: int, shift: int
) -> None:
    fusion = Fusion("minmax", tokens=1, bm25=0.5)
    other = scores[::-1].copy()
    before = fused(fusion, {"tokens": scores, "bm25": other})
    after = fused(fusion, {"tokens": scores * factor + shift, "bm25": other})
    assert after == pytest.approx(before, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
@given(scores=SCORES)
def test_one_part_alone_gives_its_order(method: Method, scores: Float64) -> None:
    scores = scores / 128  # a cosine is not below its infimum, -1
    totals = fused(Fusion(method, cls=0.7), {"cls": scores})
    assert (np.sign(np.subtract.outer(totals, totals)) == np.sign(np.subtract.outer(scores, scores))).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_candidates_and_one(method: Method) -> None:
    fusion = Fusion(method, tokens=1)
    assert len(fusion.scale("tokens", np.zeros(0))(np.zeros(0))) == 0
    assert np.isfinite(fusion.scale("tokens", np.array([0.5]))(np.array([0.5]))).all()


@given(
    weights=st.fixed_dictionaries({name: st.floats(0, 10) for name in PARTS}).filter(
        lambda it: any(it.values())
    ),
    method=st.sampled_from(get_args(Method)),
)
def test_a_text_names_the_same_fusion(weights: dict[str, float], method: Method) -> None:
    fusion = Fusion(method, **weights)
    assert parse_fusion(fusion.spec).weights == pytest.approx(fusion.weights, rel=1e-9)
    assert parse_fusion(fusion) is fusion


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("minmax", "'minmax' is not known; give a method"),
        ("minmax:tokens=1e308", "give a number from 0 to 1,000,000"),
        ("minmax:", "'' is no weight of tokens, bm25, cls"),
        ("best:cls=1", "'best' is not known; give one of minmax, tmm, zscore, rrf, sum"),
        ("minmax:cls=1,cls=2", "'cls=2' is no weight"),
        ("minmax:words=1", "'words=1' is no weight"),
        ("minmax:cls=-1", "'cls=-1' is no weight"),
        ("minmax:cls=0", "fusion weighs nothing"),
        (3, "3 is not known; give a method"),
    ],
)
def test_what_names_no_fusion(spec: Any, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        parse_fusion(spec)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1.0])
def test_a_weight_that_is_none(weight: float) -> None:
    with pytest.raises(RecipeError, match="give a number from 0"):
        Fusion("sum", tokens=weight)


def test_without_a_part() -> None:
    fusion = parse_fusion("minmax:tokens=1,bm25=0.5")
    assert fusion.without("bm25") == Fusion("minmax", tokens=1)
    assert fusion.without("bm25", "tokens") is None


# Feedback


def test_feedback_by_name() -> None:
    assert parse_feedback("codes=3") == Feedback(codes=3)
    assert parse_feedback("codes=1.5,cls=0.5,hits=3") == Feedback(1.5, 0.5, 3)
    for spec in ("codes=3", "codes=1.5,cls=0.5,hits=3"):
        assert parse_feedback(spec).spec == spec


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("words=1", "'words=1' is no weight of codes, cls, hits"),
        ("codes=0", "give one a finite weight above 0"),
        ("codes=1,hits=1", "whole number of at least 2"),
        ("codes=1,hits=2.5", "whole number of at least 2"),
        ("", "'' is no weight"),
    ],
)
def test_what_names_no_feedback(spec: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        parse_feedback(spec)


def test_agreement_by_hand() -> None:
    assert agreement(np.array([[1, 0], [2, 0]], np.float32)) == pytest.approx(1)
    assert agreement(np.array([[1, 0], [3, 4]], np.float32)) == pytest.approx(0.6)
    assert agreement(np.array([[1, 0], [-1, 0]], np.float32)) == 0  # hits that contradict each other
    three = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert agreement(three) == pytest.approx(1 / 3)


def test_the_first_hits_are_of_different_documents() -> None:
    assert first_of_each(["a", "b", "a", "c"], [2, 0, 3, 1], 2) == [2, 3]
    assert first_of_each(["a", "a"], [1, 0], 2) == [1]
