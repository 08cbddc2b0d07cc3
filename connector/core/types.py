"""The nouns that every other module speaks of: documents, embeddings, hits.

All are frozen and validated when they are made, so that no later stage has to look again.
"""

from __future__ import annotations

import datetime
import math
import reprlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_jsonable_python

from connector.core.errors import DocumentError, InputError

Float32 = NDArray[np.float32]


Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Document:
    """One text to be found again.

    Args:
        id: any non-empty string; documents with the same id replace one another.
        text: the text, not blank.
        title: optional; encoded in front of the text, as BEIR does.
        metadata: any JSON object; filters address its keys. As Qdrant takes them, dates and times become
            RFC 3339 texts, UUIDs texts, and decimals and NumPy's numbers plain numbers; so they come back.

    Raises:
        DocumentError: the document holds something that cannot be stored or found again.
    """

    id: str
    text: str
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise DocumentError(f"document id is {reprlib.repr(self.id)}; give a non-empty string")
        what = f"document {self.id!r}"
        if not isinstance(self.text, str):
            raise DocumentError(f"{what}: text is {type(self.text).__name__}, not a string; give its text")
        if not isinstance(self.title, str | None):
            raise DocumentError(f"{what}: title is {reprlib.repr(self.title)}; give a string or None")
        if not isinstance(self.metadata, Mapping):
            raise DocumentError(f"{what}: metadata is {type(self.metadata).__name__}, not a mapping")
        for key, text in (("id", self.id), ("text", self.text), ("title", self.title)):
            check_text(text or "", f"{what}: {key}")
        if not self.text.strip():
            raise DocumentError(f"{what}: text is empty; leave the document out")
        object.__setattr__(self, "metadata", _as_json(self.metadata, f"{what}: metadata"))


def passage_text(title: str | None, text: str) -> str:
    """What the encoder sees of a passage: its title, if any, a space, and its text."""
    return f"{title} {text}" if title and title.strip() else text


def check_text(text: str, what: str) -> None:
    """Refuse characters that no store or tokenizer keeps: NUL and lone surrogates.

    Raises:
        DocumentError: names `what`, the character and its position.
    """
    position = text.find("\0")
    if position >= 0:
        raise DocumentError(f"{what} has a NUL character at position {position}; remove it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DocumentError(
            f"{what} has a lone surrogate {text[error.start]!r} at position {error.start}; "
            "decode the source with its real encoding"
        ) from None


_MAX_DEPTH = 64
"""Qdrant Edge writes deeper payloads to its log but cannot read them back: about 120 levels."""


def _as_json(value: Any, what: str, depth: int = 0) -> Any:
    """The value as it is stored; refuses what JSON, or Qdrant's payload, would change or lose."""
    if depth > _MAX_DEPTH:
        raise DocumentError(f"{what[:80]}… is nested deeper than {_MAX_DEPTH} levels; flatten it")
    match value:
        case None | bool():
            return value
        case np.datetime64():  # of any unit; Python's has microseconds
            return _as_json(value.astype("datetime64[us]").item(), what, depth)
        case np.generic():
            return _as_json(value.item(), what, depth)
        case str():
            check_text(value, what)
            return value
        case datetime.date() | datetime.time() | uuid.UUID():
            return to_jsonable_python(value)
        case Decimal():
            whole = value.is_finite() and value == value.to_integral_value()
            return _as_json(int(value) if whole else float(value), what, depth)
        case int() if not -(2**63) <= value < 2**63:
            raise DocumentError(f"{what} is {value}, wider than 64 bits; store it as a string")
        case float() if not math.isfinite(value):
            raise DocumentError(f"{what} is {value}, which JSON does not have; use null or a string")
        case int() | float():
            return value
        case Mapping():
            return {_key(key, what): _as_json(it, f"{what}.{key}", depth + 1) for key, it in value.items()}
        case list() | tuple():
            return [_as_json(it, f"{what}[{index}]", depth + 1) for index, it in enumerate(value)]
    kind = type(value).__name__
    raise DocumentError(f"{what} is of type {kind}, which JSON does not have; convert it")


def _key(key: Any, what: str) -> str:
    if not isinstance(key, str):
        raise DocumentError(f"{what} has the key {key!r}; keys must be strings")
    check_text(key, f"{what}: key")
    return key


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """A sparse vector.

    Args:
        indices: (n,) uint32, each once.
        values: (n,) float32.
    """

    indices: NDArray[np.uint32]
    values: Float32

    def __len__(self) -> int:
        return len(self.indices)


ROW_FIELDS: dict[str, tuple[int, ...]] = {
    "token_ids": (),
    "offsets": (2,),
    "word_ids": (),
    "attention": (),
    "saliency": (),
}
"""What an `Embedding` says of each token beside its vector, with the shape of one row."""


