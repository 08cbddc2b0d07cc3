"""Why a passage has the score it has: pairs of a query word and passage words, whose parts sum to it.

The rows that are explained are the stored ones, as they are scored: reduced, projected and rounded. The
passage is scored among the same candidates as in a search. What a scaled score comes to is laid on its pairs
in proportion to what each adds to the score before it is scaled.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.pipeline import QueryTokens, StoredTokens
from connector.collection.search.candidates import Plan, query_tokens
from connector.collection.search.options import SearchOptions
from connector.collection.search.scored import Scored
from connector.collection.search.search import hit_of, rank
from connector.collection.search.stored_tokens import codec_of, keys_of, stored
from connector.collection.search.token_origins import encoded_again, token_names, words_of
from connector.compression.reduction.base import Rows
from connector.core.errors import CollectionError, InputError
from connector.core.explanation import WHOLE, Explanation, Pair, Word, summed
from connector.core.types import Embedding, Float32, Hit, Sparse, check_text, passage_text
from connector.encoders import Encoder
from connector.scoring.alignment import Alignment, aligned_cells
from connector.scoring.bm25 import BM25
from connector.stores import Nearest, Record
from connector.stores.schema import CLS, LEXICAL, TOKENS

_OWN_ROUNDING = 1e-3
"""Share of a score by which one that was made here may differ from what its pairs come to."""


_ROUNDING = 0.05
"""The same where Qdrant's own arithmetic differs from that of the vectors that it gives back: 10⁻⁴ where it
rounds the query to half precision, 10⁻² where it rounds rows to 4 bits."""


def explain(
    collection: Collection,
    encoder: Encoder,
    query: Embedding,
    hit: Hit | str,
    options: SearchOptions | None = None,
) -> Explanation:
    """The pairs of words that a passage's score is made of.

    Args:
        collection: made by the encoder.
        encoder: the collection's.
        query: the encoded query.
        hit: a hit of the query, or the id of a document, whose best passage is explained, whether a search
            finds it or not.
        options: of the search.

    Raises:
        InputError: there is no such document, or candidates keep the order in which they were found, so
            that no word has a part.
        CollectionError: what is stored is not what the hit or its text says; the message says what to do.
    """
    options = (options or SearchOptions()).model_copy(update={"group_by": None, "mmr": None, "offset": 0})
    plan = Plan.of(collection, query, options, encoder.device)
    if plan.fusion is None:
        raise InputError(
            "nothing but the order in which candidates are found scores them so, and that has no parts by "
            "word; explain a search with a rerank"
        )
    scored, number = _passage(plan, hit, options)
    found = _hit(plan, scored, number)
    rounding = _ROUNDING if plan.mode == "server" else _OWN_ROUNDING
    if isinstance(hit, Hit) and abs(found.score - hit.score) > rounding * max(abs(hit.score), 1e-3):
        raise CollectionError(
            f"hit {hit.id!r} has score {hit.score:.4f}, and this search gives {found.score:.4f}: it was "
            "found by another query or with other options, or written again since; give the options of its "
            "search, or search again"
        )
    pairs = []
    if "cls" in found.parts:
        part = found.parts["cls"]
        pairs.append(Pair("cls", WHOLE, (WHOLE,), (1.0,), part.score, part.value, 0.0))
    if "bm25" in found.parts:
        pairs += _word_pairs(plan, query, found)
    if "tokens" in found.parts:
        pairs += _token_pairs(plan, encoder, query, found)
    pairs += _feedback_pairs(plan, scored, number, found)
    return Explanation(
        query=query.text,
        id=found.id,
        passage=found.passage,
        text=passage_text(found.title, found.text),
        score=found.score,
        pairs=tuple(replace(pair, share=pair.part / found.score if found.score else 0.0) for pair in pairs),
    )


def _passage(plan: Plan, hit: Hit | str, options: SearchOptions) -> tuple[Scored, int]:
    """A document's best passage, or the one of a hit, scored among the candidates of a search."""
    collection, id_ = plan.collection, hit if isinstance(hit, str) else hit.id
    numbers = _numbers(collection, id_) if isinstance(hit, str) else [hit.passage]
    scored = rank(collection, plan.query, options, device=plan.device).scored if plan.pooled else None
    if scored is None or not _of(scored, id_, numbers):
        found = plan.among([collection.point_id(id_, number) for number in numbers])
        apart = scored is None or not found.records
        scored = Scored.of(plan, found) if apart or scored is None else scored.others(plan, found)
    there = _of(scored, id_, numbers)
    if not there and collection.attached:
        raise collection.replaced()
    if not there:
        raise CollectionError(
            f"collection {collection.name!r} holds no passage {numbers[0]} of {id_!r} that is whole: it was "
            "deleted or is being written; search again"
        )
    return scored, there[0]


def _of(scored: Scored, id: str, numbers: list[int]) -> list[int]:
    """Numbers of those of a document's passages that are scored, best first."""
    payloads = [record.payload for record in scored.found.records]
    return [i for i in scored.order() if payloads[i]["id"] == id and payloads[i]["passage"] in numbers]


def _numbers(collection: Collection, id: str) -> list[int]:
    """The numbers of a document's passages."""
    check_text(id, "document id")
    first = collection.point_id(id, 0)
    there = collection.store.retrieve(collection.physical, [first], ["passages"])
    if first not in there or "passages" not in there[first].payload:
        raise InputError(
            f"collection {collection.name!r} holds no document {id!r}; give an id that it holds, such as one "
            "that a search finds"
        )
    return list(range(there[first].payload["passages"]))


