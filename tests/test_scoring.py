"""MaxSim over ragged batches: against a slow loop, by hand, and its invariances."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import InputError
from connector.scoring import maxsim
from connector.types import Float32


def slow_maxsim(similarities: Float32, lengths: list[int]) -> list[float]:
    scores, start = [], 0
    for length in lengths:
        passage = similarities[start : start + length]
        scores.append(sum(max(row[column] for row in passage) for column in range(similarities.shape[1])))
        start += length
    return scores


@st.composite
def batches(draw: st.DrawFn) -> tuple[Float32, list[int]]:
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.uniform(-1, 1, (sum(lengths), draw(st.integers(0, 6)))).astype(np.float32), lengths


def test_maxsim_by_hand() -> None:
    """Two query tokens; the passage of rows 0–1 scores 0.9 + 0.8, that of row 2 scores −0.1 − 0.4."""
    similarities = np.array([[0.9, 0.2], [0.1, 0.8], [-0.1, -0.4]], np.float32)
    assert np.allclose(maxsim(similarities, [2, 1]), [1.7, -0.5], atol=1e-6)
    assert np.allclose(maxsim(similarities, [3]), [1.7], atol=1e-6)
    assert np.allclose(maxsim(similarities, [1, 1, 1]), [1.1, 0.9, -0.5], atol=1e-6)


@given(batches())
@settings(max_examples=50, deadline=None)
def test_maxsim_equals_the_slow_loop(batch: tuple[Float32, list[int]]) -> None:
    similarities, lengths = batch
    scores = maxsim(similarities, lengths)
    assert scores.shape == (len(lengths),)
    assert scores.dtype == np.float32
    assert np.allclose(scores, slow_maxsim(similarities, lengths), atol=1e-5)


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_in_a_passage_is_nothing(batch: tuple[Float32, list[int]], random: Random) -> None:
    similarities, lengths = batch
    order, start = [], 0
    for length in lengths:
        order += random.sample(range(start, start + length), length)
        start += length
    assert np.array_equal(maxsim(similarities[order], lengths), maxsim(similarities, lengths))


@given(batches())
@settings(max_examples=50, deadline=None)
def test_other_passages_in_the_batch_change_nothing(batch: tuple[Float32, list[int]]) -> None:
    similarities, lengths = batch
    ends = np.cumsum(lengths)
    alone = [maxsim(similarities[end - n : end], [n])[0] for end, n in zip(ends, lengths, strict=True)]
    assert np.array_equal(maxsim(similarities, lengths), np.array(alone, np.float32))


@given(batches())
@settings(max_examples=50, deadline=None)
def test_repeated_rows_as_padding_change_nothing(batch: tuple[Float32, list[int]]) -> None:
    similarities, lengths = batch
    passages = np.split(similarities, np.cumsum(lengths)[:-1])
    padded = [np.concatenate([rows, np.repeat(rows[:1], 9 - len(rows), axis=0)]) for rows in passages]
    scores = maxsim(np.concatenate(padded), [9] * len(lengths))
    assert np.array_equal(scores, maxsim(similarities, lengths))


@given(batches())
@settings(max_examples=50, deadline=None)
def test_a_longer_passage_scores_no_less(batch: tuple[Float32, list[int]]) -> None:
    similarities, lengths = batch
    together = maxsim(similarities, [sum(lengths)])[0]
    assert together >= maxsim(similarities, lengths).max() - 1e-5


def test_lengths_may_be_an_array_of_any_integers() -> None:
    similarities = np.ones((3, 2), np.float32)
    assert maxsim(similarities, np.array([1, 2], np.uint8)).tolist() == [2, 2]


def test_no_passages_score_nothing() -> None:
    assert maxsim(np.empty((0, 4), np.float32), []).shape == (0,)


@pytest.mark.parametrize("lengths", [[], [2], [4], [1, 1], [3, 1], [3, 0], [0, 3], [4, -1]])
def test_lengths_that_do_not_cover_the_rows_are_refused(lengths: list[int]) -> None:
    with pytest.raises(InputError, match="3 token rows"):
        maxsim(np.ones((3, 2), np.float32), lengths)
