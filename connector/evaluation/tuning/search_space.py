"""What is tried: reductions, codecs and alignments, each a ladder on which neighbours are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from connector.collection.recipe import Recipe
from connector.compression.codecs.scalar_quantization import Datatype
from connector.compression.heads import OWN, head_folder, shipped_for
from connector.compression.reduction import QueryRows, QueryWeights
from connector.core.errors import MissingExtra, RecipeError
from connector.encoders import Encoder

CLS: Datatype = "turbo4"
"""Stored type of the CLS vectors: 4 bits a dimension find the same candidates."""


POOLING = {"": 1.0} | {f"ward-{factor}": 1 / factor for factor in (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)}
"""Reductions, most rows first, and what share of the rows is left. All tokens count alike, as in recipe
compact."""


PRUNING = {f"saliency-{share}%": share / 100 for share in (70, 50, 35, 25)}
"""Likewise; what is left counts by what a head finds it worth, as in the recipe aligner."""


CODECS = (
    "linear-32+binary",
    "linear-64+binary",
    "linear-128+pca-96+binary",
    "linear-128+binary",
    "linear-128+residual-1",
    "pca-192+binary",
    "pca-256+binary",
    "linear-128+residual-2",
    "binary",
    "residual-2",
    "linear-128+int8",
    "linear-128+float16",
    "float16",
)
"""Few bytes a token first."""


ALIGNMENTS = (None, "top-2", "top-4", "top-8")
"""None is MaxSim; few passage tokens for each query token first."""


FIRST = ("", "punctuation+")
"""What is dropped before all else."""


ROWS: tuple[QueryRows, ...] = ("all", "own")
"""Which rows of a query are asked with."""


WEIGHTS: tuple[QueryWeights, ...] = ("1", "sqrt-idf", "idf")
"""What they weigh."""


_COARSE = ("", "ward-2", "ward-4", "ward-6", "ward-10", "saliency-50%")
"""Reductions to begin with."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination.

    Args:
        reduction: of `POOLING` or `PRUNING`.
        codec, alignment, first, rows, weights: of `CODECS`, `ALIGNMENTS`, `FIRST`, `ROWS` and `WEIGHTS`.
    """

    reduction: str
    codec: str
    alignment: str | None = None
    first: str = ""
    rows: QueryRows = "all"
    weights: QueryWeights = "1"

    def recipe(self, head: str) -> Recipe:
        """The recipe of this combination: codes, with CLS vectors of 4 bits a dimension."""
        asked = [self.rows if self.rows != "all" else "", self.weights if self.weights != "1" else ""]
        parts = [self.steps, self.codec, self.alignment, *asked]
        return Recipe(
            name=":".join(part for part in parts if part),
            source="connector tune",
            layout="codes",
            reduction=self.steps or None,
            query_rows=self.rows,
            query_weights=self.weights,
            codec=self.codec,
            head=head if self.prunes or "linear" in self.codec else None,
            alignment=self.alignment or ("top-1" if self.prunes else None),
            saliency=self.prunes,
            cls=CLS,
        )

    @property
    def prunes(self) -> bool:
        """Whether tokens are dropped by what a head finds them worth."""
        return self.reduction in PRUNING

    @property
    def steps(self) -> str:
        """The reduction; "" keeps all tokens."""
        return (self.first + self.reduction).removesuffix("+")

    @property
    def share(self) -> float:
        """About what share of the tokens is left."""
        return (POOLING | PRUNING)[self.reduction]

    def neighbours(self) -> Iterator[Point]:
        """One step away on one ladder."""
        ladders: dict[str, Sequence[Any]] = {
            "reduction": list(PRUNING if self.prunes else POOLING),
            "codec": CODECS,
            "alignment": ALIGNMENTS,
            "first": FIRST,
            "rows": ROWS,
            "weights": WEIGHTS,
        }
        for field, ladder in ladders.items():
            place = ladder.index(getattr(self, field))
            for step in (*ladder[max(place - 1, 0) : place], *ladder[place + 1 : place + 2]):
                yield replace(self, **{field: step})


def coarse() -> list[Point]:
    """What is tried first: few reductions and alignments, all codecs; nothing dropped first, none weighed."""
    return [
        Point(reduction, codec, alignment)
        for reduction in _COARSE
        for codec in CODECS
        for alignment in ALIGNMENTS[:2]
    ]


def around(points: Iterable[Point]) -> list[Point]:
    """All neighbours of these points, each once."""
    return list(dict.fromkeys(near for point in points for near in point.neighbours()))


def usable(recipe: Recipe, encoder: Encoder) -> Recipe | str:
    """The recipe for an encoder, or what cannot be tried with it, and why."""
    if recipe.salient and recipe.head == OWN and shipped_for(encoder.fingerprint) is None:
        return "saliency-K, as no head comes for the model; train one, and give it with --head"
    try:
        chosen = recipe.for_model(encoder.fingerprint, encoder.late_interaction)
        chosen.make_codec().check(encoder.token_width)
    except (RecipeError, MissingExtra) as error:
        return f"{recipe.codec}: {error}"
    return chosen


def check_head(head: str, encoder: Encoder) -> None:
    """Raises RecipeError where nothing can be done with a head and this encoder."""
    if head == OWN:
        return
    found = [usable(point.recipe(head), encoder) for point in coarse() if point.recipe(head).head]
    if all(isinstance(it, str) for it in found):
        raise RecipeError(f"head {head}: {found[0]}")


def digest_of(head: str, encoder: Encoder) -> str:
    """16 hexadecimal digits over the arrays of a head, "" if there is none; a folder may be trained again."""
    name = shipped_for(encoder.fingerprint) if head == OWN else head
    if name is None:
        return ""
    files = sorted(Path(head_folder(name)).rglob("*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
