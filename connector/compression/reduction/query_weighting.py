"""Reduction on the side of the query: which of its rows count, and how much."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from connector.compression.reduction.base import (
    Budget,
    Need,
    PruningPolicy,
    QueryStep,
    QueryWeighting,
    Rows,
    Setting,
)
from connector.compression.reduction.frequencies import Frequencies
from connector.compression.reduction.pruning import most_salient, rarest
from connector.core.errors import RecipeError
from connector.core.registry import Method
from connector.core.types import Embedding, Float32


def idf_weights(embedding: Embedding, frequencies: Frequencies) -> Float32:
    """(n,) float32 ≥ 0 with mean 1: each row weighs as much as the inverse document frequency of its token.

    MaxSim takes a factor wᵢ ≥ 0 of query row i out of the maximum: maxⱼ (wᵢqᵢ)·dⱼ = wᵢ maxⱼ qᵢ·dⱼ. So rows
    scaled by their weights score the same in Qdrant, under DOT, and here. Special tokens stand in no text, so
    that their frequency says nothing: they weigh as much as the words on average. On SciFact's training
    queries (ward-6) that gives nDCG@10 0.716, as without weights; with the weight of a word that every
    passage has, 0.714.
    """
    idf = frequencies.idf(embedding.token_ids)
    words = ~embedding.special
    mean = idf[words].mean() if words.any() else np.float32(1)
    return np.where(words, idf / mean, 1).astype(np.float32)


def _sized(text: str, need: Need, keep: Callable[..., Rows], **options: Any) -> PruningPolicy:
    """A policy that keeps a count or a share of a query's rows."""
    budget = Budget.parse(text, Setting())
    if budget.unit == "B":
        raise RecipeError(f"{text} is a size in bytes, and queries are not stored; give a count or a share")
    return PruningPolicy(partial(keep, budget=budget, **options), frozenset({need}))


METHODS: tuple[Method[QueryStep, Setting], ...] = (
    Method(
        "icf-K",
        "the K query tokens that occur least often in the corpus",
        "Tonellotto and Macdonald, Query Embedding Pruning, CIKM 2021",
        lambda text, setting: _sized(text, "frequencies", rarest, rarity=setting.frequencies.icf),
    ),
    Method(
        "saliency-K",
        "the K query tokens that a trained head finds most salient",
        "Qian et al., ALIGNER, 2022",
        lambda text, _: _sized(text, "saliency", most_salient),
    ),
    Method(
        "idf-weight",
        "weights each query token by its inverse document frequency",
        "this project",
        lambda _, setting: QueryWeighting(
            partial(idf_weights, frequencies=setting.frequencies), frozenset({"frequencies"})
        ),
    ),
)
