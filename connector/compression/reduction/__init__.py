"""Reduction: which token vectors of a passage are kept, and which are merged.

A reduction is a chain of steps, written with "+" between them and done from left to right:
"whole-words", "punctuation+idf-50%", "stopwords-en+ward-4". A step that prunes keeps a subset of the rows
in order; a step that pools merges rows. Whatever the steps, a passage keeps at least one row.

The same on the side of the query: "icf-8". Which rows of a query there are to begin with, and what those that
are left weigh, is said apart: `QueryRows`, `QueryWeights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connector.compression.reduction import pooling, pruning, query_weighting, words
from connector.compression.reduction.base import (
    Budget,
    PruningPolicy,
    QueryReduction,
    Reduction,
    S,
    Setting,
    Step,
    TokenPooling,
    reduce,
)
from connector.compression.reduction.frequencies import Frequencies
from connector.compression.reduction.query_weighting import QueryRows, QueryWeights, own_rows, query_weights
from connector.core.errors import RecipeError
from connector.core.registry import Method, made, named

__all__ = [
    "PASSAGE_METHODS",
    "QUERY_METHODS",
    "Budget",
    "Frequencies",
    "PruningPolicy",
    "QueryReduction",
    "QueryRows",
    "QueryWeights",
    "Reduction",
    "Setting",
    "TokenPooling",
    "own_rows",
    "parse_query_reduction",
    "parse_reduction",
    "query_weights",
    "reduce",
]

PASSAGE_METHODS: tuple[Method[Step, Setting], ...] = (*pruning.METHODS, *words.METHODS, *pooling.METHODS)
"""The steps for passages, as recipes name them."""


QUERY_METHODS: tuple[Method[PruningPolicy, Setting], ...] = query_weighting.METHODS
"""The steps for queries, as recipes name them."""


def parse_reduction(spec: str, setting: Setting | None = None) -> Reduction:
    """The reduction that a text such as "punctuation+ward-4" names.

    Args:
        spec: steps with "+" between them; `PASSAGE_METHODS` lists them.
        setting: what the steps may have to know; its frequencies are shared, and may be counted later.

    Raises:
        RecipeError: a step is not known, or its number is not.
        MissingExtra: a step needs a package that is not installed.
    """
    return Reduction(spec, _parsed(spec, PASSAGE_METHODS, setting or Setting()))


def parse_query_reduction(spec: str, setting: Setting | None = None) -> QueryReduction:
    """The reduction of queries that a text such as "icf-8" names.

    Raises:
        RecipeError: a step is not known, or its number is not.
    """
    return QueryReduction(spec, _parsed(spec, QUERY_METHODS, setting or Setting()))


def _parsed(spec: str, methods: Sequence[Method[S, Setting]], setting: Setting) -> list[S]:
    passages = methods is PASSAGE_METHODS
    other: Sequence[Method[Any, Setting]] = QUERY_METHODS if passages else PASSAGE_METHODS
    steps = []
    for part in map(str.strip, spec.split("+")):
        found, stranger = named(part, methods), named(part, other)
        if stranger and (found is None or len(stranger[0].name) > len(found[0].name)):
            side = "queries; give it as query reduction" if passages else "passages, not for queries"
            raise RecipeError(f"reduction {spec!r}: {part!r} is a step for {side}")
        steps.append(made("reduction", spec, part, methods, "steps", setting))
    return steps
