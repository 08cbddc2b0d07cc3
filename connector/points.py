"""Passages as Qdrant points: what is stored of each, in the payload and as vectors."""

from __future__ import annotations

import base64
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.codecs import Codec
from connector.collection import Collection
from connector.errors import InputError
from connector.passages import Passage, payload_of
from connector.rerank import fold
from connector.schema import CLS, FDE, LEXICAL, TOKENS
from connector.stores import Point
from connector.types import Embedding, Float32, Sparse, passage_text, point_id

logger = logging.getLogger(__name__)


def text_of(passage: Passage) -> str:
    """What the encoder sees of a passage."""
    return passage_text(passage.document.title, passage.text)


def points_of(collection: Collection, passages: list[Passage], reduced: list[Embedding]) -> list[Point]:
    """The points of passages; fits the codec on them if it is not fitted yet.

    Args:
        collection: where they will be written.
        passages: at least one.
        reduced: their reduced embeddings.
    """
    payloads = [payload_of(passage) for passage in passages]
    vectors: list[dict[str, Float32 | Sparse]] = [{CLS: embedding.cls} for embedding in reduced]
    recipe = collection.recipe
    if recipe.layout != "dense":
        codec = _fitted_codec(collection, reduced)
        rows = _split(codec.encode(_tokens(reduced)), reduced)
        for payload, vector, codes, embedding in zip(payloads, vectors, rows, reduced, strict=True):
            payload["rows"] = len(codes)
            saliency = codec.saliency.encode(_salience(embedding)) if recipe.saliency else None
            if recipe.layout == "multivector":
                vector[TOKENS] = codes.astype(np.float32) if saliency is None else fold(codes, saliency)
                continue
            payload["codes"] = _base64(codes)
            if saliency is not None:
                payload["saliency"] = _base64(saliency)
        if recipe.fde is not None:
            scored = _split(codec.encode_query(_tokens(reduced)), reduced)
            for vector, projected in zip(vectors, scored, strict=True):
                vector[FDE] = collection.muvera.passage(projected)
    if recipe.lexical is not None:
        for passage, vector, payload in zip(passages, vectors, payloads, strict=True):
            words = collection.words.passage(text_of(passage))
            payload["words"] = len(words)
            vector[LEXICAL] = words
    return [
        Point(point_id(passage.document.id, passage.number), vector, payload)
        for passage, vector, payload in zip(passages, vectors, payloads, strict=True)
    ]


def _base64(rows: NDArray[Any]) -> str:
    return base64.b64encode(rows.tobytes()).decode("ascii")


def _salience(embedding: Embedding) -> Float32:
    if embedding.saliency is None:
        raise InputError(
            "the embedding has no saliency, and the recipe keeps it; call Collection.salient first"
        )
    return embedding.saliency


def _tokens(reduced: list[Embedding]) -> Float32:
    """The tokens of all passages, one passage after another."""
    return np.concatenate([embedding.tokens for embedding in reduced])


def _split(rows: NDArray[Any], reduced: list[Embedding]) -> list[NDArray[Any]]:
    """Each passage's rows again."""
    return np.split(rows, np.cumsum([len(embedding) for embedding in reduced])[:-1])


def _fitted_codec(collection: Collection, reduced: list[Embedding]) -> Codec:
    codec = collection.codec
    if codec is None or not codec.fitted:
        tokens = _tokens(reduced)
        salient = collection.recipe.saliency
        saliency = np.concatenate([_salience(embedding) for embedding in reduced]) if salient else None
        codec = collection.fit_codec(tokens, saliency)
        logger.info("fitted codec %s of %r on %d vectors", codec.spec, collection.name, len(tokens))
    return codec
