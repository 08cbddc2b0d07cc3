"""Aligned scores: by hand, against one passage at a time, and what must not change them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.compression.codecs import parse_codec
from connector.core.errors import InputError, RecipeError
from connector.core.types import Float32
from connector.scoring.alignment import Alignment, TopK, TopP, aligned_cells, coarse, parse_alignment
from connector.scoring.maxsim import aligned, maxsim, products
from connector.scoring.topk import ABSENT, largest

S = np.array([[0.1, 0.9, 0.5], [0.4, 0.2, 0.3]], np.float32)

ALIGNMENTS: list[Alignment] = [TopK(1), TopK(2), TopK(3), TopK(4), TopK(8), TopP(1.5), TopP(40), TopP(100)]


def unit(rng: np.random.Generator, rows: int, width: int) -> Float32:
    vectors = rng.normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def slow_score(
    similarities: list[list[float]],
    alignment: Alignment,
    query_saliency: list[float],
    passage_saliency: list[float],
) -> float:
    """The formula, cell by cell."""
    columns = len(similarities[0])
    count = (
        min(alignment.k, columns)
        if isinstance(alignment, TopK)
        else max(int(alignment.percent * columns / 100 + 1e-9), 1)
    )
    total = weight = 0.0
    for row, asked in zip(similarities, query_saliency, strict=True):
        largest_first = sorted(range(columns), key=lambda column: -row[column])
        for column in largest_first[:count]:
            cell = asked * passage_saliency[column]
            total += cell * row[column]
            weight += cell
    return total / weight if weight else 0.0


@pytest.mark.parametrize(
    ("alignment", "query", "passage", "expected"),
    [
        (TopK(1), None, None, (0.9 + 0.4) / 2),
        (TopK(2), None, None, (0.9 + 0.5 + 0.4 + 0.3) / 4),
        (TopK(3), None, None, (0.1 + 0.9 + 0.5 + 0.4 + 0.2 + 0.3) / 6),
        (TopK(9), None, None, (0.1 + 0.9 + 0.5 + 0.4 + 0.2 + 0.3) / 6),
        (TopP(1), None, None, (0.9 + 0.4) / 2),  # max(⌊0.03⌋, 1) = 1
        (TopP(67), None, None, (0.9 + 0.5 + 0.4 + 0.3) / 4),  # ⌊2.01⌋ = 2
        (TopK(1), [3, 1], None, (3 * 0.9 + 0.4) / 4),
        (TopK(1), None, [51, 102, 204], (102 * 0.9 + 51 * 0.4) / 153),
        (TopK(2), [3, 1], [51, 102, 204], (306 * 0.9 + 612 * 0.5 + 51 * 0.4 + 204 * 0.3) / 1173),
        (TopK(1), [1, 1], [255, 0, 255], 0.4),  # the first row's best cell weighs nothing
        (TopK(1), [1, 0], [255, 0, 255], 0.0),  # no aligned cell weighs anything
        (TopK(3), [1, 0], [255, 0, 0], 0.1),  # one cell: the inner product of two vectors
    ],
)
def test_two_by_three_by_hand(
    alignment: Alignment, query: list[float] | None, passage: list[int] | None, expected: float
) -> None:
    asked = None if query is None else np.array(query, np.float32)
    stored = None if passage is None else np.array(passage, np.uint8)
    shares = aligned_cells(S, alignment, asked, None if stored is None else stored.astype(np.float32))
    assert (S * shares).sum() == pytest.approx(expected, abs=1e-6)
    scorer = products(S, lambda rows: rows)  # a passage of the three unit vectors has similarities S
    score = aligned(scorer, np.eye(3, dtype=np.float32), [3], alignment, asked, stored)
    assert score[0] == pytest.approx(expected, abs=3e-5)


def test_the_shares_of_cells_by_hand() -> None:
    shares = aligned_cells(S, TopK(1), np.array([3, 1], np.float32), np.array([1, 2, 4], np.float32))
    np.testing.assert_allclose(shares, [[0, 6 / 7, 0], [1 / 7, 0, 0]], atol=1e-7)


@pytest.mark.parametrize("spec", ["float32", "float16", "binary", "int8", "residual-1"])
@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=lambda it: it.spec)
def test_kernels_do_what_one_passage_at_a_time_does(spec: str, alignment: Alignment) -> None:
    rng = np.random.default_rng(3)
    lengths = np.array([1, 2, 3, 90, 5, 33, 17, 4, 64, 8, 1, 41])
    tokens, query = unit(rng, int(lengths.sum()), 32), unit(rng, 7, 32)
    codec = parse_codec(spec).fit(tokens)
    rows, asked = codec.encode(tokens), codec.encode_query(query)
    decoded = codec.decode(rows)
    weights = rng.random(7).astype(np.float32)
    bytes_ = rng.integers(0, 256, len(rows)).astype(np.uint8)
    for own, stored in itertools.product((None, weights), (None, bytes_)):
        scores = aligned(codec.scorer(asked), rows, lengths, alignment, own, stored)
        for number, end in enumerate(np.cumsum(lengths)):
            here = slice(end - lengths[number], end)
            saliency = None if stored is None else stored[here].astype(np.float32)
            similarities = asked @ decoded[here].T
            shares = aligned_cells(similarities, alignment, own, saliency)
            assert scores[number] == pytest.approx((similarities * shares).sum(), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 6),
    st.sampled_from(ALIGNMENTS),
    st.integers(0, 2**31),
)
def test_one_passage_against_the_formula(
    lengths: list[int], queries: int, alignment: Alignment, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    query, rows = unit(rng, queries, 8), unit(rng, sum(lengths), 8)
    own, stored = rng.random(queries).astype(np.float32), rng.integers(1, 256, len(rows)).astype(np.uint8)
    scores = aligned(products(query, lambda it: it), rows, lengths, alignment, own, stored)
    for number, end in enumerate(itertools.accumulate(lengths)):
        here = slice(end - lengths[number], end)
        expected = slow_score(
            coarse(query @ rows[here].T).tolist(), alignment, own.tolist(), stored[here].tolist()
        )
        assert scores[number] == pytest.approx(expected, abs=2e-3)  # near ties may fall either way
    without = aligned(products(query, lambda it: it), rows, lengths, alignment)
    for number, end in enumerate(itertools.accumulate(lengths)):
        here = slice(end - lengths[number], end)
        ones = slow_score(
            (query @ rows[here].T).tolist(), alignment, [1.0] * queries, [1.0] * lengths[number]
        )
        assert without[number] == pytest.approx(ones, abs=1e-5)


def test_the_one_best_with_equal_weights_is_maxsim(rng: np.random.Generator) -> None:
    query, rows, lengths = unit(rng, 9, 16), unit(rng, 60, 16), [10, 20, 30]
    scorer = products(query, lambda it: it)
    np.testing.assert_allclose(
        aligned(scorer, rows, lengths, TopK(1)), maxsim(scorer, rows, lengths) / 9, rtol=1e-6
    )


def test_one_cell_is_dense_scoring(rng: np.random.Generator) -> None:
    query, passage = unit(rng, 5, 16), unit(rng, 12, 16)
    first_of_query, first_of_passage = np.eye(5, dtype=np.float32)[0], np.zeros(12, np.uint8)
    first_of_passage[0] = 255
    score = aligned(products(query, lambda it: it), passage, [12], TopK(12), first_of_query, first_of_passage)
    assert score[0] == pytest.approx(query[0] @ passage[0], abs=2e-5)


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=lambda it: it.spec)
def test_the_order_of_a_passages_rows_changes_nothing(alignment: Alignment, rng: np.random.Generator) -> None:
    query, rows = unit(rng, 6, 8), unit(rng, 50, 8)
    rows[25:] = rows[:25]  # every similarity twice, with another saliency
    stored = rng.integers(0, 256, 50).astype(np.uint8)
    order = rng.permutation(50)
    scorer = products(query, lambda it: it)
    before = aligned(scorer, rows, [50], alignment, None, stored)
    after = aligned(scorer, rows[order], [50], alignment, None, stored[order])
    np.testing.assert_allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("alignment", ALIGNMENTS, ids=lambda it: it.spec)
def test_the_scale_of_both_saliences_changes_nothing(alignment: Alignment, rng: np.random.Generator) -> None:
    query, rows = unit(rng, 6, 8), unit(rng, 50, 8)
    own, stored = rng.random(6).astype(np.float32), rng.integers(0, 60, 50).astype(np.uint8)
    scorer = products(query, lambda it: it)
    np.testing.assert_allclose(
        aligned(scorer, rows, [20, 30], alignment, own, stored),
        aligned(scorer, rows, [20, 30], alignment, own * 7, stored * 4),
        atol=1e-5,
    )
    similarities = query @ rows.T
    values = rng.random(50).astype(np.float32)
    np.testing.assert_allclose(
        aligned_cells(similarities, alignment, own, values),
        aligned_cells(similarities, alignment, own * 0.01, values * 100),
        atol=1e-6,
    )


def test_many_blocks_are_one_block(rng: np.random.Generator) -> None:
    query, lengths = unit(rng, 4, 8), rng.integers(1, 200, 400)
    rows = unit(rng, int(lengths.sum()), 8)
    stored = rng.integers(0, 256, len(rows)).astype(np.uint8)
    scorer = products(query, lambda it: it)
    whole = aligned(scorer, rows, lengths, TopK(4), None, stored)
    ends = np.cumsum(lengths)
    for number in range(0, 400, 57):
        here = slice(ends[number] - lengths[number], ends[number])
        alone = aligned(scorer, rows[here], [lengths[number]], TopK(4), None, stored[here])
        assert whole[number] == pytest.approx(alone[0], abs=1e-4)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6, 8, 16, 31])
def test_the_network_finds_the_largest(k: int) -> None:
    import torch

    rng = np.random.default_rng(k)
    lengths = rng.integers(1, 70, 25)
    starts = np.cumsum(lengths) - lengths
    table = rng.normal(size=(int(lengths.sum()), 3)).astype(np.float32)
    seen = []
    for found in largest(torch.from_numpy(table), starts, lengths, k):
        for place, number in enumerate(found.passages):
            expected = -np.sort(-table[starts[number] : starts[number] + lengths[number]], axis=0)
            count = min(k, lengths[number])
            np.testing.assert_array_equal(found.values[:count, place], expected[:count])
            assert (found.values[lengths[number] :, place] == np.float32(ABSENT)).all()
            seen.append(number)
    assert sorted(seen) == list(range(25))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("top-1", TopK(1)), ("top-12", TopK(12)), ("top-1.5%", TopP(1.5)), (" top-50% ", TopP(50))],
)
def test_alignments_have_names(spec: str, expected: Alignment) -> None:
    assert parse_alignment(spec) == expected
    assert parse_alignment(expected.spec) == expected


@pytest.mark.parametrize("spec", ["top-0", "top-x", "top-0%", "top-101%", "top-", "best-2", "", "top-nan%"])
def test_other_names_are_refused(spec: str) -> None:
    with pytest.raises(RecipeError, match="alignment"):
        parse_alignment(spec)


@pytest.mark.parametrize("values", [[1, 2], [1, -1, 0], [1, np.nan, 1]])
def test_a_saliency_that_is_none_is_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="passage saliency"):
        aligned_cells(S, TopK(1), None, np.array(values, np.float32))


def test_rounding_is_by_less_than_a_millionth_part_of_a_score_in_eight_bits(rng: np.random.Generator) -> None:
    values: Any = rng.uniform(-1, 1, 1000).astype(np.float32)
    assert (np.abs(coarse(values) - values) <= np.abs(values) * 2.0**-16).all()
    assert not (coarse(values).view(np.int32) & 0xFF).any()
