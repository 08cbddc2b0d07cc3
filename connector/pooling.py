"""Token pooling: merge similar token vectors of a passage into one.

A pooling method says which rows belong together (`labels`); merging is the same for all of them, so
the laws (clusters partition the rows, merged rows are unit vectors) are kept in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from connector.errors import RecipeError
from connector.types import Embedding, Float32

Labels = NDArray[np.intp]


class TokenPooling(Protocol):
    """A method of deciding which token rows to merge."""

    @property
    def spec(self) -> str:
        """The text that `parse_pooling` turns into this pooling again, such as "ward-4"."""
        ...

    def labels(self, embedding: Embedding) -> Labels:
        """(n,) cluster number of each row: 0 … k−1, each used, in order of first appearance."""
        ...


def pool(embedding: Embedding, pooling: TokenPooling) -> Embedding:
    """Merge the rows of each cluster into their mean, scaled to unit length.

    The ids, offsets and word ids of a merged row are those of its first token; `pooling.labels` tells
    all of its tokens.

    Returns:
        An embedding with one row a cluster, ordered by the clusters' first tokens.
    """
    labels = pooling.labels(embedding)
    first = np.unique(labels, return_index=True)[1]
    if len(first) == len(embedding):
        return embedding
    return embedding.select(first, merge(embedding.tokens, labels))


def merge(tokens: Float32, labels: Labels) -> Float32:
    """Mean of the rows of each cluster, scaled to unit length.

    Args:
        tokens: (n, w) float32.
        labels: (n,) cluster numbers 0 … k−1, each used.

    Returns:
        (k, w) float32 unit rows. A cluster whose mean is the zero vector keeps its first row.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    sums = np.add.reduceat(tokens[order], starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    cancelled = norms[:, 0] < 1e-6
    if cancelled.any():
        sums[cancelled] = tokens[order[starts[cancelled]]]
        norms[cancelled, 0] = np.maximum(np.linalg.norm(sums[cancelled], axis=1), 1e-12)
    merged: Float32 = sums / norms
    return merged


@dataclass(frozen=True, slots=True)
class Ward:
    """Ward clusters of the cosine distances between tokens; the first row, [CLS], is kept apart.

    The other n−1 rows become max(⌊(n−1)/factor⌋, 1) clusters. Source: Clavié, Chaffin and Adams,
    "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
    Pooling", 2024; the same clusters as sentence-transformers' `HierarchicalTokenPooling`, which the
    tests compare with.

    Args:
        factor: how many tokens go into one on average, at least 2.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise RecipeError(f"pooling factor is {self.factor}; give at least 2, or no pooling")

    @property
    def spec(self) -> str:
        return f"ward-{self.factor}"

    def labels(self, embedding: Embedding) -> Labels:
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import squareform

        rows = embedding.tokens[1:]
        clusters = max(len(rows) // self.factor, 1)
        if clusters >= len(rows):
            return np.arange(len(embedding), dtype=np.intp)
        distances = np.clip(1 - rows @ rows.T, 0, 2)
        tree = linkage(squareform(distances, checks=False), method="ward")
        return _by_appearance(np.concatenate([[0], fcluster(tree, t=clusters, criterion="maxclust")]))


def _by_appearance(labels: NDArray[np.integer]) -> Labels:
    """Renumber cluster labels 0, 1, … in the order in which they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def parse_pooling(spec: str) -> TokenPooling:
    """The pooling that a text such as "ward-4" names.

    Raises:
        RecipeError: the name or its number is not known.
    """
    name, _, number = spec.partition("-")
    if name == "ward" and number.isdecimal():
        return Ward(int(number))
    raise RecipeError(f"pooling {spec!r} is not known; the known ones: ward-FACTOR, such as ward-4")
