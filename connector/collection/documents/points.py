"""Passages as Qdrant points: what is stored of each, in the payload and as vectors."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.documents.passages import (
    Passage,
)
from connector.collection.search.rerank import fold
from connector.compression.codecs import Codec
from connector.core.errors import InputError
from connector.core.types import Embedding, Float32, Sparse, passage_text
from connector.stores import Point
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS

logger = logging.getLogger(__name__)


def text_of(passage: Passage) -> str:
    """What the encoder sees of a passage."""
    return passage_text(passage.document.title, passage.text)


@dataclass(frozen=True, slots=True)
class Material:
    """What is stored of a passage beside its text.

    Args:
        cls: (w,) float32, its CLS vector.
        rows: (n, …) its tokens as the codec stores them; None in layout dense.
        saliency: (n,) uint8, if the collection keeps it.
        projected: (n, d) float32, its tokens as vectors in the scored space; None unless the collection has
            fixed dimensional encodings.
    """

    cls: Float32
    rows: NDArray[Any] | None = None
    saliency: NDArray[np.uint8] | None = None
    projected: Float32 | None = None


def points_of(collection: Collection, passages: list[Passage], reduced: list[Embedding]) -> list[Point]:
    """The points of passages; fits the codec on them if it is not fitted yet.

    Args:
        collection: where they will be written.
        passages: at least one.
        reduced: their reduced embeddings.
    """
    return assembled(collection, passages, _materials(collection, reduced))


def _materials(collection: Collection, reduced: list[Embedding]) -> list[Material]:
    recipe = collection.recipe
    if recipe.layout == "dense":
        return [Material(embedding.cls) for embedding in reduced]
    codec, tokens = _fitted_codec(collection, reduced), tokens_of(reduced)
    rows = _split(codec.encode(tokens), reduced)
    projected = _split(codec.encode_query(tokens), reduced) if recipe.fde is not None else [None] * len(rows)
    return [
        Material(
            embedding.cls,
            codes,
            codec.saliency.encode(salience(embedding)) if recipe.saliency else None,
            vectors,
        )
        for embedding, codes, vectors in zip(reduced, rows, projected, strict=True)
    ]


def assembled(
    collection: Collection, passages: Sequence[Passage], materials: Sequence[Material]
) -> list[Point]:
    """The points of passages, of what is to be stored of each."""
    return [_point(collection, passage, it) for passage, it in zip(passages, materials, strict=True)]


def _point(collection: Collection, passage: Passage, material: Material) -> Point:
    payload, vectors = payload_of(passage), dict[str, Float32 | Sparse]({CLS: material.cls})
    rows, saliency = material.rows, material.saliency
    if rows is not None:
        payload["rows"] = len(rows)
        if collection.recipe.layout == "multivector":
            vectors[TOKENS] = rows.astype(np.float32) if saliency is None else fold(rows, saliency)
        else:
            payload["codes"] = _base64(rows)
            if saliency is not None:
                payload["saliency"] = _base64(saliency)
    if material.projected is not None:
        vectors[FDE] = collection.muvera.passage(material.projected)
    if collection.recipe.lexical is not None:
        vectors[LEXICAL] = words = collection.words.passage(text_of(passage))
        payload["words"] = len(words)
    return Point(collection.point_id(passage.document.id, passage.number), vectors, payload)


def _base64(rows: NDArray[Any]) -> str:
    return base64.b64encode(rows.tobytes()).decode("ascii")


def salience(embedding: Embedding) -> Float32:
    """(n,) float32, what its tokens are worth.

    Raises:
        InputError: that is not known.
    """
    if embedding.saliency is None:
        raise InputError(
            "the embedding has no saliency, and the recipe keeps it; call Collection.salient first"
        )
    return embedding.saliency


def tokens_of(reduced: list[Embedding]) -> Float32:
    """The tokens of all passages, one passage after another."""
    return np.concatenate([embedding.tokens for embedding in reduced])


def _split(rows: NDArray[Any], reduced: list[Embedding]) -> list[NDArray[Any]]:
    """Each passage's rows again."""
    return np.split(rows, np.cumsum([len(embedding) for embedding in reduced])[:-1])


def _fitted_codec(collection: Collection, reduced: list[Embedding]) -> Codec:
    codec = collection.codec
    if codec is None or not codec.fitted:
        tokens = tokens_of(reduced)
        salient = collection.recipe.saliency
        saliency = np.concatenate([salience(embedding) for embedding in reduced]) if salient else None
        codec = collection.fit_codec(tokens, saliency)
        logger.info("fitted codec %s of %r on %d vectors", codec.spec, collection.name, len(tokens))
    return codec


def payload_of(passage: Passage) -> dict[str, Any]:
    document = passage.document
    payload: dict[str, Any] = {
        "id": document.id,
        "passage": passage.number,
        "text": passage.text,
        "metadata": dict(document.metadata),
    }
    if document.title is not None:
        payload["title"] = document.title
    if passage.revised is not None:
        payload["revised"] = passage.revised
    if passage.number == 0:
        payload["hash"] = passage.hash
        payload["passages"] = passage.of
    return payload
