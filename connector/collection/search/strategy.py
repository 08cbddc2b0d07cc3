"""How a search scores, by its options and by what the collection is made for; and what scores its tokens."""

from __future__ import annotations

from typing import Literal

from connector.collection.collection import Collection
from connector.collection.search.options import SearchOptions
from connector.core.errors import CollectionError
from connector.scoring.alignment import TopK
from connector.scoring.strategy import Strategy
from connector.stores.schema import Layout

Mode = Literal["client", "server"] | None
"""This process, Qdrant, or nothing."""


_AUTO: dict[Layout, Mode] = {"dense": None, "multivector": "server", "codes": "client"}
"""By the layout, where a search leaves it open."""


def strategy_of(collection: Collection, options: SearchOptions) -> Strategy:
    """How candidates are scored: as the options say, and else as the collection is."""
    own, feedback = collection.strategy, options.feedback
    return Strategy(
        options.alignment or own.alignment,
        options.fusion or own.fusion,
        own.feedback if feedback is None else None if feedback == "none" else feedback,
    )


def mode_of(collection: Collection, options: SearchOptions, strategy: Strategy) -> Mode:
    """What scores tokens.

    Raises:
        CollectionError: it is to be what cannot.
    """
    alignment = strategy.alignment
    maxsim = alignment is None or alignment == TopK(1)
    layout, rerank = collection.recipe.layout, options.rerank
    if rerank == "auto":
        mode = _AUTO[layout]
        # What Qdrant sums where rows are as long as they are salient is no mean, and mixes with nothing.
        folded = collection.recipe.saliency and len(strategy.fusion.weights) > 1
        return "client" if mode == "server" and (folded or not maxsim) else mode
    if rerank is not None and layout == "dense":
        raise CollectionError(
            f"collection {collection.name!r} stores no tokens to rerank by; leave rerank out"
        )
    if rerank == "server":
        problem = None
        if alignment is not None and not maxsim:
            problem = f"is to be scored by {alignment.spec}, and Qdrant has MaxSim alone"
        elif layout == "codes":
            problem = "stores codes, which Qdrant cannot score"
        if problem is not None:
            raise CollectionError(f"collection {collection.name!r} {problem}; rerank on the client")
    return rerank