OPTIONAL_FIELDS = ("attention", "saliency")
"""Those of them that may be None."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One encoded text. Row i means the same token in every field.

    Args:
        cls: (d,) float32, the vector of the whole text, of unit length.
        tokens: (n, w) float32, one unit vector a token, n ≥ 1.
        token_ids: (n,) int32, ids in the tokenizer's vocabulary.
        offsets: (n, 2) int32, character span [start, end) in the encoded text; (0, 0) for tokens
            that do not stand there, such as [CLS].
        word_ids: (n,) int32, the word that the token is a piece of; −1 for special tokens.
        truncated: how many tokens of the text lay beyond the encoder's window and are lost.
        text: the encoded text, which offsets count in; empty if it is not known.
        attention: (n,) float32, the attention that each token received in the encoder's last layer,
            summed over heads and over the tokens that attended; None unless it was asked for.
        saliency: (n,) float32 ≥ 0, how much a trained gate thinks of each token; None without one.

    Raises:
        InputError: shapes disagree, there is no row, or a vector is not finite (its row is named).
    """

    cls: Float32
    tokens: Float32
    token_ids: Int32
    offsets: Int32
    word_ids: Int32
    truncated: int = 0
    text: str = ""
    attention: Float32 | None = None
    saliency: Float32 | None = None

    def __post_init__(self) -> None:
        if self.cls.ndim != 1:
            raise InputError(f"cls has shape {self.cls.shape}; it must be one-dimensional")
        if self.tokens.ndim != 2 or len(self.tokens) == 0:
            raise InputError(f"tokens have shape {self.tokens.shape}; need at least one row of a matrix")
        n = len(self.tokens)
        for name, row in ROW_FIELDS.items():
            array = getattr(self, name)
            if array is None and name in OPTIONAL_FIELDS:
                continue
            if array.shape != (n, *row):
                raise InputError(f"{name} has shape {array.shape} for {n} tokens; must be {(n, *row)}")
        if not np.isfinite(self.cls).all():
            raise InputError("cls is not finite; look at the encoder's weights and its input")
        check_rows(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, rows: NDArray[np.intp], tokens: Float32 | None = None) -> Embedding:
        """The embedding of these rows alone, in the given order.

        Args:
            rows: (k,) row numbers.
            tokens: (k, w) vectors to stand in their place, else the rows' own.
        """
        kept: dict[str, Any] = {"tokens": self.tokens[rows] if tokens is None else tokens}
        for name in ROW_FIELDS:
            array = getattr(self, name)
            kept[name] = None if array is None else array[rows]
        return replace(self, **kept)

    @property
    def special(self) -> NDArray[np.bool_]:
        """(n,) bool, the tokens that no word of the text made, such as [CLS]."""
        return self.word_ids < 0


def check_rows(tokens: NDArray[Any], *, nonzero: bool = False) -> None:
    """Refuse a matrix with a row that is not finite, or is zero, naming the first such row.

    Args:
        tokens: (n, w) float.
        nonzero: whether a row of zeros, which has no direction, is refused too.

    Raises:
        InputError: a value is NaN or infinite, or a row is zero.
    """
    if not np.isfinite(tokens).all():
        row = int(np.flatnonzero(~np.isfinite(tokens).all(axis=1))[0])
        raise InputError(f"token vector {row} is not finite; look at the encoder's weights and its input")
    if nonzero and not tokens.any(axis=1).all():
        row = int(np.flatnonzero(~tokens.any(axis=1))[0])
        raise InputError(f"token vector {row} is zero; leave it out, as it has no direction")


def unit(vectors: NDArray[np.floating]) -> Float32:
    """(…, w) the vectors with length 1; those of zeros stay so."""
    scaled: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One part of a score, which is Σ weight · scaled over its parts.

    Args:
        score: as it was computed.
        scaled: the same on the scale of the candidates.
        weight: what it counts.
        low, high: the scores that are scaled to 0 and 1; None where it is scaled by ranks.
    """

    score: float
    scaled: float
    weight: float
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        """What it adds to the score."""
        return self.weight * self.scaled


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document.

    Args:
        id: the document's id.
        score: what the hits are ordered by, larger is better.
        text: the text of the best passage of the document.
        title: the document's title, if any, as far as it is encoded in front of the passage.
        metadata: the document's metadata.
        passage: number of the best passage in the document; 0 unless the document was split.
        parts: the parts of the score by name: "tokens" (MaxSim, its mean a query token, or the aligned
            score), "bm25" (words), "cls" (inner product of the CLS vectors), "feedback_codes",
            "feedback_cls"; where candidates keep the order in which they were found, the one score by which
            they were: "cls", "bm25", "rrf", "dbsf" or "fde".
        similarity: the mean over the query's tokens, or the inner product of the CLS vectors where no tokens
            were scored, which means the same for every query; None where neither was computed.
        group: the value of the metadata key that hits are grouped by.
    """

    id: str
    score: float
    text: str
    title: str | None
    metadata: dict[str, Any]
    passage: int
    parts: dict[str, ScorePart]
    similarity: float | None = None
    group: str | int | float | None = None


class Hits(list[Hit]):
    """The hits of one search, best first.

    Attributes:
        ms: milliseconds spent in "encode", "candidates", "rerank" and in "total". Where Qdrant
            reranks, it does so in the request for candidates, and "rerank" is 0.
        missing: parts of the score that the collection cannot give, such as "bm25" while its words are
            being added; the others were fused without them.
        pool: documents among the candidates, from which hits are taken.
        note: why there are fewer hits than were asked for, if more candidates may have more.
        truncated: tokens of the query beyond the model's window, which were not searched by.
    """

    def __init__(
        self,
        hits: list[Hit],
        ms: dict[str, float],
        missing: Sequence[str] = (),
        pool: int = 0,
        note: str | None = None,
        truncated: int = 0,
    ) -> None:
        super().__init__(hits)
        self.ms = ms
        self.missing = tuple(missing)
        self.pool = pool
        self.note = note
        self.truncated = truncated


_POINT_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "qdrant-late-interaction")


def point_id(document_id: str, passage: int) -> str:
    """The UUIDv5 under which passage number `passage` of a document is stored.

    Raises:
        DocumentError: the id has a lone surrogate.
    """
    try:
        return str(uuid.uuid5(_POINT_NAMESPACE, f"{document_id}\0{passage}"))
    except UnicodeEncodeError:
        check_text(document_id, "document id")
        raise
