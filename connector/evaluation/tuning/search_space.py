"""What is tried: reductions, codecs and alignments, each a ladder on which neighbours are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from connector.collection.recipe import Recipe
from connector.compression.codecs.base import Datatype
from connector.compression.heads import OWN, head_folder, shipped_for
from connector.core.errors import MissingExtra, RecipeError
from connector.encoders import Encoder

CLS: Datatype = "turbo4"
"""Stored type of the CLS vectors: 4 bits a dimension find the same candidates."""


LADDERS = {
    "pooling": {"": 1.0} | {f"ward-{factor}": 1 / factor for factor in (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)},
    "pruning": {f"saliency-{share}%": share / 100 for share in (70, 50, 35, 25)},
}
"""Reductions, most rows first, and what share of the rows is left. Pooled tokens count alike, and pruned ones
by what a head finds them worth, as in the recipes compact and aligner."""


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


WEIGHTS = (None, "idf-weight")
"""What query tokens weigh; None weighs all alike."""


_COARSE = ({"", "ward-2", "ward-4", "ward-6", "ward-10", "saliency-50%"}, {None, "top-2"})
"""Reductions and alignments to begin with, with all codecs; nothing is dropped first, and nothing weighed."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination, by its places on the ladders.

    Args:
        ladder: of reductions, a key of `LADDERS`.
        reduction, codec, alignment, first, weights: places on the ladder, in `CODECS`, `ALIGNMENTS`, `FIRST`
            and `WEIGHTS`.
    """

    ladder: str
    reduction: int
    codec: int
    alignment: int
    first: int = 0
    weights: int = 0

    def recipe(self, head: str) -> Recipe:
        """The recipe of this combination: codes, with CLS vectors of 4 bits a dimension."""
        prunes = self.ladder == "pruning"
        alignment, weights = ALIGNMENTS[self.alignment], WEIGHTS[self.weights]
        codec = CODECS[self.codec]
        trained = prunes or "linear" in codec
        parts = [self.steps, codec, alignment, weights]
        return Recipe(
            name=":".join(part for part in parts if part),
            source="connector tune",
            layout="codes",
            reduction=self.steps or None,
            query_reduction=weights,
            codec=codec,
            head=head if trained else None,
            alignment=alignment or ("top-1" if prunes else None),
            saliency=prunes,
            cls=CLS,
        )

    @property
    def steps(self) -> str:
        """The reduction; "" keeps all tokens."""
        return (FIRST[self.first] + self._step).removesuffix("+")

    @property
    def _step(self) -> str:
        return list(LADDERS[self.ladder])[self.reduction]

    @property
    def share(self) -> float:
        """About what share of the tokens is left."""
        return LADDERS[self.ladder][self._step]

    def neighbours(self) -> Iterator[Point]:
        """One step away on one ladder."""
        sizes = {
            "reduction": len(LADDERS[self.ladder]),
            "codec": len(CODECS),
            "alignment": len(ALIGNMENTS),
            "first": len(FIRST),
            "weights": len(WEIGHTS),
        }
        for field, size in sizes.items():
            for place in (getattr(self, field) - 1, getattr(self, field) + 1):
                if 0 <= place < size:
                    yield replace(self, **{field: place})


def coarse() -> list[Point]:
    """What is tried first: few reductions and alignments, all codecs."""
    reductions, alignments = _COARSE
    return [
        Point(ladder, reduction, codec, alignment)
        for ladder, steps in LADDERS.items()
        for reduction, step in enumerate(steps)
        if step in reductions
        for codec in range(len(CODECS))
        for alignment, name in enumerate(ALIGNMENTS)
        if name in alignments
    ]


def usable(recipe: Recipe, encoder: Encoder) -> Recipe | str:
    """The recipe for an encoder, or what cannot be tried with it, and why."""
    if recipe.salient and recipe.head == OWN and shipped_for(encoder.fingerprint) is None:
        return "saliency-K, as no head comes for the model; train one, and give it with --head"
    try:
        chosen = recipe.for_model(encoder.fingerprint)
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
    found = hashlib.sha256()
    for file in sorted(Path(head_folder(name)).rglob("*.safetensors")):
        found.update(file.read_bytes())
    return found.hexdigest()[:16]


def around(points: Iterable[Point]) -> list[Point]:
    """All neighbours of these points, each once."""
    return list(dict.fromkeys(near for point in points for near in point.neighbours()))
