"""Token pooling: which similar token vectors of a passage become one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from connector.compression.reduction.base import Budget, Labels, Setting, Step, TokenPooling, grouped
from connector.core.errors import RecipeError
from connector.core.registry import Method
from connector.core.types import Embedding, Float32

Cluster: TypeAlias = Callable[[Float32, int], NDArray[np.integer]]
"""(n, w) rows and 1 < k < n to the (n,) cluster number of each row."""


def clustered(
    embedding: Embedding, cluster: Cluster, factor: int = 2, budget: Budget | None = None
) -> Labels:
    """Rows into clusters of similar ones, with [CLS] kept apart where there is room for it.

    Args:
        embedding: its rows are labelled.
        cluster: `ward`, `kmeans` or `sequential`.
        factor: how many tokens go into one on average, at least 2: m rows beside [CLS] become
            max(⌊m / factor⌋, 1) clusters.
        budget: how many rows stay in all, in place of a factor.
    """
    protected = int(embedding.special[0] and len(embedding) > 1)
    rows = embedding.tokens[protected:]
    clusters = max(len(rows) // factor, 1) if budget is None else budget.rows(len(embedding)) - protected
    if clusters < 1:
        return np.zeros(len(embedding), np.intp)
    if clusters >= len(rows):
        return np.arange(len(embedding), dtype=np.intp)
    # Most short passages become one cluster, which takes no distances.
    labels = np.zeros(len(rows), np.intp) if clusters == 1 else by_appearance(cluster(rows, clusters))
    return np.concatenate([np.zeros(protected, np.intp), labels + protected])


def ward(rows: Float32, clusters: int) -> NDArray[np.integer]:
    """Ward's hierarchical clusters of the cosine distances between tokens.

    Source: Clavié, Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal
    Performance Impact via Token Pooling", 2024; the same clusters as sentence-transformers'
    `HierarchicalTokenPooling`, which the tests compare with.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = np.clip(1 - rows @ rows.T, 0, 2)
    tree = linkage(squareform(distances, checks=False), method="ward")
    return fcluster(tree, t=clusters, criterion="maxclust")


def sequential(rows: Float32, clusters: int) -> Labels:
    """Neighbouring tokens, cut into runs of equal length. Source: Clavié et al., 2024."""
    return np.arange(len(rows)) * clusters // len(rows)


def kmeans(rows: Float32, clusters: int) -> Labels:
    """Spherical k-means of the tokens, started from the runs of `sequential`.

    A centroid is the mean of its rows scaled to unit length, so cosines of rows and centroids follow from
    the Gram matrix G = XXᵀ alone: cos(xᵢ, c) = Σ_{j∈c} G_ij / √(Σ_{j,l∈c} G_jl). Once that is made, an
    iteration does not touch the vectors. A cluster that loses all its rows gets the row that lies farthest
    from its centroid. Source: "k-means pooling", Clavié et al., 2024.
    """
    gram = rows @ rows.T
    labels = sequential(rows, clusters)
    for _ in range(_KMEANS_ITERATIONS):
        order, starts = grouped(labels)
        sums = np.add.reduceat(gram[order], starts, axis=0)
        own = sums[labels, np.arange(len(rows))]
        norms = np.sqrt(np.maximum(np.add.reduceat(own[order], starts), 1e-12))
        cosines = sums / norms[:, None]
        moved = _without_empty(cosines.argmax(axis=0), cosines.max(axis=0), clusters)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return labels


_KMEANS_ITERATIONS = 10


def _without_empty(labels: Labels, cosines: Float32, clusters: int) -> Labels:
    """Give each empty cluster the row that is farthest from its centroid, of those that are not alone."""
    sizes = np.bincount(labels, minlength=clusters)
    farthest = iter(np.argsort(cosines, kind="stable"))
    for empty in np.flatnonzero(sizes == 0):
        row = next(row for row in farthest if sizes[labels[row]] > 1)
        sizes[labels[row]] -= 1
        labels[row] = empty
        sizes[empty] = 1
    return labels


def by_appearance(labels: NDArray[np.integer]) -> Labels:
    """Renumber cluster labels 0, 1, … in the order in which they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


_CLAVIE = "Clavié, Chaffin and Adams, Token Pooling, 2024"


def _sized(cluster: Cluster) -> Callable[[str, Setting], Step]:
    """Makes poolings from a factor ("4"), or a fixed size ("to-32", "to-25%", "to-512B")."""

    def make(text: str, setting: Setting) -> Step:
        if text.startswith("to-"):
            budget = Budget.parse(text.removeprefix("to-"), setting)
            return TokenPooling(partial(clustered, cluster=cluster, budget=budget))
        if not (text.isascii() and text.isdecimal() and int(text) > 1):
            raise RecipeError(f"{text!r} is not a size; give a factor from 2 (4), or a size (to-32, to-25%)")
        return TokenPooling(partial(clustered, cluster=cluster, factor=int(text)))

    return make


METHODS: tuple[Method[Step, Setting], ...] = (
    Method("ward-SIZE", "hierarchical clusters of similar tokens", _CLAVIE, _sized(ward)),
    Method("kmeans-SIZE", "k-means clusters of similar tokens", _CLAVIE, _sized(kmeans)),
    Method("sequential-SIZE", "runs of neighbouring tokens", _CLAVIE, _sized(sequential)),
)
