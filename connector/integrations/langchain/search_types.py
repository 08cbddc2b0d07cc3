"""LangChain's types of search as options of `Connector.search`."""

from __future__ import annotations

from typing import Any

from connector.core.errors import InputError


def diverse(*, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any) -> dict[str, Any]:
    """Those of type "mmr", maximal marginal relevance."""
    return {"candidates": fetch_k, "mmr": lambda_mult, **options}


def relevant(*, score_threshold: float | None = None, **options: Any) -> dict[str, Any]:
    """Those of type "similarity_score_threshold", with which every hit has a similarity.

    Raises:
        InputError: a score_threshold and a min_similarity are given.
    """
    least = options.get("min_similarity")
    if least is None:
        options["min_similarity"] = score_threshold or -1.0  # 0 leaves out nothing
    elif score_threshold is not None:
        given = f"score_threshold is {score_threshold} and min_similarity {least}"
        raise InputError(f"{given}, which mean the same; give one of them")
    return options
