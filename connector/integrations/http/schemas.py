"""Requests and answers; an answer that the library gives itself, such as `Explanation`, is sent as it is."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from qdrant_client import models

from connector.api.connector import Connector
from connector.collection.documents.writer import WORD_BYTES
from connector.collection.search.options import SearchOptions
from connector.core.errors import CollectionError, InputError, StoreError, one_line
from connector.core.explanation import Explanation, Word
from connector.core.types import Hit, passage_text
from connector.stores.schema import CLS, FDE, PayloadKind

MIB = 2**20


MAX_QUERY = 10_000
"""Characters of a query; an encoder reads about 1,200."""


MAX_ID = 10_000
"""Characters of a document's id."""


MAX_K = 1_000


MAX_EXPLAINED = 50
"""Hits whose words are asked for: each is encoded again, which takes as long as three searches."""


MAX_CANDIDATES = 10_000


MAX_DOCUMENTS = 1_000


MAX_FILTER_DEPTH = 32
"""Levels of a filter's JSON."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an application takes.

    Args:
        documents: bytes of the body of an ingest.
        others: bytes of any other body.
        seconds: in which a body has to come.
        searches: threads that search and explain. One for each core, each of which computes with one
            thread itself, gave the most searches a second; four times as many gave a third less.
        waiting: searches that wait for a thread; more are told to come again.
        ingests: that wait for the one that is running.
    """

    documents: int = 16 * MIB
    others: int = MIB // 4
    seconds: float = 60.0
    searches: int = os.cpu_count() or 1
    waiting: int = 1_000
    ingests: int = 16


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="What was received, and what to do about it.")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _not_deep(value: Any) -> Any:
    """Refuse what would take all of the stack when it is gone through."""
    level, depth = [value], 0
    while level:
        if depth > MAX_FILTER_DEPTH:
            raise ValueError(f"is nested deeper than {MAX_FILTER_DEPTH} levels")
        inside = [it for it in level if isinstance(it, dict | list)]
        level = [it for node in inside for it in (node.values() if isinstance(node, dict) else node)]
        depth += 1
    return value


_Query = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_QUERY,
        pattern=r"\S",
        description="A text that is not blank.",
        examples=["How do insects share the place of food?"],
    ),
]


_Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class SearchRequest(SearchOptions):
    """A query, and how to find and score its hits."""

    query: _Query
    k: int = Field(
        default=10, ge=1, le=MAX_K, description=f"How many hits; with `explain` at most {MAX_EXPLAINED}."
    )
    filter: Annotated[models.Filter | None, BeforeValidator(_not_deep)] = Field(
        default=None,
        description="A filter of Qdrant's on keys of the metadata.",
        examples=[{"must": [{"key": "year", "match": {"value": 2021}}]}],
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        le=MAX_CANDIDATES,
        description="How many passages each way of finding them finds; by default 200, or 100 where scores "
        "are not scaled by the candidates.",
    )
    explain: bool = Field(default=False, description="Whether to say of each hit which words matched.")

    @model_validator(mode="after")
    def _not_too_many_explained(self) -> SearchRequest:
        if self.explain and self.k > MAX_EXPLAINED:
            raise ValueError(f"k is {self.k}, and the words of at most {MAX_EXPLAINED} hits are explained")
        return self


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
        bytes: what the passage's vectors take in the store; null if it was deleted in the meantime.
        matches: with `explain`, the words that the score comes from, in the order of the text.
        unexplained: with `explain`, why there are no matches.
    """  # clients read it in /openapi.json

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
    """The hits, best first."""

    hits: list[HitAnswer]
    ms: Milliseconds
    missing: list[str] = Field(
        description="Parts of the score that the collection cannot give yet, such as bm25."
    )


class ExplainRequest(SearchOptions):
    """A query, how it is searched, and a document."""

    query: _Query
    id: _Id = Field(description="The id of a document of the collection.", examples=["bees"])
    filter: Annotated[models.Filter | None, BeforeValidator(_not_deep)] = Field(
        default=None, description="The filter of the search."
    )


class DocumentBody(_Request):
    """A text to be found again."""

    id: _Id = Field(description="A document of the same id is replaced.", examples=["bees"])
    text: str = Field(
        min_length=1,
        pattern=r"\S",
        description="A text that is not blank.",
        examples=["A bee that has found flowers dances in the hive."],
    )
    title: str | None = Field(default=None, description="Encoded in front of the text.")
    metadata: dict[str, JsonValue] = Field(
        default_factory=dict, description="What filters ask for.", examples=[{"year": 2021}]
    )


class IngestRequest(_Request):
    """Documents to write."""

    documents: list[DocumentBody] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    chunk_tokens: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Split texts into chunks of at most so many tokens; what lies beyond the model's window "
        "is lost otherwise.",
    )
    chunk_overlap: int = Field(default=0, ge=0, le=100_000, description="Tokens that chunks share.")
    indexes: dict[str, PayloadKind] | None = Field(
        default=None,
        max_length=100,
        description="Metadata keys that searches are filtered by and the kinds of their values; those that "
        "are not indexed yet are, before anything is written. A server in strict mode takes filters on no "
        "others.",
        examples=[{"year": "integer"}],
    )


class IngestAnswer(BaseModel):
    """What was written."""

    documents: int = Field(description="Documents that were written.")
    unchanged: int = Field(description="Those that were there as they are.")
    metadata_updated: int = Field(description="Those of which only the metadata was written.")
    passages: int = Field(description="Passages that were written.")
    truncated: int = Field(description="Passages that were longer than the model's window; split them.")
    tokens_lost: int = Field(description="The tokens beyond it.")
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
    sizes = stored_bytes(connector, hits)
    started = time.perf_counter()
    explained = [_matches(connector, asked, hit) if asked.explain else (None, None) for hit in hits]
    spent = 1e3 * (time.perf_counter() - started) if asked.explain else None
    answers = [
        HitAnswer(
            **{it.name: getattr(hit, it.name) for it in fields(Hit)},
            bytes=size,
            matches=found,
            unexplained=unexplained,
        )
        for hit, size, (found, unexplained) in zip(hits, sizes, explained, strict=True)
    ]
    return SearchAnswer(hits=answers, ms=Milliseconds(**hits.ms, explain=spent), missing=list(hits.missing))


def options_of(asked: SearchOptions) -> Any:
    """The options of a search that a request has, without k."""
    return {name: getattr(asked, name) for name in SearchOptions.model_fields if name != "k"}


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


def _matches(connector: Connector, asked: SearchRequest, hit: Hit) -> tuple[list[Match] | None, str | None]:
    """Which words matched, or why nobody knows: other hits may still have theirs."""
    try:
        explanation = connector.explain(asked.query, hit, **options_of(asked))
        return matches(explanation, hit.title, hit.text), None
    except (InputError, CollectionError) as error:
        return None, one_line(str(error))


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
