"""Reduction on the side of the query: which of its rows count, and how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np

from connector.compression.reduction.base import (
    Budget,
    Need,
    PruningPolicy,
    Rows,
    Setting,
)
from connector.compression.reduction.frequencies import Frequencies
from connector.compression.reduction.pruning import most_salient, rarest
from connector.core.errors import RecipeError
from connector.core.registry import Method
from connector.core.types import Embedding, Float32

QueryRows = Literal["auto", "own", "all"]
"""Which rows of a query are asked with: its own words', or all that the encoder makes. "auto" is own where
the encoder was not trained as late interaction, and all where it was."""


QueryWeights = Literal["1", "sqrt-idf", "idf"]
"""What each row of a query weighs: the same, or the inverse document frequency of its token or the root of
that."""


def own_rows(query: Embedding) -> Embedding:
    """A query without special tokens, prompt, markers and expansion; whole where nothing else is in it."""
    own = np.flatnonzero(~query.special)
    return query if len(own) in (0, len(query)) else query.select(own)


def query_weights(query: Embedding, weights: QueryWeights, frequencies: Frequencies) -> Float32 | None:
    """What each row of a query weighs.

    With `idf` that is ln(1 + (N − df + ½) / (df + ½)) of its token, where N passages are counted and df of
    them have the token; with `sqrt-idf` the root of it (Archish, Garg, Shiragur and Kayal, Incorporating
    Token Importance in Multi-Vector Retrieval, 2025, arXiv:2511.16106).

    MaxSim takes a factor wᵢ ≥ 0 of query row i out of the maximum: maxⱼ (wᵢqᵢ)·dⱼ = wᵢ maxⱼ qᵢ·dⱼ. So rows
    scaled by their weights score the same in Qdrant, under DOT, and here. Special tokens stand in no text, so
    that their frequency says nothing: they weigh as much as the words on average. On SciFact's training
    queries (ward-6) that gives nDCG@10 0.716, as without weights; with the weight of a word that every
    passage has, 0.714.

    Args:
        query: the rows that are asked with.
        weights: by what they weigh.
        frequencies: of the collection's passages.

    Returns:
        (n,) float32 ≥ 0 with mean 1; None where all weigh alike: with `1`, where no passage is counted, and
        where the query has nothing but special tokens.
    """
    words = ~query.special
    if weights == "1" or not frequencies.passages or not words.any():
        return None
    idf = frequencies.idf(query.token_ids)
    if weights == "sqrt-idf":
        idf = np.sqrt(idf)
    mean = idf[words].mean()
    return np.where(words, idf / mean, 1).astype(np.float32) if mean > 0 else None


_IDF_STEP = "idf-weight"
"""How version 0.1 wrote that query tokens weigh `idf`: as the last step of the query's reduction."""


def without_idf_step(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a recipe, with `query_weights` where version 0.1 wrote the weights as a step.

    Raises:
        ValueError: the step is not the last one, or other weights are there.
    """
    *steps, last = (part.strip() for part in str(recipe.get("query_reduction")).split("+"))
    if _IDF_STEP in steps:
        raise ValueError(
            f"{_IDF_STEP} weighs the rows that are left; leave it out, and give query_weights idf"
        )
    if last != _IDF_STEP:
        return recipe
    if (weights := recipe.get("query_weights", "1")) not in ("1", "idf"):
        raise ValueError(f"{_IDF_STEP} means query_weights idf, not {weights}; leave it out")
    return {**recipe, "query_reduction": "+".join(steps) or None, "query_weights": "idf"}


def _sized(text: str, need: Need, keep: Callable[..., Rows], **options: Any) -> PruningPolicy:
    """A policy that keeps a count or a share of a query's rows."""
    budget = Budget.parse(text, Setting())
    if budget.unit == "B":
        raise RecipeError(f"{text} is a size in bytes, and queries are not stored; give a count or a share")
    return PruningPolicy(partial(keep, budget=budget, **options), frozenset({need}))


METHODS: tuple[Method[PruningPolicy, Setting], ...] = (
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
)
