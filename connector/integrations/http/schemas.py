"""Requests and answers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from qdrant_client import models

from connector.api.connector import Connector
from connector.collection.documents.writer import WORD_BYTES
from connector.core.errors import CollectionError, InputError, StoreError, one_line
from connector.core.explanation import Explanation
from connector.core.types import Hit, passage_text
from connector.stores.schema import CLS, FDE

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


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


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


_Text = Annotated[str, Field(min_length=1, max_length=MAX_QUERY, pattern=r"\S")]


_Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]


_Weight = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="w of the score w·CLS + (1 − w)·tokens; by default the collection's.",
    ),
]


_Alignment = Annotated[
    str | None,
    Field(
        max_length=40,
        pattern=r"^\s*top-([0-9]+|[0-9]+(\.[0-9]+)?%)\s*$",
        description='How tokens are scored: "top-1" (MaxSim), "top-4", "top-1.5%", …; by default the '
        "collection's.",
    ),
]


_Filter = Annotated[
    models.Filter | None,
    BeforeValidator(_not_deep),
    Field(
        description="A filter of Qdrant's on keys of the metadata.",
        examples=[{"must": [{"key": "year", "match": {"value": 2021}}]}],
    ),
]


class SearchRequest(_Request):
    """A query, and how to find and score its hits."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "How do insects share the place of food?", "k": 10, "explain": True}]
        }
    )

    query: _Text = Field(description="A text that is not blank.")
    k: int = Field(
        default=10, ge=1, le=MAX_K, description=f"How many hits; with `explain` at most {MAX_EXPLAINED}."
    )
    filter: _Filter = None
    candidates: int = Field(
        default=100, ge=1, le=MAX_CANDIDATES, description="How many passages are found to be scored."
    )
    candidates_by: Literal["dense", "lexical", "hybrid", "hybrid-dbsf", "muvera"] = Field(
        default="dense",
        description="What finds them: the vectors of whole texts, words (BM25), both, or MUVERA encodings; "
        "all but the first need a collection that was made for them.",
    )
    cls_weight: _Weight = None
    alignment: _Alignment = None
    explain: bool = Field(default=False, description="Whether to say of each hit which words matched.")

    @model_validator(mode="after")
    def _not_too_many_explained(self) -> SearchRequest:
        if self.explain and self.k > MAX_EXPLAINED:
            raise ValueError(f"k is {self.k}, and the words of at most {MAX_EXPLAINED} hits are explained")
        return self


class Match(_Answer):
    """A word of a hit that its score comes from."""

    where: Literal["title", "text"] = Field(description="Where it stands.")
    start: int = Field(description="Its first character there, counted in Unicode code points from 0.")
    end: int = Field(description="The character after its last one.")
    part: float = Field(description="What it adds to the score.")
    weight: float = Field(description="That over what the hit's strongest word adds, from 0 to 1.")


class HitAnswer(_Answer):
    """A document, shown by its best passage."""

    id: str = Field(description="The document's id.")
    score: float = Field(description="What hits are ordered by, larger is better.")
    text: str = Field(description="The text of the passage.")
    title: str | None = Field(description="The document's title, if it has one.")
    metadata: dict[str, Any] = Field(description="The document's metadata.")
    passage: int = Field(description="The number of the passage in its document, from 0.")
    parts: dict[str, float] = Field(description="The parts of the score by name; the last one is the score.")
    bytes: int | None = Field(
        description="What the passage's vectors take in the store; null if it was deleted meanwhile."
    )
    matches: list[Match] | None = Field(
        default=None,
        description="With `explain`: the words that the score comes from, in the order of the text.",
    )
    unexplained: str | None = Field(default=None, description="With `explain`: why there are no matches.")


class Milliseconds(_Answer):
    """Where the time went; waiting for a turn is not counted."""

    encode: float = Field(description="Encoding the query.")
    candidates: float = Field(description="Finding candidates, and fetching the texts of hits.")
    rerank: float = Field(description="Scoring the candidates; 0 where Qdrant does so as it finds them.")
    total: float = Field(description="The sum of these.")
    explain: float | None = Field(
        default=None, description="With `explain`: finding the words, beside the total."
    )


class SearchAnswer(_Answer):
    """The hits, best first."""

    hits: list[HitAnswer]
    ms: Milliseconds


class ExplainRequest(_Request):
    """A query and a document."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "How do insects share the place of food?", "id": "bees"}]}
    )

    query: _Text = Field(description="A text that is not blank.")
    id: _Id = Field(description="The id of a document of the collection.")
    cls_weight: _Weight = None
    alignment: _Alignment = None


class WordAnswer(_Answer):
    """A word of the query or of the passage."""

    text: str = Field(description='As it stands there; "CLS" for the vector of the whole text.')
    start: int = Field(description="Its first character, counted in Unicode code points from 0.")
    end: int = Field(description="The character after its last one; 0 where it does not stand in the text.")


class PairAnswer(_Answer):
    """A part of a score: a word of the query and what it is aligned with."""

    kind: Literal["tokens", "cls"]
    query: WordAnswer
    passage: list[WordAnswer] = Field(description="Several words where their tokens were merged.")
    spread: list[float] = Field(description="The share of the part that each of these words has.")
    similarity: float = Field(description="The inner product of the two vectors, as they are stored.")
    part: float = Field(description="What the pair adds to the score.")
    share: float = Field(description="That over the score.")


class ExplainAnswer(_Answer):
    """A score in parts, which sum to it."""

    query: str
    id: str
    passage: int = Field(description="The number of the document's best passage.")
    text: str = Field(description="The passage as it was encoded: its title, a space, its text.")
    score: float
    pairs: list[PairAnswer]


class DocumentBody(_Request):
    """A text to be found again."""

    id: _Id = Field(description="A document of the same id is replaced.")
    text: str = Field(min_length=1, pattern=r"\S", description="A text that is not blank.")
    title: str | None = Field(default=None, description="Encoded in front of the text.")
    metadata: dict[str, JsonValue] = Field(default_factory=dict, description="What filters ask for.")


class IngestRequest(_Request):
    """Documents to write."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": [
                        {"id": "otters", "text": "River otters hold hands while they sleep."},
                        {
                            "id": "bees",
                            "text": "A bee that has found flowers dances in the hive.",
                            "metadata": {"year": 2021},
                        },
                    ]
                }
            ]
        }
    )

    documents: list[DocumentBody] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    chunk_tokens: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Split texts into chunks of at most so many tokens; what lies beyond the model's window "
        "is lost otherwise.",
    )
    chunk_overlap: int = Field(default=0, ge=0, le=100_000, description="Tokens that chunks share.")


class IngestAnswer(_Answer):
    """What was written."""

    documents: int = Field(description="Documents that were written.")
    unchanged: int = Field(description="Those that were there as they are.")
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


class HealthAnswer(_Answer):
    """Whether the collection can be searched; where a key is needed, who shows none learns nothing else."""

    status: Literal["ok"]
    collection: str | None = Field(default=None, description="The collection's name.")
    recipe: str | None = Field(default=None, description="The name of its recipe.")
    documents: int | None = Field(default=None, description="How many documents it holds.")


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
