"""The named configurations: which tokens are kept, how they are compressed, where they are scored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from connector.codecs import Codec, parse_codec
from connector.errors import RecipeError
from connector.reduction import (
    Frequencies,
    QueryReduction,
    Reduction,
    Setting,
    parse_query_reduction,
    parse_reduction,
)

Layout = Literal["dense", "multivector", "codes"]
Datatype = Literal["float32", "float16", "turbo4"]


class Recipe(BaseModel):
    """One validated configuration.

    Args:
        name: how commands and collections call it.
        summary: one line for a person.
        source: where the method comes from.
        layout: "dense" stores the CLS vector alone; "multivector" stores tokens as rows of a Qdrant
            multivector, which any Qdrant client can score; "codes" stores them as bytes in the
            payload, which only this library scores.
        reduction: which token vectors of a passage are kept or merged, such as "ward-4" or
            "punctuation+idf-50%"; None keeps all.
        query_reduction: which tokens of a query are asked with and what they weigh, such as
            "idf-weight"; None asks with all alike.
        codec: a codec such as "pca-128+float16"; None in the dense layout.
        cls: stored type of the CLS vector. "turbo4" is Qdrant's own 4-bit rotated quantization, which
            old servers refuse.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    source: str = ""
    layout: Layout
    reduction: str | None = None
    query_reduction: str | None = None
    codec: str | None = None
    cls: Datatype = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.codec is None) != (self.layout == "dense"):
            raise ValueError(f"layout {self.layout} with codec {self.codec}: only dense goes without one")
        steps = self.reduction or self.query_reduction
        if self.codec is None and steps is not None:
            raise ValueError(f"layout dense stores no tokens, so there is nothing for {steps} to do")
        self.make_reduction()
        self.make_query_reduction()
        codec = None if self.codec is None else self.make_codec()
        if codec is not None and self.layout == "multivector" and not codec.server_scorable:
            raise ValueError(f"Qdrant cannot score {self.codec} as a multivector; use layout codes")
        return self

    def varied(self, **parts: str | None) -> Recipe:
        """This recipe with other parts, named after them: "compact:ward-4".

        Args:
            parts: fields such as `reduction`; None leaves a field as it is, "none" empties it.

        Raises:
            RecipeError: the parts do not go together.
        """
        given = {field: None if part == "none" else part for field, part in parts.items() if part is not None}
        if not given:
            return self
        name = ":".join([self.name, *(part for part in parts.values() if part is not None)])
        try:
            return Recipe(**{**self.model_dump(exclude={"summary", "source"}), **given, "name": name})
        except ValidationError as error:
            raise RecipeError(
                f"recipe {name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
            ) from None

    def same_as(self, other: Recipe) -> bool:
        """Whether both make and search the same points alike, whatever they are called."""
        words = {"name", "summary", "source"}
        return self.model_dump(exclude=words) == other.model_dump(exclude=words)

    def make_codec(self) -> Codec:
        """A new, unfitted codec.

        Raises:
            RecipeError: the recipe stores no tokens.
        """
        if self.codec is None:
            raise RecipeError(f"recipe {self.name} stores no tokens and has no codec")
        return parse_codec(self.codec)

    def make_reduction(self, setting: Setting | None = None) -> Reduction:
        """The reduction of passages; of no steps if there is none.

        Args:
            setting: what its steps may have to know.
        """
        return Reduction("", ()) if self.reduction is None else parse_reduction(self.reduction, setting)

    def make_query_reduction(self, frequencies: Frequencies | None = None) -> QueryReduction:
        """The reduction of queries; of no steps if there is none.

        Args:
            frequencies: how often the corpus has each token.
        """
        if self.query_reduction is None:
            return QueryReduction("", ())
        return parse_query_reduction(self.query_reduction, Setting(frequencies=frequencies or Frequencies()))


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="dense",
            summary="one CLS vector a passage, no tokens: the baseline",
            source="Reimers and Gurevych, Sentence-BERT, EMNLP 2019",
            layout="dense",
        ),
        Recipe(
            name="colbert",
            summary="every token at full width: the best quality, the most bytes",
            source="Khattab and Zaharia, ColBERT, SIGIR 2020",
            layout="multivector",
            codec="float16",
        ),
        Recipe(
            name="default",
            summary="tokens pooled by 6, half precision; Qdrant itself scores MaxSim",
            source="Clavié, Chaffin and Adams, Token Pooling, 2024",
            layout="multivector",
            reduction="ward-6",
            codec="pca-192+float16",
        ),
        Recipe(
            name="compact",
            summary="tokens pooled by 6, 192 dimensions, one bit each: about one dense vector in all",
            source="Clavié, Chaffin and Adams, Token Pooling, 2024; Charikar, STOC 2002",
            layout="codes",
            reduction="ward-6",
            codec="pca-192+binary",
            cls="turbo4",
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        RecipeError: no recipe has this name; the known ones are named.
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise RecipeError(f"recipe {name!r} is not known; the known ones: {', '.join(RECIPES)}") from None


def load_recipe(data: str) -> Recipe:
    """A recipe from its JSON.

    Raises:
        RecipeError: the text is not a valid recipe.
    """
    try:
        return Recipe.model_validate_json(data)
    except ValidationError as error:
        raise RecipeError(f"not a valid recipe: {error}") from error
