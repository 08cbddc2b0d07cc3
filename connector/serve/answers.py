"""From what the library finds to what is answered."""

from __future__ import annotations

import time
from collections.abc import Sequence

from connector.api.connector import Connector
from connector.collection.documents.writer import WORD_BYTES
from connector.core.errors import CollectionError, InputError, StoreError, one_line
from connector.core.explanation import Explanation
from connector.core.types import Hit, passage_text
from connector.serve.bodies import HitAnswer, Match, Milliseconds, SearchAnswer, SearchRequest
from connector.stores.schema import CLS, FDE


def searched(connector: Connector, asked: SearchRequest) -> SearchAnswer:
    """The answer to a search."""
    hits = connector.search(
        asked.query,
        asked.k,
        filter=asked.filter,
        candidates=asked.candidates,
        candidates_by=asked.candidates_by,
        cls_weight=asked.cls_weight,
        alignment=asked.alignment,
    )
    sizes = stored_bytes(connector, hits)
    answers = [_hit(hit, size) for hit, size in zip(hits, sizes, strict=True)]
    spent = None
    if asked.explain:
        started = time.perf_counter()
        for hit, answer in zip(hits, answers, strict=True):
            _explain(hit, answer)
        spent = 1e3 * (time.perf_counter() - started)
    return SearchAnswer(hits=answers, ms=Milliseconds(**hits.ms, explain=spent))


def stored_bytes(connector: Connector, hits: Sequence[Hit]) -> list[int | None]:
    """What the vectors of each hit's passage take; None for one that is gone."""
    if not hits:
        return []
    try:
        return _stored_bytes(connector, hits)
    except (CollectionError, StoreError):  # a migration may just have put another version in its place
        connector.refresh()
        return _stored_bytes(connector, hits)


def _stored_bytes(connector: Connector, hits: Sequence[Hit]) -> list[int | None]:
    collection = connector.collection
    ids = [collection.point_id(hit.id, hit.passage) for hit in hits]
    found = collection.store.retrieve(collection.physical, ids, ["rows", "words"])
    each = collection.vector_bytes[CLS] + collection.vector_bytes.get(FDE, 0)
    sizes = {
        id_: each
        + (record.payload.get("rows") or 0) * collection.token_bytes
        + (record.payload.get("words") or 0) * WORD_BYTES
        for id_, record in found.items()
    }
    return [sizes.get(id_) for id_ in ids]


def _hit(hit: Hit, size: int | None) -> HitAnswer:
    return HitAnswer(
        id=hit.id,
        score=hit.score,
        text=hit.text,
        title=hit.title,
        metadata=hit.metadata,
        passage=hit.passage,
        parts=hit.parts,
        bytes=size,
    )


def _explain(hit: Hit, answer: HitAnswer) -> None:
    """Say which words matched, or why nobody knows: other hits may still have theirs."""
    try:
        answer.matches = matches(hit.explain(), hit.title, hit.text)
    except (InputError, CollectionError) as error:
        answer.unexplained = one_line(str(error))


def matches(explanation: Explanation, title: str | None, text: str) -> list[Match]:
    """The words that stand in a title or a text and add to the score."""
    before = len(passage_text(title, text)) - len(text)  # the title and a space, where there is one
    parts = {word: part for word, part in explanation.passage_parts().items() if word.in_text and part > 0}
    largest = max(parts.values(), default=0.0)
    return [
        Match(
            where="title" if word.start < before else "text",
            start=word.start - (0 if word.start < before else before),
            end=word.end - (0 if word.start < before else before),
            part=part,
            weight=part / largest,
        )
        for word, part in sorted(parts.items(), key=lambda it: it[0].start)
    ]
