"""What similarities a collection's hits have, so that a person can choose a least one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from connector.api.searcher import Searcher
from connector.collection.handle import CollectionHandle
from connector.collection.search.options import search_options
from connector.core.errors import InputError
from connector.migrations.verify import canaries_of, sampled_queries

RANKS = (1, 10, 100)
"""Places of hits that are looked at: the best, the last of a page, and one that hardly answers."""


PERCENTILES = (5, 25, 50, 75, 95)


_TOGETHER = 64
"""Queries of a batch."""


@dataclass(frozen=True, slots=True)
class Similarities:
    """How alike queries and hits are: `Hit.similarity`, on which `min_similarity` acts.

    Attributes:
        queries: how many were asked.
        asked: where they are from.
        at: of places of hits, 1, 10 and 100, as far as there are so many, the percentiles of the similarity
            over all queries, from "p5" to "p95".
    """

    queries: int
    asked: str
    at: Mapping[str, Mapping[str, float]]


def similarities(handle: CollectionHandle, searcher: Searcher, queries: Iterable[str] | None) -> Similarities:
    """Ask queries, and look at how alike their hits are.

    Args:
        handle, searcher: of the collection.
        queries: None for the canary queries of migrations, or, where none are kept, some made of texts.

    Raises:
        InputError: there are no queries.
    """
    if isinstance(queries, str):
        raise InputError(f"queries is {queries!r:.80}; give a list of texts")
    asked, some = "yours", [] if queries is None else list(queries)
    if queries is None:
        asked, some = "kept with the collection", handle.read(canaries_of)
    if queries is None and not some:
        asked, some = "made of its texts", handle.read(sampled_queries)
    if not some:
        raise InputError("there are no queries to ask; give some")
    options = search_options(k=max(RANKS), min_similarity=-1)
    there: dict[int, list[float]] = {rank: [] for rank in RANKS}
    for hits in searcher.batches(some, options, _TOGETHER):
        for rank in RANKS:
            similarity = hits[rank - 1].similarity if len(hits) >= rank else None
            if similarity is not None:
                there[rank].append(similarity)
    return Similarities(len(some), asked, {str(rank): _spread(it) for rank, it in there.items() if it})


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, PERCENTILES)
    return {f"p{it}": round(float(value), 4) for it, value in zip(PERCENTILES, found, strict=True)}
