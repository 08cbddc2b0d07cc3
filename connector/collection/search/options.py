"""The options of a search, declared, checked and documented once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    WithJsonSchema,
)
from qdrant_client import models

from connector.collection.recipe import Recipe
from connector.core.arguments import invalid
from connector.core.errors import InputError, RecipeError
from connector.scoring.alignment import Alignment, TopK, TopP, parse_alignment
from connector.scoring.feedback import Feedback, parse_feedback
from connector.scoring.fusion import Fusion, parse_fusion
from connector.stores.schema import FDE, LEXICAL

Rerank = Literal["auto", "client", "server"]


CandidatesBy = Literal["dense", "lexical", "union", "hybrid", "hybrid-dbsf", "muvera"]


LongQuery = Literal["start", "end"]


_MOST = 2**63 - 1
"""Engines count in 64 bits."""


def _number(value: Any) -> Any:
    """A scalar of numpy's as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _real(value: Any) -> Any:
    value = _number(value)
    return float(value) if type(value) is int and abs(value) <= _MOST else value


_ALIGNMENT_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^\s*top-([0-9]+|[0-9]+(\.[0-9]+)?%)\s*$"},
        {"type": "null"},
    ]
}


def _alignment(value: Any) -> Any:
    return None if value is None else parse_alignment(value)


_TEXT_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def _fusion(value: Any) -> Any:
    return None if value is None else parse_fusion(value)


def _feedback(value: Any) -> Any:
    return value if value in (None, "none") else parse_feedback(value)


def _ids(value: Any) -> Any:
    if isinstance(value, list | set | frozenset | np.ndarray):
        return tuple(map(_number, value))
    if not isinstance(value, tuple):
        raise InputError(f'documents to compare with are {value!r:.80}; give a list of ids, such as ["1"]')
    return value


class SearchKeywords(TypedDict, total=False):
    """What `Connector.search` takes by name; `SearchOptions` says what each is."""

    filter: models.Filter | None
    rerank: Rerank | None
    candidates: int | None
    candidates_by: CandidatesBy | None
    fusion: str | Fusion | None
    feedback: str | Feedback | None
    like: Sequence[str]
    unlike: Sequence[str]
    search_again: bool
    alignment: str | Alignment | None
    offset: int
    min_similarity: float | None
    mmr: float | None
    group_by: str | None
    group_size: int
    long_query: LongQuery
    timeout: float | None


