"""Token pooling: what holds for every method, and Ward against sentence-transformers' own."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from connector import Embedding, Encoder
from connector.compression.reduction.base import Labels, TokenPooling, merge, reduce
from connector.compression.reduction.pooling import Cluster, clustered, kmeans, sequential, ward
from connector.core.types import Float32
from tests.conftest import TEXTS


def unit(vectors: np.ndarray) -> Float32:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def embedding(tokens: Float32) -> Embedding:
    """Of a passage whose first row is [CLS]."""
    numbers = np.arange(len(tokens), dtype=np.int32)
    return Embedding(tokens[0], tokens, numbers, np.stack([numbers, numbers + 1], axis=1), numbers - 1)


def by(factor: int, cluster: Cluster = ward) -> TokenPooling:
    return TokenPooling(partial(clustered, cluster=cluster, factor=factor))


def random_tokens(n: int, width: int, seed: int) -> Float32:
    return unit(np.random.default_rng(seed).normal(size=(n, width)))


def slow_merge(tokens: Float32, labels: Labels) -> Float32:
    merged = []
    for cluster in range(max(labels) + 1):
        members = [
            row.astype(np.float64) for row, label in zip(tokens, labels, strict=True) if label == cluster
        ]
        mean = sum(members) / len(members)
        merged.append(members[0] if np.linalg.norm(mean) < 1e-6 else mean)
    return unit(np.array(merged))


def same_rows(left: Float32, right: Float32, tolerance: float = 1e-5) -> bool:
    """Whether two matrices hold the same rows, in whatever order."""
    near = np.abs(left[:, None] - right[None]).max(axis=2) < tolerance
    return left.shape == right.shape and bool(near.any(axis=0).all() and near.any(axis=1).all())


ward_cases = given(
    n=st.integers(1, 40), width=st.integers(2, 12), factor=st.integers(2, 9), seed=st.integers(0)
)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Float32, Labels]:
    n = draw(st.integers(1, 20))
    labels = np.array(draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    dense = np.unique(labels, return_inverse=True)[1].astype(np.intp)
    return random_tokens(n, draw(st.integers(1, 8)), draw(st.integers(0, 2**32))), dense


@ward_cases
@settings(max_examples=50, deadline=None)
def test_clusters_partition_the_rows_and_are_numbered_by_appearance(
    n: int, width: int, factor: int, seed: int
) -> None:
    labels = by(factor).labels(embedding(random_tokens(n, width, seed)))
    assert labels.shape == (n,)
    assert list(dict.fromkeys(labels.tolist())) == list(range(labels.max() + 1))


@ward_cases
@settings(max_examples=50, deadline=None)
def test_ward_makes_as_many_clusters_as_it_says_and_keeps_row_0_apart(
    n: int, width: int, factor: int, seed: int
) -> None:
    whole = embedding(random_tokens(n, width, seed))
    labels = by(factor).labels(whole)
    assert np.flatnonzero(labels == 0).tolist() == [0]
    expected = 1 + max((n - 1) // factor, 1) if n > 1 else 1
    assert labels.max() + 1 <= expected
    if width > 2:
        assert labels.max() + 1 == expected
    assert np.allclose(reduce(whole, by(factor)).tokens[0], whole.tokens[0], atol=1e-6)


@ward_cases
@settings(max_examples=50, deadline=None)
def test_pooled_rows_are_unit_vectors_described_by_their_first_token(
    n: int, width: int, factor: int, seed: int
) -> None:
    whole = embedding(random_tokens(n, width, seed))
    labels = by(factor).labels(whole)
    pooled = reduce(whole, by(factor))
    first = [labels.tolist().index(cluster) for cluster in range(labels.max() + 1)]
    assert np.allclose(np.linalg.norm(pooled.tokens, axis=1), 1, atol=1e-5)
    assert pooled.token_ids.tolist() == whole.token_ids[first].tolist()
    assert pooled.offsets.tolist() == whole.offsets[first].tolist()
    assert pooled.word_ids.tolist() == whole.word_ids[first].tolist()
    assert np.array_equal(pooled.cls, whole.cls)


@given(labelled())
@settings(max_examples=50, deadline=None)
def test_merge_equals_the_slow_mean(case: tuple[Float32, Labels]) -> None:
    tokens, labels = case
    assert np.allclose(merge(tokens, labels), slow_merge(tokens, labels), atol=1e-4)


@given(labelled())
@settings(max_examples=50, deadline=None)
def test_merge_gives_no_zero_rows_even_where_vectors_cancel(case: tuple[Float32, Labels]) -> None:
    tokens, labels = case
    merged = merge(np.concatenate([tokens, -tokens]), np.concatenate([labels, labels]))
    assert np.allclose(np.linalg.norm(merged, axis=1), 1, atol=1e-5)


def test_a_cluster_that_cancels_keeps_its_first_row() -> None:
    tokens = np.array([[0, 1], [1, 0], [-1, 0]], np.float32)
    assert merge(tokens, np.array([0, 1, 1])).tolist() == [[0, 1], [1, 0]]


def test_merge_by_hand() -> None:
    tokens = np.array([[0, 1], [0.6, 0.8], [1, 0], [0.6, -0.8]], np.float32)
    merged = merge(tokens, np.array([0, 1, 0, 1]))
    assert np.allclose(merged, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0]], atol=1e-6)


def test_ward_by_hand() -> None:
    """[CLS], then two pairs a few degrees apart: each pair becomes its bisector, in order of appearance."""
    degrees = np.deg2rad([45, 90, 0, 84, 10])
    tokens = np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32)
    whole = embedding(tokens)
    assert by(2).labels(whole).tolist() == [0, 1, 2, 1, 2]
    pooled = reduce(whole, by(2))
    assert np.allclose(
        np.rad2deg(np.arctan2(pooled.tokens[:, 1], pooled.tokens[:, 0])), [45, 87, 5], atol=1e-3
    )
    assert pooled.token_ids.tolist() == [0, 1, 2]


def test_equal_tokens_are_merged_first() -> None:
    tokens = random_tokens(5, 8, seed=1)[[0, 1, 2, 3, 1, 4, 1]]
    labels = by(2).labels(embedding(tokens))
    assert labels[1] == labels[4] == labels[6]


@pytest.mark.parametrize("n", [1, 2])
def test_a_passage_too_short_to_pool_is_left_as_it_is(n: int) -> None:
    whole = embedding(random_tokens(n, 4, seed=0))
    assert np.array_equal(reduce(whole, by(4)).tokens, whole.tokens)


@given(n=st.integers(1, 40), width=st.integers(3, 12), factor=st.integers(2, 9), seed=st.integers(0))
@settings(max_examples=50, deadline=None)
def test_ward_equals_sentence_transformers_on_random_rows(n: int, width: int, factor: int, seed: int) -> None:
    tokens = random_tokens(n, width, seed)
    theirs = HierarchicalTokenPooling(factor).pool_one(torch.from_numpy(tokens)).numpy()
    assert same_rows(reduce(embedding(tokens), by(factor)).tokens, theirs)


@pytest.mark.parametrize("factor", [2, 4, 6])
def test_ward_equals_sentence_transformers_on_real_tokens(encoder: Encoder, factor: int) -> None:
    for whole in encoder.encode_documents([*TEXTS, " ".join(TEXTS)]):
        theirs = HierarchicalTokenPooling(factor).pool_one(torch.from_numpy(whole.tokens)).numpy()
        assert same_rows(reduce(whole, by(factor)).tokens, theirs)


def slow_kmeans(rows: Float32, labels: list[int], iterations: int) -> list[int]:
    """Spherical k-means from the vectors themselves; clusters that lose all rows are not looked for."""
    for _ in range(iterations):
        centroids = [
            unit(np.sum([row for row, it in zip(rows, labels, strict=True) if it == label], axis=0))
            for label in range(max(labels) + 1)
        ]
        labels = [int(np.argmax([row @ centroid for centroid in centroids])) for row in rows]
        if len(set(labels)) < len(centroids):
            return []
    return labels


@given(n=st.integers(4, 40), width=st.integers(3, 12), clusters=st.integers(1, 9), seed=st.integers(0))
@settings(max_examples=50, deadline=None)
def test_kmeans_equals_the_slow_one(n: int, width: int, clusters: int, seed: int) -> None:
    rows, clusters = random_tokens(n, width, seed), min(clusters, n - 1)
    slow = slow_kmeans(rows, [i * clusters // n for i in range(n)], 10)
    found = kmeans(rows, clusters)
    assert len(set(found.tolist())) == clusters
    if slow:
        assert found.tolist() == slow


def test_kmeans_by_hand() -> None:
    """Runs (90°, 0°) and (84°, 10°) have centroids at 45° and 47°: 90° and 84° go to the second, and stay."""
    degrees = np.deg2rad([45, 90, 0, 84, 10])
    whole = embedding(np.stack([np.cos(degrees), np.sin(degrees)], axis=1).astype(np.float32))
    assert by(2, kmeans).labels(whole).tolist() == [0, 1, 2, 1, 2]


def test_kmeans_gives_an_empty_cluster_the_row_farthest_from_its_centroid() -> None:
    rows = unit(np.array([[1, 0], [1, 0], [1, 0], [1, 0.1]], np.float32))
    labels = kmeans(rows, 3)
    assert len(set(labels.tolist())) == 3
    assert np.sum(labels == labels[3]) == 1


def test_sequential_by_hand() -> None:
    whole = embedding(random_tokens(8, 4, seed=0))
    assert by(3, sequential).labels(whole).tolist() == [0, 1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("method", [ward, kmeans, sequential])
def test_without_cls_every_row_is_pooled(method: Cluster) -> None:
    """As where pruning has dropped it."""
    whole = embedding(random_tokens(9, 4, seed=0)).select(np.arange(1, 9))
    assert by(4, method).labels(whole).max() == 1


def test_one_cluster_takes_no_distances(encoder: Encoder) -> None:
    (embedding,) = encoder.encode_documents(["otter"])

    def never(rows: Float32, clusters: int) -> Labels:
        raise AssertionError(f"{len(rows)} rows were compared for {clusters} cluster")

    labels = clustered(embedding, never, factor=50)
    assert labels.tolist() == [0, *[1] * (len(embedding) - 1)]
