"""The options of a search, declared, checked and documented once."""

from __future__ import annotations

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
from connector.core.errors import RecipeError
from connector.scoring.alignment import Alignment, TopK, TopP, parse_alignment
from connector.stores.schema import FDE, LEXICAL

Rerank = Literal["auto", "client", "server"]


CandidatesBy = Literal["dense", "lexical", "hybrid", "hybrid-dbsf", "muvera"]


def _number(value: Any) -> Any:
    """A scalar of numpy's as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


_ALIGNMENT_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^\s*top-([0-9]+|[0-9]+(\.[0-9]+)?%)\s*$"},
        {"type": "null"},
    ]
}


def _alignment(value: Any) -> Any:
    return None if value is None else parse_alignment(value)


class SearchKeywords(TypedDict, total=False):
    """What `Connector.search` takes by name; `SearchOptions` says what each is."""

    filter: models.Filter | None
    rerank: Rerank | None
    candidates: int
    candidates_by: CandidatesBy
    cls_weight: float | None
    alignment: str | Alignment | None


class SearchOptions(BaseModel):
    """How a collection is searched.

    Args:
        k: how many documents, at least 1.
        filter: conditions on metadata keys ("year", "author.name"), applied while candidates are found.
        rerank: "server": Qdrant scores MaxSim (layout multivector); "client": this process scores
            (multivector and codes); None: candidates keep the order in which they were found; "auto":
            server where it can, else client, else None.
        candidates: passages found and reranked; at least k are.
        candidates_by: what finds them. "dense": the CLS vectors; "lexical": BM25; "hybrid": both, fused by
            reciprocal ranks; "hybrid-dbsf": both, fused by the distributions of their scores; "muvera": fixed
            dimensional encodings of the tokens. All but the first need a recipe with an index of words,
            `lexical`, or the last one with encodings, `fde`.
        cls_weight: w of the score w·CLS + (1 − w)·tokens, from 0 to 1; None: the collection's, what it was
            adapted to or its model was trained with, which for most is tokens alone. Only the client mixes.
        alignment: how tokens are scored: "top-1" (MaxSim over the number of query tokens), "top-4",
            "top-1.5%", …; None: the collection's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    k: Annotated[int, BeforeValidator(_number)] = Field(default=10, ge=1, description="Documents to find.")
    filter: InstanceOf[models.Filter] | None = Field(
        default=None, description='Conditions on metadata keys, such as "year" or "author.name".'
    )
    rerank: Rerank | None = Field(
        default="auto",
        description="What scores candidates: this process, Qdrant (MaxSim over multivectors), or nothing.",
    )
    candidates: Annotated[int, BeforeValidator(_number)] = Field(
        default=100, ge=1, description="Passages to find and rerank; at least as many as hits."
    )
    candidates_by: CandidatesBy = Field(
        default="dense",
        description="What finds them: CLS vectors, words (BM25), both (fused by ranks or scores) or MUVERA.",
    )
    cls_weight: Annotated[float | None, BeforeValidator(_number)] = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="w of the score w·CLS + (1 − w)·tokens; by default the collection's.",
    )
    alignment: Annotated[
        TopK | TopP | None, BeforeValidator(_alignment), WithJsonSchema(_ALIGNMENT_SCHEMA)
    ] = Field(
        default=None,
        description='How tokens are scored: "top-1" (MaxSim), "top-4", "top-1.5%", …; by default the '
        "collection's.",
    )

    @property
    def needs(self) -> str | None:
        """The vector without which candidates cannot be found so, beside the CLS vectors."""
        return {"dense": None, "muvera": FDE}.get(self.candidates_by, LEXICAL)

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
        if recipe.layout == "dense" and self.cls_weight is not None:
            raise RecipeError(f"recipe {recipe.name} stores no tokens to mix with CLS; leave cls_weight out")
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
