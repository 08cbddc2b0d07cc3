"""What is tried: reductions, codecs and ways to score, each a ladder on which neighbours are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from connector.collection.recipe import RECIPES, Recipe
from connector.compression.heads import OWN, head_folder, shipped_for
from connector.compression.reduction import QueryWeights
from connector.core.errors import MissingExtra, RecipeError
from connector.encoders import Encoder
from connector.scoring.feedback import parse_feedback
from connector.scoring.fusion import Fusion, parse_fusion

DEFAULT = RECIPES["default"]
"""What no ladder changes is as here: the words' language, the penalty of lengths, the CLS vectors' type."""


_FUSION = parse_fusion(DEFAULT.fusion or "")


POOLING = {"special": 1.0} | {f"special+ward-{factor}": 1 / factor for factor in (2, 3, 4, 5, 6, 8, 10)}
"""Reductions, most rows first, and what share of the rows is left. All tokens count alike."""


PRUNING = {f"saliency-{share}%": share / 100 for share in (70, 50, 35, 25)}
"""Likewise; what is left counts by what a head finds it worth, as in the recipe aligner."""


CODECS = (
    "center+pca-64+binary",
    "center+pca-96+binary",
    "center+pca-128+binary",
    "center+pca-192+binary",
    "center+pca-256+binary",
    "center+pca-128+residual-2",
    "center+binary",
    "center+pca-128+int8",
    "center+float16",
)
"""Few bytes a token first."""


TRAINED = (
    "linear-32+binary",
    "linear-64+binary",
    "linear-128+binary",
    "linear-128+residual-2",
    "linear-128+int8",
)
"""Likewise, where a head is given."""


ALIGNMENTS = (None, "top-2")
"""None is MaxSim."""


WEIGHTS: tuple[QueryWeights, ...] = ("1", "sqrt-idf", "idf")
"""What rows of a query weigh."""


WORDS, CLS = (0.25, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0)
"""Weights of words and of CLS vectors, beside tokens with weight 1."""


FEEDBACK = (None, "codes=1", "codes=3", "codes=5")
"""What the first hits add."""


_COARSE = ("special", "special+ward-2", "special+ward-4", "special+ward-6", "special+ward-10", "saliency-50%")
"""Reductions to begin with."""


_ASKED = {
    "query_rows": None,
    "query_weights": "weights",
    "fusion": "fusion",
    "feedback": "feedback",
}
"""Parts of a recipe that can be given, and the ladder that each takes away."""


@dataclass(frozen=True, slots=True)
class Point:
    """One combination.

    Args:
        reduction: of `POOLING` or `PRUNING`.
        codec, alignment, weights, feedback: of `CODECS` or `TRAINED`, `ALIGNMENTS`, `WEIGHTS`, `FEEDBACK`.
        fusion: of parts with weights of `WORDS` and `CLS`.
    """

    reduction: str
    codec: str
    alignment: str | None = None
    weights: QueryWeights = DEFAULT.query_weights
    fusion: Fusion = _FUSION
    feedback: str | None = DEFAULT.feedback

    @property
    def prunes(self) -> bool:
        """Whether tokens are dropped by what a head finds them worth."""
        return self.reduction in PRUNING

    @property
    def trained(self) -> bool:
        """Whether the codec has a trained layer."""
        return self.codec in TRAINED

    @property
    def share(self) -> float:
        """About what share of the tokens is left."""
        return (POOLING | PRUNING)[self.reduction]

    def differences(self, start: Point) -> list[str]:
        """How this asks otherwise than another one."""
        own, theirs = self.fusion.weights, start.fusion.weights
        parts = [f"{name}={own.get(name, 0):g}" for name in own | theirs if own.get(name) != theirs.get(name)]
        if self.weights != start.weights:
            parts.append(f"weights={self.weights}")
        if self.feedback != start.feedback:
            parts.append(self.feedback or "feedback=none")
        return parts


class Space:
    """The combinations that are tried for a task.

    Args:
        width: of the encoder's tokens; no codec widens them.
        head: of codecs with trained layers; "own" is the one that comes for the model. None tries no such
            codec, and prunes by the model's own.
        judged: whether queries are judged. Else recipes are compared with floats that ask in one way, and
            no other is tried.
        asked: parts that all recipes have in place of what is tried: query_rows, query_weights, fusion or
            feedback, which may be "none".

    Raises:
        RecipeError: the parts are none, or do not go together.
    """

    def __init__(
        self,
        width: int,
        head: str | None = None,
        judged: bool = True,
        asked: Mapping[str, str | None] | None = None,
    ) -> None:
        given = {field: part for field, part in (asked or {}).items() if part is not None}
        if unknown := [field for field in given if field not in _ASKED]:
            raise RecipeError(f"{unknown[0]} cannot be given to all recipes; give {', '.join(_ASKED)}")
        self._base, self._head = DEFAULT.varied(**given), head
        fusion = parse_fusion(self._base.fusion or "")
        if not fusion.tokens:
            raise RecipeError(
                f"fusion {fusion.spec} leaves tokens out, and recipes differ in them; give them a weight"
            )
        if not fusion.bm25:
            self._base = self._base.varied(lexical="none")
        fixed = {_ASKED[field] for field in given} | (set() if judged else set(_ASKED.values()))
        narrower = [it for it in CODECS if not it.endswith("+binary") or _width(it) < width]
        ladders: dict[str, Sequence[Any]] = {
            "codec": narrower if head is None else [*TRAINED, *narrower],
            "alignment": ALIGNMENTS,
            "weights": WEIGHTS,
            "feedback": FEEDBACK,
        }
        self._ladders = {field: ladder for field, ladder in ladders.items() if field not in fixed}
        self._fuses = "fusion" not in fixed
        feedback = self._base.feedback
        self._start = Point(
            "special",
            "center+float16",
            weights=self._base.query_weights,
            fusion=fusion,
            feedback=None if feedback is None else parse_feedback(feedback).spec,
        )

    @property
    def floats(self) -> Recipe:
        """Every token at full width, asked as all recipes are at first: what there is to find.

        16 bits a number order passages as 32 do, in half of the memory.
        """
        return self.recipe(self._start).model_copy(
            update={"name": "floats", "summary": "every token at full width", "reduction": None}
        )

    def coarse(self) -> list[Point]:
        """What is tried first: few reductions and all codecs, beside a head's every other; one way to ask."""
        codecs = self._ladders["codec"]
        if self._head is not None:
            codecs = [*TRAINED, *codecs[len(TRAINED) :: 2]]
        return [
            replace(self._start, reduction=reduction, codec=codec)
            for reduction in _COARSE
            for codec in codecs
        ]

    def around(self, points: Iterable[Point]) -> list[Point]:
        """All neighbours of these points, each once."""
        return list(dict.fromkeys(near for point in points for near in self.neighbours(point)))

    def neighbours(self, point: Point) -> Iterator[Point]:
        """One step away on one ladder."""
        ladders = {"reduction": list(PRUNING if point.prunes else POOLING), **self._ladders}
        for field, ladder in ladders.items():
            for near in _beside(getattr(point, field), ladder):
                yield replace(point, **{field: near})
        if self._fuses:
            for bm25 in _beside(point.fusion.bm25, WORDS):
                yield replace(point, fusion=replace(point.fusion, bm25=bm25))
            for cls in _beside(point.fusion.cls, CLS):
                yield replace(point, fusion=replace(point.fusion, cls=cls))

    def recipe(self, point: Point) -> Recipe:
        """The recipe of a combination."""
        parts = [point.reduction, point.codec, point.alignment, *point.differences(self._start)]
        needed = point.prunes or point.trained
        return Recipe(
            **self._base.model_dump(exclude=set(_TRIED)),
            name=":".join(part for part in parts if part),
            source="connector tune",
            reduction=point.reduction,
            query_weights=point.weights,
            codec=point.codec,
            head=(self._head or OWN) if needed else None,
            alignment=point.alignment or ("top-1" if point.prunes else None),
            saliency=point.prunes,
            fusion=point.fusion.spec,
            feedback=point.feedback,
        )

    def check_head(self, encoder: Encoder) -> None:
        """Raises RecipeError where nothing can be done with the head and this encoder."""
        if self._head == OWN and shipped_for(encoder.fingerprint) is None:
            raise RecipeError(
                "head own: none comes with this library for the model; train one, and give its folder"
            )
        if self._head in (None, OWN):
            return
        found = [usable(it, encoder) for it in map(self.recipe, self.coarse()) if it.head]
        if all(isinstance(it, str) for it in found):
            raise RecipeError(f"head {self._head}: {found[0]}")

    def head_digest(self, encoder: Encoder) -> str:
        """16 hexadecimal digits over a head's arrays, "" without one; a folder may be trained again."""
        name = shipped_for(encoder.fingerprint) if self._head in (None, OWN) else self._head
        if name is None:
            return ""
        files = sorted(Path(head_folder(name)).rglob("*.safetensors"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


_TRIED = (
    *("name", "summary", "source", "reduction", "query_weights", "codec", "head", "alignment", "saliency"),
    *("fusion", "feedback"),
)
"""What of a recipe a combination says."""


def _width(codec: str) -> int:
    """Dimensions that a codec of `CODECS` keeps; 0 where it keeps all."""
    return next((int(part[4:]) for part in codec.split("+") if part.startswith("pca-")), 0)


def _beside(value: Any, ladder: Sequence[Any]) -> Sequence[Any]:
    """What stands next to a value on a ladder."""
    place = ladder.index(value)
    return [*ladder[max(place - 1, 0) : place], *ladder[place + 1 : place + 2]]


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
