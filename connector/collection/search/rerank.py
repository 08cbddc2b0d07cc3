"""Candidates scored here: by MaxSim, or by an alignment with the saliences of both sides."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.compression.codecs import Codec
from connector.core.errors import CollectionError
from connector.core.types import Embedding, Float32
from connector.scoring.alignment import Alignment
from connector.scoring.maxsim import aligned, maxsim
from connector.stores import Record
from connector.stores.schema import TOKENS


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, as its collection scores with it.

    Args:
        embedding: its rows that are asked with.
        tokens: (m, d) float32, their vectors in the scored space.
        weights: (m,) float32 ≥ 0, what each weighs; None if all weigh alike.
    """

    embedding: Embedding
    tokens: Float32
    weights: Float32 | None

    @property
    def weight(self) -> float:
        """The sum of what the tokens weigh."""
        return float(len(self.tokens) if self.weights is None else self.weights.sum()) or 1.0

    @property
    def weighted(self) -> Float32:
        """(m, d) the vectors as long as they weigh, for MaxSim."""
        return self.tokens if self.weights is None else self.tokens * self.weights[:, None]


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of some passages' tokens, one passage after another.

    Args:
        rows: (N, …) as the codec stores them.
        lengths: (P,) rows of each passage.
        saliency: (N,) uint8, or None if the collection keeps none.
    """

    rows: NDArray[Any]
    lengths: NDArray[np.int64]
    saliency: NDArray[np.uint8] | None


def asked(collection: Collection, query: Embedding) -> Asked:
    """The rows of an encoded query that its collection asks with, and their weights."""
    (query,) = collection.salient([query], "query")
    reduced, weights = collection.reduce_query(query)
    return asking(codec_of(collection), reduced, weights, collection.recipe.saliency)


def asking(codec: Codec, query: Embedding, weights: Float32 | None, saliency: bool) -> Asked:
    """A reduced query in the scored space of a fitted codec, weighed by its saliency, too, if that counts."""
    if saliency and query.saliency is not None:
        weights = query.saliency if weights is None else weights * query.saliency
    return Asked(query, codec.encode_query(query.tokens), weights)


def keys_of(collection: Collection) -> tuple[list[str], list[str]]:
    """The payload keys and the vectors that `stored` wants of each record."""
    recipe = collection.recipe
    if recipe.layout == "multivector":
        return [], [TOKENS]
    return ["codes", "saliency"] if recipe.saliency else ["codes"], []


def stored(collection: Collection, records: Sequence[Record]) -> Stored:
    """What is stored of these passages' tokens; at least one passage.

    Raises:
        CollectionError: they are not of this collection any more.
    """
    try:
        if collection.recipe.layout == "codes":
            return _from_payload(collection, records)
        vectors = [record.vectors[TOKENS] for record in records]
    except KeyError:
        raise collection.replaced() from None
    lengths = np.array([len(it) for it in vectors])
    rows = np.concatenate(vectors)
    return Stored(rows, lengths, None) if not collection.recipe.saliency else _unfolded(rows, lengths)


def _from_payload(collection: Collection, records: Sequence[Record]) -> Stored:
    blobs = [binascii.a2b_base64(record.payload["codes"]) for record in records]
    lengths = np.array([len(blob) for blob in blobs]) // codec_of(collection).stored_row_bytes
    rows, saliency = codec_of(collection).stored(b"".join(blobs)), None
    if collection.recipe.saliency:
        kept = b"".join(binascii.a2b_base64(record.payload["saliency"]) for record in records)
        saliency = np.frombuffer(kept, np.uint8)
    return Stored(rows, lengths, saliency)


def fold(rows: NDArray[Any], saliency: NDArray[np.uint8]) -> Float32:
    """Rows (n, d) as long as they are salient, (n, d) float32 with lengths from 0 to 1.

    So Qdrant's own MaxSim weighs them: Σᵢ uᵢ maxⱼ uⱼ qᵢ·dⱼ. That differs from the aligned score: the largest
    is chosen after weighing, one a query token, and nothing is divided by the sum of the weights.
    """
    folded: Float32 = rows.astype(np.float32) * (saliency / np.float32(255)).astype(np.float32)[:, None]
    return folded


def _unfolded(rows: Float32, lengths: NDArray[np.int64]) -> Stored:
    """Unit rows and their saliency again."""
    norms = np.linalg.norm(rows, axis=1)
    saliency = np.rint(np.minimum(norms, 1) * 255).astype(np.uint8)
    return Stored(rows / np.maximum(norms, 1e-6)[:, None], lengths, saliency)


def scores(
    codec: Codec, query: Asked, passages: Stored, alignment: Alignment | None, device: str = "cpu"
) -> Float32:
    """(P,) float32 of passages that a codec stored: aligned scores, or MaxSim without an alignment."""
    if alignment is None:
        return maxsim(codec.scorer(query.weighted, device), passages.rows, passages.lengths)
    return aligned(
        codec.scorer(query.tokens, device),
        passages.rows,
        passages.lengths,
        alignment,
        query.weights,
        passages.saliency,
    )


def codec_of(collection: Collection) -> Codec:
    """The codec of a collection that stores tokens.

    Raises:
        CollectionError: it stores none.
    """
    if collection.codec is None:
        raise CollectionError(f"collection {collection.name!r} stores no tokens")
    return collection.codec
