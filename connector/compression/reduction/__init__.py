"""Reduction: which token vectors of a passage are kept, and which are merged."""

from connector.compression.reduction.base import Budget, PruningPolicy, Setting, TokenPooling, reduce
from connector.compression.reduction.chain import (
    PASSAGE_METHODS,
    QUERY_METHODS,
    QueryReduction,
    Reduction,
    parse_query_reduction,
    parse_reduction,
)
from connector.compression.reduction.frequencies import Frequencies

__all__ = [
    "PASSAGE_METHODS",
    "QUERY_METHODS",
    "Budget",
    "Frequencies",
    "PruningPolicy",
    "QueryReduction",
    "Reduction",
    "Setting",
    "TokenPooling",
    "parse_query_reduction",
    "parse_reduction",
    "reduce",
]
