"""Documents to passages, and passages to Qdrant's points: how texts are split, and what is stored of each."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.pipeline import CodedPassage
from connector.core.errors import DocumentError
from connector.core.io import digest
from connector.core.sources.records import USUAL, Fields
from connector.core.types import Document, Float32, Sparse, passage_text
from connector.encoders import Encoder
from connector.encoders.chunking import Chunking
from connector.encoders.titles import title_in_front, titled_spans
from connector.stores import Point
from connector.stores.schema import CLS, FDE, LEXICAL, TOKENS

MAX_PASSAGE_CHARS = 100_000
"""A longer text is refused unless it is split: an encoder would see less than a hundredth of it."""


def checked(
    documents: Iterable[Document | Mapping[str, Any]],
    chunking: Chunking,
    skip_bad: bool,
    bad: list[str],
    fields: Fields = USUAL,
) -> Iterator[Document]:
    """The documents that a run takes, each once.

    Args:
        documents: in any order; or records of them.
        chunking: how the run will split texts.
        skip_bad: pass over documents that cannot be taken.
        bad: to this list is added what is wrong with each of them.
        fields: the names of the records' fields.

    Raises:
        DocumentError: a document cannot be taken.
    """
    hashes: dict[str, str] = {}
    for number, given in enumerate(documents, 1):
        try:
            document = _document(number, given, fields)
            hash = _checked_hash(document, chunking)
            if hashes.get(document.id, hash) != hash:
                raise DocumentError(
                    f"document id {document.id!r} came before with another content; make the ids unique"
                )
        except DocumentError as error:
            if not skip_bad:
                raise
            bad.append(str(error))
            continue
        if document.id not in hashes:  # an exact repetition is passed over
            hashes[document.id] = hash
            yield document


def _document(number: int, given: Any, fields: Fields) -> Document:
    if isinstance(given, Document):
        return given
    if isinstance(given, Mapping):
        return fields.document(f"record {number}", given)
    kind = type(given).__name__
    raise DocumentError(
        f"{given!r:.80} is a {kind}; give connector.Document objects, or dicts with id and text"
    )


def _checked_hash(document: Document, chunking: Chunking) -> str:
    """The content hash of a document that can be taken."""
    if chunking.tokens is None and len(document.text) > MAX_PASSAGE_CHARS:
        raise DocumentError(
            f"document {document.id!r}: text has {len(document.text):,} characters, over "
            f"{MAX_PASSAGE_CHARS:,}; split it with chunk_tokens (--chunk-tokens)"
        )
    return content_hash(document, chunking)


def content_hash(document: Document, chunking: Chunking) -> str:
    """16 hexadecimal digits over all that decides a document's points."""
    return digest([document.text, document.title, dict(document.metadata), chunking.tokens, chunking.overlap])


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a document.

    Args:
        document: whose it is; of a passage that was read back, its text may be the passage's alone.
        number: from 0.
        of: how many passages the document has.
        text: its own text, without the title.
        title: what stands of the document's title in front of it.
        hash: the document's content hash.
        revised: the last step of a migration that changed its metadata.
        start: the character of the document's text at which it begins; None where that was not stored.
        gap: the white space behind it that is in no passage.
    """

    document: Document
    number: int
    of: int
    text: str
    title: str | None
    hash: str
    revised: str | None = None
    start: int | None = 0
    gap: str = ""


def split_document(document: Document, encoder: Encoder, chunking: Chunking) -> list[Passage]:
    """The passages of a document, the first one last."""
    text, hash = document.text, content_hash(document, chunking)
    title = title_in_front(encoder, document.title, text, chunking)
    spans = titled_spans(encoder, title, text, chunking)
    following = [*(start for start, _ in spans[1:]), len(text)]
    numbered = [
        Passage(
            *(document, number, len(spans), text[start:end], title, hash),
            start=start,
            gap=text[end:until],
        )
        for number, ((start, end), until) in enumerate(zip(spans, following, strict=True))
    ]
    return numbered[::-1]


def joined(passages: Sequence[Passage]) -> str:
    """The text of a document, of all its passages in order.

    Those of a version that stored no places are joined by line breaks, whatever they share.
    """
    starts = [it.start for it in passages if it.start is not None]
    if len(starts) < len(passages):
        return "\n".join(it.text for it in passages)
    lengths = [until - start for start, until in itertools.pairwise(starts)]
    return "".join((it.text + it.gap)[:n] for it, n in zip(passages, [*lengths, None], strict=True))


def text_of(passage: Passage) -> str:
    """What the encoder sees of a passage."""
    return passage_text(passage.title, passage.text)


def points_of(
    collection: Collection, passages: Sequence[Passage], materials: Sequence[CodedPassage]
) -> list[Point]:
    """The points of passages, of what is to be stored of each; their words are counted if none are yet."""
    if collection.recipe.lexical is not None:
        collection.count_words(map(text_of, passages))
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
        vectors[LEXICAL] = words = collection.words.passage(text_of(passage))
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
    if passage.title is not None:
        payload["title"] = passage.title
    if passage.of > 1 and passage.start is not None:
        payload |= {"start": passage.start, "gap": passage.gap}
    if passage.revised is not None:
        payload["revised"] = passage.revised
    if passage.number == 0:
        payload["hash"] = passage.hash
        payload["passages"] = passage.of
        if document.title != passage.title:
            payload["full_title"] = document.title
    return payload


def fold(rows: NDArray[Any], saliency: NDArray[np.uint8]) -> Float32:
    """Rows (n, d) as long as they are salient, (n, d) float32 with lengths from 0 to 1.

    So Qdrant's own MaxSim weighs them: Σᵢ uᵢ maxⱼ uⱼ qᵢ·dⱼ. That differs from the aligned score: the largest
    is chosen after weighing, one a query token, and nothing is divided by the sum of the weights.
    """
    folded: Float32 = rows.astype(np.float32) * (saliency / np.float32(255)).astype(np.float32)[:, None]
    return folded
