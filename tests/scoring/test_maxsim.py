"""MaxSim over ragged batches: against slow loops, by hand, and its invariances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from connector.compression.codecs.scalar_quantization import byte_places
from connector.core.errors import InputError
from connector.core.types import Float32
from connector.scoring import maxsim as scoring
from connector.scoring.maxsim import Scorer, lookups, maxsim, products

KINDS = ["products", "lookups", "scaled"]


@dataclass(frozen=True)
class Batch:
    """Passages, a scorer, and how similar each row is to each query token, found slowly."""

    make: Callable[[str], Scorer]
    rows: Any
    lengths: list[int]
    similarities: list[list[float]]

    @property
    def scorer(self) -> Scorer:
        return self.make("cpu")

    def slow_maxsim(self) -> list[float]:
        scores, start = [], 0
        for length in self.lengths:
            passage = self.similarities[start : start + length]
            scores.append(sum(max(column) for column in zip(*passage, strict=True)))
            start += length
        return scores


def batch_of(kind: str, lengths: list[int], queries: int, width: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    if kind == "products":
        query = rng.normal(size=(queries, width)).astype(np.float32)
        halves = rng.normal(size=(count, width)).astype(np.float16)
        slow = [
            [sum(float(a) * float(b) for a, b in zip(row, asked, strict=True)) for asked in query]
            for row in halves
        ]
        return Batch(lambda device: products(query, widened, device), halves, lengths, slow)
    tables = torch.from_numpy(rng.normal(size=(256 * width, queries)).astype(np.float32))
    codes = rng.integers(0, 256, (count, width), dtype=np.uint8)
    slow = [
        [sum(float(tables[256 * k + code, asked]) for k, code in enumerate(row)) for asked in range(queries)]
        for row in codes.tolist()
    ]
    if kind == "lookups":
        return Batch(lambda device: lookups(tables, byte_places, device), codes, lengths, slow)
    slow = [
        [similarity * (1 + row[0]) / 256 for similarity in line]
        for row, line in zip(codes.tolist(), slow, strict=True)
    ]
    return Batch(lambda device: lookups(tables, byte_places, device, by_first_byte), codes, lengths, slow)


def widened(rows: Any) -> Float32:
    return np.asarray(rows, np.float32)


def by_first_byte(codes: torch.Tensor) -> torch.Tensor:
    return (1 + codes[:, :1].float()) / 256


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    return batch_of(
        draw(st.sampled_from(KINDS)),
        draw(st.lists(st.integers(1, 9), min_size=1, max_size=8)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 2**32)),
    )


def given_scores(similarities: Any, rows: int = 4096) -> tuple[Scorer, Any]:
    """A scorer of row numbers that looks their similarities up in an array, and these numbers."""
    array = np.asarray(similarities, np.float32)
    return Scorer(lambda numbers: torch.from_numpy(array[numbers]), rows), np.arange(len(array))


def close(first: Any, second: Any) -> bool:
    return bool(np.allclose(first, second, atol=1e-4, rtol=1e-4))


# The scorers


@given(batches())
@settings(max_examples=60, deadline=None)
def test_similarities_equal_the_slow_loop(batch: Batch) -> None:
    similarities = batch.scorer.similarities(batch.rows)
    assert similarities.dtype == torch.float32
    assert similarities.shape == (len(batch.rows), len(batch.similarities[0]))
    assert close(similarities.numpy(), batch.similarities)


def test_products_and_lookups_by_hand() -> None:
    query = np.array([[1, 2], [0, -1]], np.float32)
    rows = np.array([[3, 4], [1, 0], [0, 1]], np.float32)
    assert products(query, widened).similarities(rows).tolist() == [[11, -4], [1, 0], [2, -1]]
    tables = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    places = np.array([[0, 2], [1, 1]], np.int32)
    adding = lookups(tables, lambda rows: rows)
    assert adding.similarities(places).tolist() == [[4, 40], [4, 40]]
    halved = lookups(tables, lambda rows: rows, scales=lambda rows: torch.full((len(rows), 1), 0.5))
    assert halved.similarities(places).tolist() == [[2, 20], [2, 20]]


# MaxSim


def test_maxsim_by_hand() -> None:
    """Two query tokens; the passage of rows 0–1 scores 0.9 + 0.8, that of row 2 scores −0.1 − 0.4."""
    scorer, rows = given_scores([[0.9, 0.2], [0.1, 0.8], [-0.1, -0.4]])
    assert np.allclose(maxsim(scorer, rows, [2, 1]), [1.7, -0.5], atol=1e-6)
    assert np.allclose(maxsim(scorer, rows, [3]), [1.7], atol=1e-6)
    assert np.allclose(maxsim(scorer, rows, [1, 1, 1]), [1.1, 0.9, -0.5], atol=1e-6)


@given(batches())
@settings(max_examples=100, deadline=None)
def test_maxsim_equals_the_slow_loop(batch: Batch) -> None:
    scores = maxsim(batch.scorer, batch.rows, batch.lengths)
    assert scores.shape == (len(batch.lengths),)
    assert scores.dtype == np.float32
    assert close(scores, batch.slow_maxsim())


@given(batches(), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_blocks_change_nothing(batch: Batch, rows: int) -> None:
    """Also blocks that are smaller than a passage, which then is a block of its own."""
    whole = maxsim(batch.scorer, batch.rows, batch.lengths)
    assert close(maxsim(replace(batch.scorer, rows=rows), batch.rows, batch.lengths), whole)


@given(batches(), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_blocks_hold_whole_passages_and_as_many_as_fit(batch: Batch, most: int) -> None:
    given_rows: list[int] = []

    def similarities(rows: Any) -> torch.Tensor:
        given_rows.append(len(rows))
        return batch.scorer.similarities(rows)

    maxsim(Scorer(similarities, most), batch.rows, batch.lengths)
    expected: list[int] = []
    for length in batch.lengths:
        if expected and expected[-1] + length <= most:
            expected[-1] += length
        else:
            expected.append(length)
    assert given_rows == expected


@given(batches(), st.integers(1, 30), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_in_a_passage_is_nothing(batch: Batch, most: int, random: Random) -> None:
    order, start = [], 0
    for length in batch.lengths:
        order += random.sample(range(start, start + length), length)
        start += length
    scorer = replace(batch.scorer, rows=most)
    assert close(maxsim(scorer, batch.rows[order], batch.lengths), maxsim(scorer, batch.rows, batch.lengths))


@given(batches())
@settings(max_examples=50, deadline=None)
def test_other_passages_in_the_batch_change_nothing(batch: Batch) -> None:
    ends = np.cumsum(batch.lengths)
    alone = [
        maxsim(batch.scorer, batch.rows[end - n : end], [n])[0]
        for end, n in zip(ends, batch.lengths, strict=True)
    ]
    assert close(maxsim(batch.scorer, batch.rows, batch.lengths), alone)


@given(batches())
@settings(max_examples=50, deadline=None)
def test_repeated_rows_as_padding_change_nothing(batch: Batch) -> None:
    passages = np.split(batch.rows, np.cumsum(batch.lengths)[:-1])
    padded = [np.concatenate([rows, np.repeat(rows[:1], 9 - len(rows), axis=0)]) for rows in passages]
    scores = maxsim(batch.scorer, np.concatenate(padded), [9] * len(batch.lengths))
    assert close(scores, maxsim(batch.scorer, batch.rows, batch.lengths))


@given(batches())
@settings(max_examples=50, deadline=None)
def test_a_longer_passage_scores_no_less(batch: Batch) -> None:
    together = maxsim(batch.scorer, batch.rows, [sum(batch.lengths)])[0]
    assert together >= maxsim(batch.scorer, batch.rows, batch.lengths).max() - 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [1, 32])
def test_thousands_of_rows_of_real_sizes(kind: str, queries: int) -> None:
    """More than a block of the CPU, with one passage that is longer than a block."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(1, 60, 100).tolist(), scoring._CPU_ROWS + 5, 1]
    batch = batch_of(kind, lengths, queries, 4, 0)
    assert sum(lengths) > scoring._CPU_ROWS + 1000
    assert close(maxsim(batch.scorer, batch.rows, lengths), batch.slow_maxsim())


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_and_one_query_token(kind: str) -> None:
    batch = batch_of(kind, [1], 1, 3, 0)
    assert close(maxsim(batch.scorer, batch.rows, [1]), batch.similarities[0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_passages_score_nothing(kind: str) -> None:
    batch = batch_of(kind, [2], 4, 3, 0)
    scores = maxsim(batch.scorer, batch.rows[:0], [])
    assert scores.shape == (0,)
    assert scores.dtype == np.float32


def test_negative_similarities_are_not_lost() -> None:
    """Nothing is padded with zeros: a passage of bad rows scores below zero."""
    scorer, rows = given_scores([[-3.0], [-2.0], [-5.0], [-4.0]])
    assert maxsim(scorer, rows, [1, 3]).tolist() == [-3, -2]
    columns = replace(
        scorer, similarities=lambda numbers: -(2.0 + torch.from_numpy(numbers)[:, None]).float()
    )
    assert maxsim(columns, rows, [1, 3]).tolist() == [-2, -3]


def test_lengths_may_be_an_array_of_any_integers() -> None:
    scorer, rows = given_scores(np.ones((3, 2)))
    assert maxsim(scorer, rows, np.array([1, 2], np.uint8)).tolist() == [2, 2]


def test_lengths_of_a_small_type_do_not_overflow() -> None:
    scorer, rows = given_scores(np.ones((600, 1)), rows=100)
    assert maxsim(scorer, rows, np.array([200, 200, 200], np.uint8)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("lengths", [[], [2], [4], [1, 1], [3, 1], [3, 0], [0, 3], [4, -1]])
def test_lengths_that_do_not_cover_the_rows_are_refused(lengths: list[int]) -> None:
    scorer, rows = given_scores(np.ones((3, 2)))
    with pytest.raises(InputError, match="3 token rows"):
        maxsim(scorer, rows, lengths)


def test_scoring_leaves_its_input_alone() -> None:
    for kind in KINDS:
        batch = batch_of(kind, [2, 3], 4, 3, 0)
        rows, scorer = batch.rows.copy(), batch.scorer
        first = maxsim(scorer, batch.rows, batch.lengths)
        assert np.array_equal(batch.rows, rows)
        assert np.array_equal(maxsim(scorer, batch.rows, batch.lengths), first)


# Threads and devices


def blas_threads() -> set[int]:
    """Of numpy's; a package that is loaded later may bring another BLAS."""
    return {library.num_threads for library in scoring._blas().lib_controllers}


@pytest.mark.parametrize("fails", [False, True])
def test_blas_takes_as_many_threads_as_torch_and_then_what_it_had(fails: bool) -> None:
    seen: list[set[int]] = []

    def similarities(rows: Any) -> torch.Tensor:
        seen.append(blas_threads())
        if fails:
            raise RuntimeError("full")
        return torch.zeros(len(rows), 2)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with threadpool_limits(2, "blas"):
            if fails:
                with pytest.raises(RuntimeError, match="full"):
                    maxsim(Scorer(similarities, 2), np.zeros((4, 1)), [2, 2])
            else:
                maxsim(Scorer(similarities, 2), np.zeros((4, 1)), [2, 2])
            assert blas_threads() == {2}
        assert seen == [{3}] * (1 if fails else 2)
    finally:
        torch.set_num_threads(before)


def test_searches_that_overlap_leave_blas_as_it_was() -> None:
    """The second one comes before the first one goes; a limit of each one's own would stay."""
    with threadpool_limits(2, "blas"):
        first, second = scoring._blas_threads(3), scoring.one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas_threads() == {3}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}
        with scoring.one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {2}


@given(batches(), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_the_way_of_other_devices_gives_the_same(batch: Batch, rows: int) -> None:
    """Taken here on the CPU."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "_on_cpu", lambda _: False)
        there = batch.make("cpu")
    assert there.rows == scoring._CUDA_ROWS
    assert close(there.similarities(batch.rows).numpy(), batch.similarities)
    for scorer in (there, replace(there, rows=rows)):
        assert close(maxsim(scorer, batch.rows, batch.lengths), batch.slow_maxsim())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_gives_the_same_as_the_cpu(kind: str) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 200).tolist()
    batch = batch_of(kind, lengths, 32, 16, 0)
    expected = maxsim(batch.scorer, batch.rows, lengths)
    for device in ("cuda", "cuda:0"):
        scorer = batch.make(device)
        assert scorer.similarities(batch.rows).is_cuda
        for there in (scorer, replace(scorer, rows=500)):
            assert np.allclose(maxsim(there, batch.rows, lengths), expected, atol=1e-2, rtol=1e-3)
