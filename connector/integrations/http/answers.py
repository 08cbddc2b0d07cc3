"""Answers; one that the library gives itself, such as `Explanation`, is sent as it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any, Literal

from pydantic import BaseModel, Field

from connector.api.connector import Connector
from connector.collection.documents.writer import WORD_BYTES
from connector.collection.search.candidates import POOL
from connector.collection.search.options import SearchOptions
from connector.core.errors import CollectionError, InputError, StoreError, one_line
from connector.core.explanation import Explanation, Word
from connector.core.types import Hit, Hits, passage_text
from connector.integrations.http.requests import MAX_CANDIDATES, BatchRequest, SearchRequest
from connector.stores.schema import CLS, FDE


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="What was received, and what to do about it.")


class Match(BaseModel):
    """A word of a hit that its score comes from."""

    where: Literal["title", "text"] = Field(description="Where it stands.")
    start: int = Field(description="Its first character there, counted in Unicode code points from 0.")
    end: int = Field(description="The character after its last one.")
    part: float = Field(description="What it adds to the score.")
    weight: float = Field(description="That over what the hit's strongest word adds, from 0 to 1.")


@dataclass(frozen=True, slots=True)
class HitAnswer(Hit):
    """A document, shown by its best passage.

    Args:
        id: the document's id.
        score: what hits are ordered by, larger is better.
        text: the text of the passage.
        title: the document's title, if it has one.
        metadata: the document's metadata.
        passage: number of the passage in its document, from 0.
        parts: the parts of the score by name, each with its score, that on the candidates' scale, and its
            weight; the sum of the products is the score.
        similarity: the mean over the query's tokens, or, where none are scored, the inner product of the CLS
            vectors, which `min_similarity` is compared with; null where neither was computed.
        group: with `group_by`, the value that the hit is grouped by.
        bytes: what the passage's vectors take in the store; null if it was deleted in the meantime.
        matches: with `explain`, the words that the score comes from, in the order of the text.
        unexplained: with `explain`, why there are no matches.
    """  # clients read it in /openapi.json

    group: bool | str | int | float | None = None
    bytes: int | None = None
    matches: list[Match] | None = None
    unexplained: str | None = None


class Milliseconds(BaseModel):
    """Where the time went; waiting for a turn is not counted."""

    encode: float = Field(description="Encoding the query.")
    candidates: float = Field(description="Finding candidates, and fetching the texts of hits.")
    rerank: float = Field(description="Scoring the candidates; 0 where Qdrant does so as it finds them.")
    feedback: float = Field(description="What the first hits, or liked ones, add.")
    total: float = Field(description="The sum of these.")
    explain: float | None = Field(description="With `explain`: finding the words, beside the total.")


class SearchAnswer(BaseModel):
    """The hits, best first, or group after group."""

    hits: list[HitAnswer]
    ms: Milliseconds
    missing: list[str] = Field(
        description="Parts of the score that the collection cannot give yet, such as bm25."
    )
    pool: int = Field(description="Documents among the candidates, of which the hits of all pages are.")
    note: str | None = Field(
        description="Why there are fewer hits than were asked for, where more candidates may have more."
    )
    truncated: int = Field(description="Tokens of the query beyond the model's window; see `long_query`.")


class IngestAnswer(BaseModel):
    """What was written."""

    documents: int = Field(description="Documents that were written.")
    unchanged: int = Field(description="Those that were there as they are.")
    metadata_updated: int = Field(description="Those of which only the metadata was written.")
    passages: int = Field(description="Passages that were written.")
    truncated: int = Field(description="Passages that were longer than the model's window; split them.")
    tokens_lost: int = Field(description="The tokens beyond it.")
    titles_cut: int = Field(
        description="Documents whose title did not fit the window beside the text; its first words are read."
    )
    tokens_before: int = Field(description="Tokens that were encoded.")
    tokens_after: int = Field(description="Token vectors that are stored.")
    bytes_per_passage: dict[str, float] = Field(description="What the vectors of a passage take.")
    seconds: float
    refused: dict[str, str] = Field(
        description="Documents that the store does not take, by id, and why; the others are written."
    )


class HealthAnswer(BaseModel):
    """Whether the collection can be searched; where a key is needed, who shows none learns nothing else."""

    status: Literal["ok"]
    collection: str | None = Field(default=None, description="The collection's name.")
    recipe: str | None = Field(default=None, description="The name of its recipe.")
    documents: int | None = Field(default=None, description="How many documents it holds.")


def searched(connector: Connector, asked: SearchRequest) -> SearchAnswer:
    """The answer to a search."""
    hits = connector.search(asked.query, asked.k, **options_of(asked))
    (answer,) = _answers(connector, [hits])
    if asked.explain:
        started = time.perf_counter()
        answer.hits = [
            replace(shown, **_matches(connector, asked, hit))
            for hit, shown in zip(hits, answer.hits, strict=True)
        ]
        answer.ms.explain = 1e3 * (time.perf_counter() - started)
    return answer


def searched_together(connector: Connector, asked: BatchRequest) -> list[SearchAnswer]:
    """The answers to the queries of a batch, in their order.

    As many queries at a time as have no more candidates than one search may have.
    """
    size = min(len(asked.queries), MAX_CANDIDATES // (asked.candidates or POOL))
    found = connector.search_batch(asked.queries, asked.k, batch_size=size, **options_of(asked))
    return _answers(connector, list(found))


def _answers(connector: Connector, found: Sequence[Hits]) -> list[SearchAnswer]:
    sizes = iter(stored_bytes(connector, list(chain.from_iterable(found))))
    return [
        SearchAnswer(
            hits=[_answer(hit, next(sizes)) for hit in hits],
            ms=Milliseconds(**hits.ms, explain=None),
            missing=list(hits.missing),
            pool=hits.pool,
            note=hits.note,
            truncated=hits.truncated,
        )
        for hits in found
    ]


def options_of(asked: SearchOptions) -> Any:
    """The options of a search that a request has, without k."""
    return {name: getattr(asked, name) for name in SearchOptions.model_fields if name != "k"}


def _answer(hit: Hit, size: int | None) -> HitAnswer:
    return HitAnswer(**{it.name: getattr(hit, it.name) for it in fields(Hit)}, bytes=size)


def stored_bytes(connector: Connector, hits: Sequence[Hit]) -> list[int | None]:
    """What the vectors of each hit's passage take; None for one that is gone, or is just moved elsewhere."""
    collection = connector.collection
    ids = [collection.point_id(hit.id, hit.passage) for hit in hits]
    try:
        found = collection.store.retrieve(collection.physical, ids, ["rows", "words"])
    except (CollectionError, StoreError):  # a migration may just have put another version in its place
        found = {}
    each = collection.vector_bytes[CLS] + collection.vector_bytes.get(FDE, 0)
    sizes = {
        id_: each
        + (record.payload.get("rows") or 0) * collection.metadata.token_bytes
        + (record.payload.get("words") or 0) * WORD_BYTES
        for id_, record in found.items()
    }
    return [sizes.get(id_) for id_ in ids]


def _matches(connector: Connector, asked: SearchRequest, hit: Hit) -> dict[str, Any]:
    """Which words matched, or why nobody knows: other hits may still have theirs."""
    try:
        explanation = connector.explain(asked.query, hit, **options_of(asked))
        return {"matches": matches(explanation, hit.title, hit.text)}
    except (InputError, CollectionError) as error:
        return {"unexplained": one_line(str(error))}


def matches(explanation: Explanation, title: str | None, text: str) -> list[Match]:
    """The words that stand in a title or a text and add to the score."""
    before = len(passage_text(title, text)) - len(text)  # the title and a space, where there is one
    parts = {word: part for word, part in explanation.passage_parts().items() if word.in_text and part > 0}
    largest = max(parts.values(), default=0.0)

    def match(word: Word, part: float) -> Match:
        where: Literal["title", "text"] = "title" if word.start < before else "text"
        first = 0 if where == "title" else before
        return Match(
            where=where, start=word.start - first, end=word.end - first, part=part, weight=part / largest
        )

    return [match(word, parts[word]) for word in sorted(parts, key=lambda word: word.start)]