class SearchOptions(BaseModel):
    """How a collection is searched.

    Args:
        k: how many documents, at least 1.
        filter: conditions on metadata keys ("year", "author.name"), applied while candidates are found.
        rerank: "server": Qdrant scores MaxSim (layout multivector); "client": this process scores
            (multivector and codes); None: no token is scored, and what is left of the fusion orders the
            candidates, or how they were found; "auto": server where it can, else client, else None.
        candidates: passages that each way of finding them finds; None is 200 where scores are scaled by the
            candidates, else 100. They, and the scores, are the same for any k and offset; there are no more
            hits than documents among the candidates.
        candidates_by: what finds them. "dense": the CLS vectors; "lexical": BM25; "union": those that the
            CLS vectors find and those that BM25 finds; "hybrid": as many of both, fused by reciprocal ranks;
            "hybrid-dbsf": fused by the distributions of their scores; "muvera": fixed dimensional encodings
            of the tokens. None is "union" where words count in the score, else "dense". All but the first
            need a recipe with an index of words, `lexical`, or the last one with encodings, `fde`.
        fusion: how the scores of tokens, words and CLS vectors make one, such as
            "minmax:tokens=1,bm25=0.5,cls=0.5"; None: the collection's.
        feedback: what the first two hits add to the score of those that are like them, such as "codes=3";
            "none" for nothing; None: the collection's.
        like, unlike: ids of documents, such as hits that a reader has chosen or put away; what is like the
            first and not like the others comes first. They take the place of feedback.
        search_again: whether to look once more for candidates, by the CLS vectors of the first two hits: for
            those who read fifty hits.
        alignment: how tokens are scored: "top-1" (MaxSim over the number of query tokens), "top-4",
            "top-1.5%", …; None: the collection's.
        offset: hits that are passed over, so that `offset=10` gives the second page of ten; with `group_by`
            groups.
        min_similarity: hits have at least this similarity: the mean over the query's tokens, or, where none
            are scored, the inner product of the CLS vectors. `Hit.similarity` has it; `connector stats
            --scores` shows what values a collection's own queries give. −1 passes over nothing.
        mmr: makes hits unlike one another, by maximal marginal relevance: from 1, by score alone, to 0. They
            are compared by the means of their stored token vectors, where codes are read, else by their CLS
            vectors.
        group_by: a metadata key, such as "section"; hits come in groups that have a value of it in common, k
            groups, the one with the best hit first. Documents without a value are passed over; one with a
            list is in the group of each. Where the candidates do not fill the groups, more are found.
        group_size: hits of a group at most.
        long_query: what is encoded of a query that is longer than the model's window: its "start", or its
            "end", which is often the question, as in chat histories. Words are searched in all of it.
        timeout: seconds that all requests to a server may take together; None for as long as an ingest waits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    k: Annotated[int, BeforeValidator(_number)] = Field(
        default=10, ge=1, le=_MOST, description="Documents to find."
    )
    filter: InstanceOf[models.Filter] | None = Field(
        default=None, description='Conditions on metadata keys, such as "year" or "author.name".'
    )
    rerank: Rerank | None = Field(
        default="auto",
        description="What scores candidates: this process, Qdrant (MaxSim over multivectors), or nothing.",
    )
    candidates: Annotated[int | None, BeforeValidator(_number)] = Field(
        default=None,
        ge=1,
        le=_MOST,
        description="Passages that each way of finding them finds; by default 200 where scores are scaled by "
        "the candidates, else 100.",
    )
    candidates_by: CandidatesBy | None = Field(
        default=None,
        description="What finds them: CLS vectors, words (BM25), the union of both, both in one order by "
        "ranks or scores, or MUVERA; by default the union where words count in the score, else CLS vectors.",
    )
    fusion: Annotated[Fusion | None, BeforeValidator(_fusion), WithJsonSchema(_TEXT_SCHEMA)] = Field(
        default=None,
        description='How parts make the score, such as "minmax:tokens=1,bm25=0.5,cls=0.5"; by default the '
        "collection's.",
    )
    feedback: Annotated[
        Feedback | Literal["none"] | None, BeforeValidator(_feedback), WithJsonSchema(_TEXT_SCHEMA)
    ] = Field(
        default=None,
        description='What the first two hits add to what is like them, such as "codes=3", or "none"; by '
        "default the collection's.",
    )
    like: Annotated[tuple[str, ...], BeforeValidator(_ids)] = Field(
        default=(), description="Ids of documents that hits should be like."
    )
    unlike: Annotated[tuple[str, ...], BeforeValidator(_ids)] = Field(
        default=(), description="Ids of documents that hits should not be like."
    )
    search_again: bool = Field(
        default=False, description="Look once more for candidates, by the CLS vectors of the first two hits."
    )
    alignment: Annotated[
        TopK | TopP | None, BeforeValidator(_alignment), WithJsonSchema(_ALIGNMENT_SCHEMA)
    ] = Field(
        default=None,
        description='How tokens are scored: "top-1" (MaxSim), "top-4", "top-1.5%", …; by default the '
        "collection's.",
    )

    offset: Annotated[int, BeforeValidator(_number)] = Field(
        default=0, ge=0, le=_MOST, description="Hits, or groups, that are passed over, as on the next page."
    )
    min_similarity: Annotated[float | None, BeforeValidator(_real)] = Field(
        default=None,
        ge=-1,
        le=1,
        description="Least mean similarity of a query token, or of CLS vectors where no tokens are scored.",
    )
    mmr: Annotated[float | None, BeforeValidator(_real)] = Field(
        default=None,
        ge=0,
        le=1,
        description="Make hits unlike one another: 1 orders them by score alone, 0 by difference alone.",
    )
    group_by: str | None = Field(
        default=None,
        min_length=1,
        description="A metadata key; k groups of hits that have a value in common.",
    )
    group_size: Annotated[int, BeforeValidator(_number)] = Field(
        default=1, ge=1, le=_MOST, description="Hits of a group at most."
    )
    long_query: LongQuery = Field(
        default="start", description="What is encoded of a query that is longer than the model's window."
    )

    timeout: Annotated[float | None, BeforeValidator(_real)] = Field(
        default=10.0,
        ge=0.01,
        le=86_400,
        description="Seconds that all requests to a server may take together.",
    )

    @property
    def needs(self) -> str | None:
        """The vector without which candidates cannot be found so, beside the CLS vectors."""
        found_by: dict[CandidatesBy | None, str | None] = {None: None, "dense": None, "muvera": FDE}
        return found_by.get(self.candidates_by, LEXICAL)

    def check(self, recipe: Recipe) -> None:
        """Raises RecipeError unless collections of this recipe can be searched so."""
        if self.needs == FDE and recipe.fde is None:
            raise RecipeError(
                f"recipe {recipe.name} stores no encoding to find candidates by (muvera); ingest into "
                'another collection whose recipe has fde="muvera" (--fde muvera)'
            )
        if self.needs == LEXICAL and recipe.lexical is None:
            raise RecipeError(
                f"recipe {recipe.name} has no index of words to find candidates by ({self.candidates_by}); "
                "ingest into another collection whose recipe has it, such as lexical='english' "
                "(--lexical english)"
            )
        if self.fusion is not None and self.fusion.bm25 and recipe.lexical is None:
            raise RecipeError(
                f"recipe {recipe.name} has no index of words for fusion {self.fusion.spec}; leave bm25 out, "
                "or ingest into another collection whose recipe has it, such as lexical='english' "
                "(--lexical english)"
            )
        if self.fusion is not None and self.fusion.tokens and recipe.layout == "dense":
            raise RecipeError(
                f"recipe {recipe.name} stores no tokens for fusion {self.fusion.spec}; leave tokens out"
            )
        if isinstance(self.feedback, Feedback) and self.feedback.codes and recipe.layout != "codes":
            raise RecipeError(
                f"recipe {recipe.name} has layout {recipe.layout}, without codes for feedback "
                f"{self.feedback.spec}; give it by cls, such as cls=1"
            )
        if both := set(self.like) & set(self.unlike):
            raise InputError(f"document {min(both)!r} is both liked and disliked; leave it out of one")
        if recipe.layout == "dense" and self.alignment is not None:
            raise RecipeError(f"recipe {recipe.name} stores no tokens to align; leave alignment out")


def search_options(**keywords: Any) -> SearchOptions:
    """The options that are given, and the defaults of the others.

    Raises:
        InputError: an option is out of its range or of another type.
        TypeError: there is no such option.
    """
    unknown = [name for name in keywords if name not in SearchOptions.model_fields]
    if unknown:
        known = ", ".join(SearchOptions.model_fields)
        raise TypeError(f"a search has no option {unknown[0]!r}; it has {known}")
    try:
        return SearchOptions(**keywords)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise invalid(name, keywords[name], error) from None
