"""Why a passage has the score it has: pairs of a query word and passage words, whose parts sum to it.

The rows that are explained are the stored ones, as they are scored: reduced, projected and rounded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.pipeline import QueryTokens, StoredTokens
from connector.collection.search.candidates import codec_of, keys_of, query_tokens, stored
from connector.collection.search.options import SearchOptions
from connector.collection.search.search import fetch, rank
from connector.collection.search.token_origins import encoded_again, token_names, words_of
from connector.compression.reduction.base import Rows
from connector.core.errors import CollectionError, InputError
from connector.core.explanation import WHOLE, Explanation, Pair, Word, summed
from connector.core.types import Embedding, Float32, Hit, check_text, passage_text
from connector.encoders import Encoder
from connector.scoring.alignment import Alignment, aligned_cells, parse_alignment
from connector.stores import Record
from connector.stores.schema import TOKENS

_OWN_ROUNDING = 1e-3
"""The same of scores made here."""


_ROUNDING = 0.05
"""Share of a score by which Qdrant's own arithmetic may differ from that of the vectors that it gives back:
10⁻⁴ where it rounds the query to half precision, 10⁻² where it rounds rows to 4 bits."""


def best_passage(
    collection: Collection,
    query: Embedding,
    id: str,
    options: SearchOptions,
    *,
    device: str = "cpu",
) -> Hit:
    """A document's best passage for a query, scored as a search scores it.

    Args:
        collection: made by the encoder of the query.
        query: the encoded query.
        id: the document's id.
        options: of which `cls_weight` and `alignment` count.
        device: where tokens are scored.

    Raises:
        InputError: the collection holds no such document, or an argument is out of range.
        CollectionError: the document is being written.
    """
    check_text(id, "document id")
    first = collection.point_id(id, 0)
    there = collection.store.retrieve(collection.physical, [first], ["passages"])
    if first not in there or "passages" not in there[first].payload:
        raise InputError(
            f"collection {collection.name!r} holds no document {id!r}; give an id that it holds, such as one "
            "that a search finds"
        )
    ids = [collection.point_id(id, number) for number in range(there[first].payload["passages"])]
    among = models.Filter(must=[models.HasIdCondition(has_id=list(ids))])
    # All of them are scored, also where Qdrant scores only some by the vectors themselves.
    more = {"k": len(ids) + 1, "candidates": len(ids) + 1, "filter": among}
    ranking = rank(collection, query, options.model_copy(update=more), device=device)
    hits = fetch(collection, ranking, 1)
    if not hits and collection.attached:
        raise collection.replaced()
    if not hits:
        raise CollectionError(f"document {id!r} is being written; explain it when its ingest has ended")
    return hits[0]


def explain(
    collection: Collection,
    encoder: Encoder,
    query: Embedding,
    hit: Hit,
    alignment: str | Alignment | None = None,
) -> Explanation:
    """The pairs of words that a hit's score is made of.

    Parts are computed from the stored rows. Where Qdrant itself scored, its arithmetic rounds otherwise; what
    that changes is laid on the parts in proportion, so that they sum to the score of the hit.

    Args:
        collection: where the hit was found.
        encoder: the collection's.
        query: the encoded query that found it.
        hit: the hit; its `parts` say how it was scored.
        alignment: what it was aligned by, such as "top-4"; None: by the collection's.

    Raises:
        InputError: the hit was not scored by vectors of the text, so no word has a part.
        CollectionError: what is stored is not what the hit or its text says; the message says what to do.
    """
    by, weight = _scored_by(hit)
    pairs = []
    if weight:
        cls = hit.parts["cls"]
        pairs.append(Pair("cls", WHOLE, (WHOLE,), (1.0,), cls, weight * cls, 0.0))
    if by is not None and weight < 1:
        found = _token_pairs(collection, encoder, query, hit, by, alignment)
        pairs += [replace(pair, part=(1 - weight) * pair.part) for pair in found]
    return Explanation(
        query=query.text,
        id=hit.id,
        passage=hit.passage,
        text=passage_text(hit.title, hit.text),
        score=hit.score,
        pairs=tuple(replace(pair, share=pair.part / hit.score if hit.score else 0.0) for pair in pairs),
    )


def _scored_by(hit: Hit) -> tuple[str | None, float]:
    """What scored the hit's tokens, if anything did, and the weight of CLS in its score."""
    parts = hit.parts
    last = list(parts)[-1]
    if last == "cls":
        return None, 1.0
    if last in ("maxsim", "aligned"):
        return last, 0.0
    if last != "mixed":
        raise InputError(
            f"hit {hit.id!r} was scored by {last} alone, which has no parts by word; search with a rerank"
        )
    by = "aligned" if "aligned" in parts else "maxsim"
    spread = parts["cls"] - parts[by]
    return by, (parts["mixed"] - parts[by]) / spread if spread else 0.0


