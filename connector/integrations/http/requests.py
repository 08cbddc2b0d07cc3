"""Requests, and how much they may ask for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from qdrant_client import models

from connector.collection.search.options import SearchOptions
from connector.stores.schema import PayloadKind

MIB = 2**20


MAX_QUERY = 10_000
"""Characters of a query; an encoder reads about 1,200."""


MAX_ID = 10_000
"""Characters of a document's id."""


MAX_K = 1_000


MAX_EXPLAINED = 50
"""Hits whose words are asked for: each is encoded again, which takes as long as three searches."""


MAX_OFFSET = 10_000


MAX_CANDIDATES = 10_000


MAX_POOL = 1_000
"""Candidates where hits are compared with one another (`mmr`), where more are found to fill groups, which may
be 16 times as many, and of each query of a batch."""


MAX_QUERIES = 64
"""Queries of a batch."""


MAX_BATCH_HITS = 10_000
"""Hits that all queries of a batch ask for."""


MAX_KEY = 1_000
"""Characters of a metadata key."""


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
        passages: that the texts of an ingest are split into.
    """

    documents: int = 16 * MIB
    others: int = MIB // 4
    seconds: float = 60.0
    searches: int = os.cpu_count() or 1
    waiting: int = 1_000
    ingests: int = 16
    passages: int = 10_000


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


class BoundedOptions(SearchOptions):
    """How to find and score hits, within what a server does for anybody who asks."""

    k: int = Field(default=10, ge=1, le=MAX_K, description="How many hits, or groups.")
    offset: int = Field(
        default=0,
        ge=0,
        le=MAX_OFFSET,
        description="Hits, or groups, that are passed over, as on the next page; the pool that pages are of "
        "is the same for all.",
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
        f"are not scaled by the candidates. With `mmr` or `group_by` at most {MAX_POOL:,}.",
    )
    group_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_KEY,
        description="A metadata key, such as author.name; hits come in groups of those that have a value in "
        "common, k groups, the one with the best hit first.",
        examples=["section"],
    )
    group_size: int = Field(
        default=1,
        ge=1,
        le=MAX_K,
        description=f"Hits of a group at most; k times as many are at most {MAX_K:,}.",
    )

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if self.wanted > MAX_K:
            raise ValueError(
                f"k is {self.k} and group_size {self.group_size}; ask for {MAX_K:,} hits at most"
            )
        if self.candidates and self.candidates > MAX_POOL and (self.group_by or self.mmr is not None):
            raise ValueError(
                f"candidates is {self.candidates}; with mmr or group_by give {MAX_POOL:,} at most"
            )
        return self

    @property
    def wanted(self) -> int:
        """Hits that are asked for at most."""
        return self.k * (self.group_size if self.group_by else 1)


class SearchRequest(BoundedOptions):
    """A query, and how to find and score its hits."""

    query: _Query
    explain: bool = Field(
        default=False,
        description=f"Whether to say of each hit which words matched; of at most {MAX_EXPLAINED} hits.",
    )

    @model_validator(mode="after")
    def _not_too_many_explained(self) -> Self:
        if self.explain and self.wanted > MAX_EXPLAINED:
            raise ValueError(f"k is {self.k}, and the words of at most {MAX_EXPLAINED} hits are explained")
        return self


class BatchRequest(BoundedOptions):
    """Queries, and how to find and score the hits of each."""

    queries: list[_Query] = Field(
        min_length=1,
        max_length=MAX_QUERIES,
        description=f"At most {MAX_QUERIES}, which ask for {MAX_BATCH_HITS:,} hits together at most.",
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        le=MAX_POOL,
        description="How many passages each way of finding them finds for a query; by default 200, or 100 "
        "where scores are not scaled by the candidates.",
    )

    @model_validator(mode="after")
    def _not_too_many_together(self) -> Self:
        if (hits := self.wanted * len(self.queries)) > MAX_BATCH_HITS:
            raise ValueError(
                f"{len(self.queries)} queries ask for {hits:,} hits; ask for {MAX_BATCH_HITS:,} at most"
            )
        return self


class ExplainRequest(BoundedOptions):
    """A query, how it is searched, and a document."""

    query: _Query
    id: _Id = Field(description="The id of a document of the collection.", examples=["bees"])


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
