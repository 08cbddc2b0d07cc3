"""Fusion: how the scores of tokens, words and the CLS vector, each on a scale of its own, make one.

The score of a candidate is Σ wₚ · scaleₚ(sₚ) over the parts p. All but "sum" scale a part by the scores that
the candidates of a query have in it, so a fused score compares the candidates of one query and nothing else.
Source: Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import RecipeError

Float64 = NDArray[np.float64]


PartName = Literal["tokens", "bm25", "cls"]


PARTS: tuple[PartName, ...] = get_args(PartName)


Method = Literal["minmax", "tmm", "zscore", "rrf", "sum"]


METHODS: dict[Method, str] = {
    "minmax": "from 0 for the candidates' least score to 1 for their largest",
    "tmm": "from 0 for the least score that there can be to 1 for the candidates' largest",
    "zscore": "in standard deviations from the candidates' mean",
    "rrf": "reciprocal ranks, 1 / (60 + rank)",
    "sum": "as it is",
}
"""What a part is scaled to, by the name of the method."""


_INFIMA: dict[str, float] = {"tokens": -1.0, "bm25": 0.0, "cls": -1.0}
"""Of means of cosines, of BM25 and of a cosine."""


_RRF_K = 60
"""Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion", SIGIR 2009."""


_ALIKE = 1e-5
"""Share of a score by which two are no more apart than rounding makes them."""


_MOST = 1e6
"""Of a weight."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How the scores of one part become comparable with those of others.

    Args:
        low, high: what becomes 0 and 1; None by ranks.
        pool: (P,) ascending, the candidates' scores; for ranks alone.
    """

    low: float | None
    high: float | None
    pool: Float64 | None = None

    def __call__(self, scores: Float64) -> Float64:
        """(n,) scaled scores, also of passages that are no candidates."""
        if self.pool is not None:
            better = len(self.pool) - np.searchsorted(self.pool, scores, side="right")
            ranked: Float64 = 1 / (_RRF_K + 1.0 + better)
            return ranked
        if self.low is None or self.high is None:
            return np.zeros(len(scores))
        if self.high - self.low <= _ALIKE * max(1.0, abs(self.high), abs(self.low)):
            return np.zeros(len(scores))
        return (scores - self.low) / (self.high - self.low)


def minmax(pool: Float64) -> Scale:
    """From 0 for the least of (P,) scores to 1 for the largest; 0 for all where all are equal."""
    return Scale(float(pool.min(initial=math.inf)), float(pool.max(initial=-math.inf)))


@dataclass(frozen=True, slots=True)
class Fusion:
    """One score of several parts.

    Args:
        method: how parts are scaled, one of `METHODS`.
        tokens: weight of the token vectors' score, 0 or more.
        bm25: weight of the words' score.
        cls: weight of the CLS vectors' inner product.

    Raises:
        RecipeError: the method is not known, a weight is negative or not finite, or none is above 0.
    """

    method: Method
    tokens: float = 0.0
    bm25: float = 0.0
    cls: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise RecipeError(f"fusion method {self.method!r} is not known; give one of {', '.join(METHODS)}")
        for name in PARTS:
            weight = getattr(self, name)
            if not 0 <= weight <= _MOST:
                raise RecipeError(f"fusion weighs {name} {weight:g}; give a number from 0 to {_MOST:,.0f}")
        if not self.weights:
            raise RecipeError("fusion weighs nothing; give a part a weight above 0, such as minmax:tokens=1")

    @property
    def weights(self) -> dict[PartName, float]:
        """The parts that count."""
        return {name: weight for name in PARTS if (weight := float(getattr(self, name)))}

    @property
    def spec(self) -> str:
        """As recipes name it: "minmax:tokens=1,bm25=0.5,cls=0.5"."""
        return f"{self.method}:" + ",".join(f"{name}={weight:.12g}" for name, weight in self.weights.items())

    def without(self, *names: str) -> Fusion | None:
        """The same without some parts; None if nothing is left."""
        rest = {name: weight for name, weight in self.weights.items() if name not in names}
        return Fusion(self.method, **rest) if rest else None

    def scale(self, name: PartName, pool: Float64) -> Scale:
        """How a part is scaled.

        Args:
            name: the part.
            pool: (P,) the candidates' scores in it.
        """
        match self.method:
            case "minmax":
                return minmax(pool)
            case "tmm":
                return Scale(_INFIMA[name], float(pool.max(initial=-math.inf)))
            case "zscore":
                mean = float(pool.mean()) if len(pool) else 0.0
                return Scale(mean, mean + (float(pool.std()) if len(pool) else 0.0))
            case "rrf":
                return Scale(None, None, np.sort(pool))
            case "sum":
                return Scale(0.0, 1.0)


def parse_fusion(spec: str | Fusion) -> Fusion:
    """The fusion that a text names: a method, a colon, and weights with commas between.

    Args:
        spec: such as "minmax:tokens=1,bm25=0.5,cls=0.5"; parts that are left out weigh 0.

    Raises:
        RecipeError: the text names none.
    """
    if isinstance(spec, Fusion):
        return spec
    method, colon, rest = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if not colon:
        raise RecipeError(
            f"fusion {spec!r} is not known; give a method ({', '.join(METHODS)}), a colon and weights, such "
            "as minmax:tokens=1,bm25=0.5,cls=0.5"
        )
    weights = parse_weights("fusion", spec, rest, PARTS, "minmax:tokens=1,bm25=0.5,cls=0.5")
    return Fusion(method.strip(), **weights)  # type: ignore[arg-type]  # it looks at the method itself


def parse_weights(
    what: str, spec: object, text: str, names: tuple[str, ...], example: str
) -> dict[str, float]:
    """The numbers of a list such as "tokens=1,cls=0.5".

    Args:
        what, spec, example: the setting, its whole text and a right one, for messages.
        text: the list.
        names: what may have a number.

    Raises:
        RecipeError: the text is no such list, or names something twice or something else.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        pair = re.fullmatch(r"\s*([a-z0-9_]+)\s*=\s*([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*", part)
        if pair is None or pair[1] not in names or pair[1] in found:
            raise RecipeError(
                f"{what} {spec!r} is not known: {part.strip()!r} is no weight of "
                f"{', '.join(names)}, each once and at least 0; write it like {example}"
            )
        found[pair[1]] = float(pair[2])
    return found
