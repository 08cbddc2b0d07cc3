"""Passages as Qdrant points: what is stored of each, in the payload and as vectors."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.documents.passages import Passage
from connector.collection.pipeline import CodedPassage
from connector.core.types import Float32, Sparse, passage_text
from connector.stores import Point
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS


def text_of(passage: Passage) -> str:
    """What the encoder sees of a passage."""
    return passage_text(passage.document.title, passage.text)


def points_of(
    collection: Collection, passages: Sequence[Passage], materials: Sequence[CodedPassage]
) -> list[Point]:
    """The points of passages, of what is to be stored of each."""
    return [_point(collection, passage, it) for passage, it in zip(passages, materials, strict=True)]


def _point(collection: Collection, passage: Passage, material: CodedPassage) -> Point:
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
        vectors[LEXICAL] = words = collection.pipeline.words.passage(text_of(passage))
        payload["words"] = len(words)
    return Point(collection.point_id(passage.document.id, passage.number), vectors, payload)


def _base64(rows: NDArray[Any]) -> str:
    return base64.b64encode(rows.tobytes()).decode("ascii")


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


def fold(rows: NDArray[Any], saliency: NDArray[np.uint8]) -> Float32:
    """Rows (n, d) as long as they are salient, (n, d) float32 with lengths from 0 to 1.

    So Qdrant's own MaxSim weighs them: Σᵢ uᵢ maxⱼ uⱼ qᵢ·dⱼ. That differs from the aligned score: the largest
    is chosen after weighing, one a query token, and nothing is divided by the sum of the weights.
    """
    folded: Float32 = rows.astype(np.float32) * (saliency / np.float32(255)).astype(np.float32)[:, None]
    return folded
