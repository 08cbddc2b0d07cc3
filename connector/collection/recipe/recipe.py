"""A configuration: which tokens are kept, how they are compressed, where and how they are scored."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connector.compression.codecs import Codec, parse_codec
from connector.compression.codecs.scalar_quantization import TURBO, Datatype
from connector.compression.heads import OWN, head_folder, shipped_for
from connector.compression.reduction import (
    Frequencies,
    QueryReduction,
    QueryRows,
    QueryWeights,
    Reduction,
    Setting,
    parse_query_reduction,
    parse_reduction,
)
from connector.compression.reduction.base import Need
from connector.compression.reduction.query_weighting import without_idf_step
from connector.core.errors import RecipeError, first_problem, one_line
from connector.scoring.alignment import Alignment, TopK, parse_alignment
from connector.scoring.bm25 import BM25
from connector.scoring.feedback import parse_feedback
from connector.scoring.fusion import parse_fusion
from connector.scoring.strategy import Strategy, weighted
from connector.stores.schema import Layout, Quantization

_OF_TOKENS = (
    "reduction",
    "query_rows",
    "query_reduction",
    "query_weights",
    "alignment",
    "saliency",
    "length_penalty",
    "fde",
)
"""Fields that say nothing where no tokens are stored."""


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
        query_rows: which rows of a query there are: "own" leaves special tokens, the prompt, markers and
            expansion out, "all" takes what the encoder makes; "auto" is "all" for encoders that were trained
            as late interaction, else "own". A query that has nothing of its own asks with all.
        query_reduction: which of them are asked with, such as "icf-8"; None asks with each.
        query_weights: what those weigh: "1" all alike, "idf" by the inverse document frequency of the token
            in the collection, "sqrt-idf" by the root of that (Archish, Garg, Shiragur and Kayal,
            Incorporating Token Importance in Multi-Vector Retrieval, 2025).
        codec: a codec such as "pca-128+float16"; None in the dense layout.
        head: the trained head that a codec with "linear-D" and saliency take over when the codec is fitted: a
            folder, the name of a head that comes with this library, or "own": the one that comes for the
            collection's model. A model without one gets "pca-D" in place of "linear-D".
        alignment: over which tokens of a passage each query token spreads, such as "top-4"; None is MaxSim.
        saliency: whether tokens weigh what the head, or the encoder's checkpoint, finds them worth; it takes
            a byte a token in layout codes, and is the vectors' length in layout multivector.
        cls: stored type of the CLS vector. "turbo4" and "turbo8" are Qdrant's own rotated quantization to 4
            and 8 bits, which old servers refuse.
        quantization: of the multivector layout: a smaller copy of the tokens that Qdrant keeps in memory
            and scores by. The vectors stay, on disk, and the best passages are scored again by them.
        oversampling: with quantization, how many times k passages are scored again.
        lexical: language of an index of words (BM25), such as "english"; None for no index. Candidates may
            then come by words, too.
        length_penalty: a of the score of a passage's tokens, their mean similarity less a · ln(stored rows):
            longer passages have more rows to be alike by.
        fusion: how the scores of tokens, words and the CLS vector make one, such as
            "minmax:tokens=1,bm25=0.5,cls=0.5"; None is tokens alone, or what the model was trained with.
        feedback: what the first two hits of a query add to the score of passages like them, such as
            "codes=3"; None for nothing.
        fde: "muvera" stores a fixed dimensional encoding of the tokens beside the CLS vector, by which
            candidates may come, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    source: str = ""
    layout: Layout
    reduction: str | None = None
    query_rows: QueryRows = "all"
    query_reduction: str | None = None
    query_weights: QueryWeights = "1"
    codec: str | None = None
    head: str | None = None
    alignment: str | None = None
    saliency: bool = False
    cls: Datatype = "float32"
    quantization: Quantization | None = None
    oversampling: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    lexical: str | None = None
    length_penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    fusion: str | None = None
    feedback: str | None = None
    fde: Literal["muvera"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_old(cls, data: Any) -> Any:
        return without_idf_step(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.codec is None) != (self.layout == "dense"):
            raise ValueError(
                f"layout {self.layout} with codec {self.codec}: tokens need a codec, and only the layout of "
                "recipe dense, which stores none, goes without one"
            )
        for field in _OF_TOKENS:
            default = type(self).model_fields[field].default
            if self.layout == "dense" and (part := getattr(self, field)) != default:
                raise ValueError(
                    f"layout dense stores no tokens, so there is nothing for {field} {part} to do"
                )
        _ = self.needs  # reads both reductions
        datatype = None if self.codec is None else self.make_codec().datatype
        if self.layout == "multivector" and datatype is None:
            raise ValueError(
                f"Qdrant cannot score {self.codec} as a multivector; use layout codes, as recipe default does"
            )
        if self.layout == "codes" and datatype in TURBO:
            raise ValueError(
                f"only Qdrant can make {self.codec}; use layout multivector, as recipe colbert does"
            )
        if self.quantization is not None and self.layout != "multivector":
            raise ValueError(
                f"Qdrant has no tokens to quantize in layout {self.layout}; use that of recipe colbert"
            )
        if self._projects and self.head is None:
            raise ValueError(
                f"codec {self.codec} takes its layer from a head; give one (--head DIR), or pca-D"
            )
        if self.head not in (None, OWN) and not self._projects and not self.salient:
            raise ValueError(
                f"codec {self.codec} with head {self.head!r}: only codecs with linear-D and saliency take one"
            )
        if self.saliency and datatype in TURBO:
            raise ValueError(f"{self.codec} loses the vectors' lengths, which are the saliency; use float16")
        if self.alignment is not None:
            parse_alignment(self.alignment)
        if self.lexical is not None:
            BM25(self.lexical)
        if self.fusion is not None and parse_fusion(self.fusion).tokens and self.layout == "dense":
            raise ValueError(f"layout dense stores no tokens for fusion {self.fusion}; leave tokens out")
        if self.feedback is not None and parse_feedback(self.feedback).codes and self.layout != "codes":
            raise ValueError(
                f"layout {self.layout} has no codes for feedback {self.feedback}; give cls, such as cls=1"
            )
        return self

    def varied(self, **parts: str | bool | None) -> Recipe:
        """This recipe with other parts, named after them: "default:ward-6".

        Args:
            parts: fields such as `reduction`; None leaves a field as it is, "none" empties it.

        Raises:
            RecipeError: the parts do not go together.
        """
        given = {field: None if part == "none" else part for field, part in parts.items() if part is not None}
        if not given:
            return self
        head = given.get("head")
        if isinstance(head, str) and Path(head).is_dir():  # of which there are many spellings
            given["head"] = str(Path(head).resolve())
        words = [  # a head is a folder
            field if part is True else PurePath(str(part)).name
            for field, part in parts.items()
            if part is not None
        ]
        name = ":".join([self.name, *words])
        try:
            return Recipe(**{**self.model_dump(exclude={"summary", "source"}), **given, "name": name})
        except ValidationError as error:
            raise RecipeError(f"recipe {name}: {first_problem(error)}") from None

    @property
    def _projects(self) -> bool:
        """Whether the codec has a trained layer."""
        return any(part.startswith("linear-") for part in (self.codec or "").split("+"))

    @cached_property
    def needs(self) -> frozenset[Need]:
        """What passages and queries are made with beside vectors and ids."""
        return self.make_reduction().needs | self.query_needs

    @property
    def query_needs(self) -> frozenset[Need]:
        """What queries are made with beside vectors and ids."""
        weighed: frozenset[Need] = frozenset() if self.query_weights == "1" else frozenset({"frequencies"})
        return self.make_query_reduction().needs | weighed

    @property
    def salient(self) -> bool:
        """Whether anything asks how salient tokens are."""
        return self.saliency or "saliency" in self.needs

    def with_rows(self, late_interaction: bool) -> Recipe:
        """The recipe with the rows of a query that "auto" stands for, by how the encoder was trained."""
        if self.query_rows != "auto":
            return self
        return self.model_copy(update={"query_rows": "all" if late_interaction else "own"})

    def for_model(self, fingerprint: str, late_interaction: bool = False) -> Recipe:
        """The recipe for the encoder with this fingerprint, trained as late interaction or not: its own head,
        if any, in place of "own", and the rows of a query in place of "auto".

        Raises:
            RecipeError: the recipe weighs tokens, and no head comes for this model.
        """
        return self.with_rows(late_interaction)._with_head(fingerprint)

    def _with_head(self, fingerprint: str) -> Recipe:
        if self.head != OWN:
            return self
        if not self._projects and not self.salient:
            return self.model_copy(update={"head": None})
        name = shipped_for(fingerprint)
        if name is not None:
            return self.model_copy(update={"head": name})
        if self.salient:
            raise RecipeError(
                f"recipe {self.name} weighs tokens by a trained head, and none comes with this library for "
                "the model; train one with connector train saliency, and give it with --head DIR"
            )
        codec = (self.codec or "").replace("linear-", "pca-")
        return self.model_copy(update={"head": None, "codec": codec})

    def same_as(self, other: Recipe) -> bool:
        """Whether both make and search the same points alike, whatever they are called."""
        return not self.differences(other)

    def differences(self, other: Recipe) -> list[str]:
        """What this recipe has and the other one in its place, such as "codec binary, not int8"."""
        words = {"name", "summary", "source"}
        own, theirs = self.model_dump(exclude=words), other.model_dump(exclude=words)
        return [f"{field} {own[field]}, not {theirs[field]}" for field in own if own[field] != theirs[field]]

    def strategy(self, cls_weight: float | None = None) -> Strategy:
        """How candidates are scored.

        Args:
            cls_weight: the CLS vectors' share that the model was trained with, where no fusion is said.
        """
        alignment: Alignment | None = TopK(1) if self.saliency else None
        if self.alignment is not None:
            alignment = parse_alignment(self.alignment)
        fusion = weighted(1.0 if self.layout == "dense" else cls_weight)
        return Strategy(
            alignment,
            fusion if self.fusion is None else parse_fusion(self.fusion),
            None if self.feedback is None else parse_feedback(self.feedback),
        )

    def make_codec(self) -> Codec:
        """A new, unfitted codec.

        Raises:
            RecipeError: the recipe stores no tokens.
        """
        if self.codec is None:
            raise RecipeError(f"recipe {self.name} stores no tokens and has no codec")
        folder = None if self.head is None else head_folder(self.head)
        return parse_codec(self.codec, folder, self.salient)

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


def load_recipe(data: str) -> Recipe:
    """A recipe from its JSON.

    Raises:
        RecipeError: the text is not a valid recipe.
    """
    try:
        return Recipe.model_validate_json(data)
    except ValidationError as error:
        said = one_line(first_problem(error))
        raise RecipeError(f"not a valid recipe: {said}; restore it, or make it with this version") from error
