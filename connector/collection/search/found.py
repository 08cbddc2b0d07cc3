"""What is asked of a store for a query, and what it has found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.pipeline import StoredTokens
from connector.collection.search.stored_tokens import codec_of
from connector.core.errors import CollectionError
from connector.core.types import Float32
from connector.scoring.feedback import By
from connector.scoring.fusion import Float64
from connector.stores import Query, Record
from connector.stores.schema import CLS

SIMILARITY = "similarity"
"""In `Found.raw`, beside the parts of scores, what means the same for every query: the mean similarity of a
query token, weighted as tokens are; else the inner product of the CLS vectors; nothing where neither is."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a store for one query.

    Args:
        queries: by the names of what they score; the first one finds all passages, the others score them.
        payload, vectors: what is read of each passage.
        where: what passages have to match.
    """

    queries: dict[str, Query]
    payload: list[str]
    vectors: list[str]
    where: models.Filter | None


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, and the parts of their scores.

    Args:
        records: the passages.
        raw: (P,) of each part its scores, not scaled.
        tokens: what is stored of their tokens; None where this process does not score them.
    """

    records: list[Record]
    raw: dict[str, Float64]
    tokens: StoredTokens | None = None

    def vectors(self, by: By, collection: Collection) -> Float32:
        """(P, d) a vector of each passage: its CLS vector, or the mean of its stored token vectors."""
        if by == "cls":
            return np.stack([record.vectors[CLS] for record in self.records])
        if self.tokens is None:
            raise CollectionError(f"collection {collection.name!r} keeps no codes; give feedback by cls")
        return codec_of(collection).means(self.tokens.rows, self.tokens.lengths)