def _hit(plan: Plan, scored: Scored, number: int) -> Hit:
    collection, id_ = plan.collection, scored.found.records[number].id
    texts = collection.store.retrieve(collection.physical, [id_], ["text", "title", "metadata"])
    if id_ not in texts or "text" not in texts[id_].payload:
        raise CollectionError(f"collection {collection.name!r} holds point {id_} no more; search again")
    return hit_of(scored, number, texts[id_])


def _feedback_pairs(plan: Plan, scored: Scored, number: int, hit: Hit) -> list[Pair]:
    """What each of the hits that speak, or of the liked documents, adds."""
    pairs = []
    for reference in scored.references:
        if not hit.parts[reference.name].value:
            continue
        vectors = scored.found.vectors(reference.by, plan.collection)[number : number + 1]
        alike = {
            id_: replace(reference, direction=it).scores(vectors)[0]
            for id_, it in reference.documents.items()
        }
        parts = _summing_to(np.array(list(alike.values())), hit.parts[reference.name].value)
        for (id_, similarity), part in zip(alike.items(), parts.tolist(), strict=True):
            what = WHOLE if reference.by == "cls" else Word("codes", 0, 0)
            speaker = Word(f"like {id_}", 0, 0)
            pairs.append(Pair("feedback", speaker, (what,), (1.0,), float(similarity), part, 0.0))
    return pairs


def _word_pairs(plan: Plan, query: Embedding, hit: Hit) -> list[Pair]:
    """The words that query and passage have in common, by what Qdrant makes of each."""
    collection, bm25 = plan.collection, plan.collection.words
    asked, text = plan.words, passage_text(hit.title, hit.text)
    terms = [Sparse(asked.indices[i : i + 1], asked.values[i : i + 1]) for i in range(len(asked))]
    point = models.Filter(must=[models.HasIdCondition(has_id=[collection.point_id(hit.id, hit.passage)])])
    queries = [Nearest(term, LEXICAL, 1) for term in terms]
    store, physical = collection.store, collection.physical
    by_cls = Nearest(query.cls, CLS, 1)
    _, scores = store.search_together(physical, [by_cls, *queries], payload=[], filter=point)
    found = [next(iter(it.values()), 0.0) for it in scores]
    added = {int(term.indices[0]): it for term, it in zip(terms, found, strict=True) if it}
    value = hit.parts["bm25"].value
    if not added:  # and yet it adds something, where 0 is not scaled to 0
        return [Pair("words", WHOLE, (WHOLE,), (1.0,), 0.0, value, 0.0)] if value else []
    parts = _summing_to(np.array(list(added.values())), value)
    asking, there = _places(bm25, query.text), _places(bm25, text)
    pairs = []
    for (term, score), part in zip(added.items(), parts.tolist(), strict=True):
        words = tuple(there.get(term, [WHOLE]))
        word = asking.get(term, [WHOLE])[0]
        pairs.append(Pair("words", word, words, (1 / len(words),) * len(words), score, part, 0.0))
    return pairs


def _places(bm25: BM25, text: str) -> dict[int, list[Word]]:
    """Where each term of an index of words stands in a text."""
    places: dict[int, list[Word]] = {}
    for match in re.finditer(r"\w+", text):
        for term in bm25.query(match[0]).indices.tolist():
            places.setdefault(term, []).append(Word(match[0], *match.span()))
    return places


def _token_pairs(plan: Plan, encoder: Encoder, query: Embedding, hit: Hit) -> list[Pair]:
    """The pairs of tokens, whose parts sum to what tokens make of the hit's score; without shares."""
    collection = plan.collection
    record = _record(collection, hit)
    question, passage = query_tokens(collection, query), stored(collection, [record])
    folded = (
        plan.mode == "server" and TOKENS in record.vectors
    )  # Qdrant scores rows as long as they are salient
    scored = replace(passage, rows=record.vectors[TOKENS]) if folded else passage
    similarities, weights = _cells(collection, question, scored, None if folded else plan.alignment)
    cells = similarities.astype(np.float64) * weights
    _check(plan, question, passage, hit, float(cells.sum()), folded)
    parts = _summing_to(cells, hit.parts["tokens"].value)
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


def _check(
    plan: Plan, question: QueryTokens, passage: StoredTokens, hit: Hit, total: float, folded: bool
) -> None:
    """Raises CollectionError unless the pairs come to what the passage's tokens were scored."""
    score, penalty = hit.parts["tokens"].score, plan.collection.recipe.length_penalty
    score += penalty * float(np.log(len(passage.rows)))
    if plan.alignment is None or folded:
        total /= plan.divisor(question)
    rounding = _ROUNDING if plan.mode == "server" else _OWN_ROUNDING
    if abs(score - total) > rounding * max(abs(total), 1e-3):
        raise CollectionError(
            f"hit {hit.id!r} has {score:.4f} by its tokens, but what is stored gives {total:.4f}: it was "
            "written again since it was found; search again and explain that"
        )


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


def _summing_to(parts: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """The parts in proportion, so that they sum to a total; in equal shares where all are 0."""
    if not total:
        return np.zeros(parts.shape)
    size, missing = np.abs(parts).sum(), total - parts.sum()
    if size:
        scaled: NDArray[np.float64] = parts + np.abs(parts) * (missing / size)
        return scaled
    return np.full(parts.shape, total / parts.size) if parts.size else parts
