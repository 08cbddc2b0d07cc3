"""Reduction on the side of the query: which of its rows count, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from connector.compression.reduction.base import Budget, Need, PruningPolicy, Setting
from connector.compression.reduction.frequencies import Frequencies
from connector.compression.reduction.pruning import MostSalient, Rarest
from connector.core.errors import RecipeError
from connector.core.registry import Method
from connector.core.types import Embedding, Float32


@dataclass(frozen=True, slots=True)
class IDFWeights:
    """Each row weighs as much as the inverse document frequency of its token; the weights' mean is 1.

    MaxSim takes a factor wᵢ ≥ 0 of query row i out of the maximum: maxⱼ (wᵢqᵢ)·dⱼ = wᵢ maxⱼ qᵢ·dⱼ. So rows
    scaled by their weights score the same in Qdrant, under DOT, and here. Special tokens stand in no text, so
    that their frequency says nothing: they weigh as much as the words on average. On SciFact's training
    queries (ward-6) that gives nDCG@10 0.716, as without weights; with the weight of a word that every
    passage has, 0.714.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"frequencies"})
    frequencies: Frequencies

    def weights(self, embedding: Embedding) -> Float32:
        """(n,) float32 ≥ 0, with mean 1."""
        idf = self.frequencies.idf(embedding.token_ids)
        words = ~embedding.special
        mean = idf[words].mean() if words.any() else np.float32(1)
        return np.where(words, idf / mean, 1).astype(np.float32)


def _count_or_share(text: str) -> Budget:
    budget = Budget.parse(text, Setting())
    if budget.unit == "B":
        raise RecipeError(f"{text} is a size in bytes, and queries are not stored; give a count or a share")
    return budget


QueryStep: TypeAlias = PruningPolicy | IDFWeights


METHODS: tuple[Method[QueryStep, Setting], ...] = (
    Method(
        "icf-K",
        "the K query tokens that occur least often in the corpus",
        "Tonellotto and Macdonald, Query Embedding Pruning, CIKM 2021",
        lambda text, setting: Rarest(_count_or_share(text), setting.frequencies.icf),
    ),
    Method(
        "saliency-K",
        "the K query tokens that a trained head finds most salient",
        "Qian et al., ALIGNER, 2022",
        lambda text, _: MostSalient(_count_or_share(text)),
    ),
    Method(
        "idf-weight",
        "weights each query token by its inverse document frequency",
        "this project",
        lambda _, setting: IDFWeights(setting.frequencies),
    ),
)