def _token_pairs(
    collection: Collection,
    encoder: Encoder,
    query: Embedding,
    hit: Hit,
    by: str,
    alignment: str | Alignment | None,
) -> list[Pair]:
    """The pairs of tokens, whose parts sum to what tokens make of the hit's score; without shares."""
    record = _record(collection, hit)
    question, passage = query_tokens(collection, query), stored(collection, [record])
    folded = by == "maxsim" and TOKENS in record.vectors  # Qdrant scores rows as long as they are salient
    scored = replace(passage, rows=record.vectors[TOKENS]) if folded else passage
    chosen = _alignment(collection, alignment) if by == "aligned" else None
    similarities, weights = _cells(collection, question, scored, chosen)
    parts = _summing_to(hit, by, similarities.astype(np.float64) * weights)
    whole, labels = encoded_again(collection, encoder, hit, passage)
    names = token_names(encoder, query.text, whole.text)
    asking, found = words_of(question.embedding, query, names), words_of(whole, whole, names)
    own = question.tokens @ codec_of(collection).encode_query(whole.tokens).T
    pairs = []
    for i, j in np.argwhere(weights > 0):
        shares = _spread(found, own[i], np.flatnonzero(labels == j))
        similarity, part = float(similarities[i, j]), float(parts[i, j])
        pairs.append(Pair("tokens", asking[i], tuple(shares), tuple(shares.values()), similarity, part, 0.0))
    return pairs


def _spread(words: list[Word], own: Float32, rows: Rows) -> dict[Word, float]:
    """The words of those rows that were merged into one, and the share that each has of its part.

    Args:
        words: the word of each row of the passage, not reduced.
        own: (n,) the similarity of each of them with the token of the query.
        rows: the numbers of those that were merged.
    """
    sums = summed((words[row], max(float(own[row]), 0.0)) for row in rows)
    total = sum(sums.values())
    return {word: value / total if total else 1 / len(sums) for word, value in sums.items()}


def _record(collection: Collection, hit: Hit) -> Record:
    """The hit's passage, with all that scoring it needs."""
    id_ = collection.point_id(hit.id, hit.passage)
    found = collection.store.retrieve(collection.physical, [id_], *keys_of(collection))
    if id_ not in found:
        raise CollectionError(
            f"collection {collection.name!r} holds passage {hit.passage} of {hit.id!r} no more; search again"
        )
    return found[id_]


def _alignment(collection: Collection, alignment: str | Alignment | None) -> Alignment:
    chosen = collection.alignment if alignment is None else parse_alignment(alignment)
    if chosen is None:
        raise InputError(
            f"the hit was scored by an alignment, and collection {collection.name!r} has none of its own; "
            "say by which, such as alignment='top-4'"
        )
    return chosen


def _cells(
    collection: Collection, question: QueryTokens, passage: StoredTokens, alignment: Alignment | None
) -> tuple[Float32, Float32]:
    """(m, n) similarities, and (m, n) weights ≥ 0, by which they sum to the score of the tokens."""
    scorer = codec_of(collection).scorer(question.tokens)
    similarities: Float32 = scorer.similarities(passage.rows).numpy().T
    if alignment is not None:
        saliency = None if passage.saliency is None else passage.saliency.astype(np.float32)
        return similarities, aligned_cells(similarities, alignment, question.weights, saliency)
    weights = np.zeros_like(similarities)
    asking = np.arange(len(weights))
    weights[asking, similarities.argmax(axis=1)] = 1 if question.weights is None else question.weights
    return similarities, weights


def _summing_to(hit: Hit, by: str, parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The parts, with the rounding of whoever scored the hit laid on them in proportion.

    Raises:
        CollectionError: it is more than rounding.
    """
    size, missing = np.abs(parts).sum(), hit.parts[by] - parts.sum()
    rounding = _OWN_ROUNDING if "cls" in hit.parts else _ROUNDING  # only the client gives CLS beside
    if abs(missing) > rounding * max(size, 1e-3):
        raise CollectionError(
            f"hit {hit.id!r} has {by} {hit.parts[by]:.4f}, but what is stored gives {parts.sum():.4f}: it "
            "was found by another query or alignment, or written again since; search again and explain that"
        )
    return parts + np.abs(parts) * (missing / size) if size else parts
