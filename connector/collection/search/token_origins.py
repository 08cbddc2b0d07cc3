"""Which words of a passage its stored rows stand for.

That is not stored: the passage is encoded and reduced again, and compared with what is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.pipeline import PassagePipeline, StoredTokens
from connector.collection.search.stored_tokens import codec_of
from connector.compression.reduction import Reduction, TokenPooling
from connector.compression.reduction.base import Labels, Rows, assign, regroup
from connector.core.errors import CollectionError
from connector.core.explanation import Word
from connector.core.types import Embedding, Float32, Hit, passage_text, unit
from connector.encoders import Encoder

_SAME = 0.9
"""Least cosine of a stored row and of the same one made again. The signs of equal tokens of which one was
computed in another batch have 0.98, other words of a passage seldom more than 0.7."""


def encoded_again(
    collection: Collection, encoder: Encoder, hit: Hit, passage: StoredTokens
) -> tuple[Embedding, Labels]:
    """The passage's embedding, not reduced, and (n,) for each row the stored row that holds it; −1 for none.

    Raises:
        CollectionError: encoding and reducing the text again does not give the stored rows.
    """
    # With the stored frequencies: ingest counts on with those of the collection's own pipeline.
    counted = collection.frequencies.stored()
    pipeline = PassagePipeline(collection.recipe, collection, collection.metadata.token_bytes, counted)
    reduction = pipeline.reduction
    merging = any(isinstance(step, TokenPooling) for step in reduction.steps)
    text = passage_text(hit.title, hit.text)
    (whole,) = pipeline.embed(encoder, [text], attention=merging)
    if merging:
        reduced, labels = traced(whole, reduction)
    else:
        labels = _kept(collection, whole, passage)
        reduced = regroup(whole, labels)
    if not _agree(collection, reduced.tokens, passage):
        if collection.attached:
            raise CollectionError(
                f"the text of {hit.id!r} was changed since it was attached; attach to the collection again"
            )
        raise CollectionError(
            f"passage {hit.passage} of {hit.id!r} has {len(passage.rows)} stored rows, and reducing its text "
            f"again ({collection.recipe.reduction}) gives others: the corpus was counted further or the "
            "document written again since; search again, or ingest into another collection"
        )
    return whole, labels


def traced(embedding: Embedding, reduction: Reduction) -> tuple[Embedding, Labels]:
    """The reduced embedding, and (n,) for each row the number of the row that it ends in; −1 if dropped."""
    labels = np.arange(len(embedding), dtype=np.intp)
    for step in reduction.steps:
        ahead = assign(embedding, step)
        embedding = regroup(embedding, ahead)
        labels = np.where(labels < 0, -1, ahead[labels])
    return embedding, labels


def _kept(collection: Collection, whole: Embedding, passage: StoredTokens) -> Labels:
    """(n,) labels as above of a reduction that merges nothing, read off what is stored.

    So counts of the corpus that have changed since do no harm.
    """
    cosines = _cosines(collection, whole.tokens, passage.rows).T[: len(whole)]
    labels = np.full(len(whole), -1, np.intp)
    labels[in_order(cosines)] = np.arange(len(cosines))
    return labels


def in_order(similarities: Float32) -> Rows:
    """(k,) ascending column numbers, one for each row of (k, n), k ≤ n: those of the largest sum."""
    k, n = similarities.shape
    best = np.full((k + 1, n + 1), -np.inf)  # of the first rows, with all columns below one
    best[0] = 0
    for row in range(k):
        best[row + 1, 1:] = np.maximum.accumulate(best[row, :-1] + similarities[row])
    columns = np.zeros(k, np.intp)
    end = n
    for row in range(k, 0, -1):
        end = int(np.searchsorted(best[row, : end + 1], best[row, end], side="left")) - 1
        columns[row - 1] = end
    return columns


def _agree(collection: Collection, tokens: Float32, passage: StoredTokens) -> bool:
    """Whether the stored rows are those of these tokens (k, w), up to rounding."""
    if len(tokens) != len(passage.rows):
        return False
    cosines = np.diagonal(_cosines(collection, tokens, passage.rows))
    lost = ~codec_of(collection).decode(passage.rows).any(axis=1)  # without salience a row has no direction
    return bool((lost | (cosines >= _SAME)).all())


def _cosines(collection: Collection, tokens: Float32, rows: NDArray[Any]) -> Float32:
    """(n, k) cosines of tokens (n, w), stored as rows are, with k stored rows."""
    codec = codec_of(collection)
    return unit(codec.decode(codec.encode(tokens))) @ unit(codec.decode(rows)).T


def words_of(rows: Embedding, whole: Embedding, names: Mapping[int, str]) -> list[Word]:
    """The word that each row is a piece of; the span is that of all pieces, whether they are among the rows.

    Args:
        rows: some of the rows of `whole`.
        whole: the embedding, not reduced.
        names: the strings of special tokens by their ids.
    """
    spans: dict[int, tuple[int, int]] = {}
    for number, (start, end) in zip(whole.word_ids.tolist(), whole.offsets.tolist(), strict=True):
        first, last = spans.get(number, (start, end))
        spans[number] = min(first, start), max(last, end)
    places = zip(rows.word_ids.tolist(), rows.offsets.tolist(), rows.token_ids.tolist(), strict=True)
    return [
        _word(whole.text, spans[number] if number >= 0 else span, names.get(token, f"[token {token}]"))
        for number, span, token in places
    ]


def _word(text: str, span: Sequence[int], name: str) -> Word:
    """The word of a span, without the spaces that some tokenizers count in; named if the span is empty."""
    start, end = span
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    piece = piece.strip()
    return Word(piece, start, start + len(piece)) if piece else Word(name, 0, 0)


def token_names(encoder: Encoder, query: str, passage: str) -> dict[int, str]:
    """The strings of the tokens of a query and a passage by their ids; none if the encoder does not tell."""
    features = getattr(encoder, "features", None)
    if features is None:
        return {}
    encodings = [*features([query], "query").encodings, *features([passage], "document").encodings]
    return {token: name for it in encodings for token, name in zip(it.ids, it.tokens, strict=True)}
