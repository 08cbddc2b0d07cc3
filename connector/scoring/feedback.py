"""Feedback: the first hits of a query say what the others should be like.

Rocchio's algorithm over vectors that are there anyway. With f the fused score, 1 and 2 the first two hits of
different documents and v a candidate's vector, less the candidates' mean and of unit length, the score is
f + w · cos(v₁, v₂) · minmax(v · (v₁ + v₂)/2). Where the two hits are unlike, and so one of them is perhaps
wrong, little changes. Sources: Rocchio, "Relevance feedback in information retrieval", 1971; Li et al.,
"Pseudo Relevance Feedback with Deep Language Models and Dense Retrievers", arXiv 2108.11044.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from connector.core.errors import RecipeError
from connector.core.types import Float32, unit
from connector.scoring.fusion import parse_weights

By = Literal["codes", "cls"]


HITS = 2
"""More or fewer of the first hits gain less: measured on seven collections."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What is added to a fused score.

    Args:
        codes: w for vectors that are the mean of a passage's stored token vectors.
        cls: w for the CLS vectors.
        hits: how many of the first hits speak; at least 2.

    Raises:
        RecipeError: a number is out of its range, or no weight is above 0.
    """

    codes: float = 0.0
    cls: float = 0.0
    hits: int = HITS

    def __post_init__(self) -> None:
        if not self.weights or not all(0 <= it <= 1e6 for it in (self.codes, self.cls)):
            raise RecipeError(
                f"feedback weighs codes {self.codes:g} and cls {self.cls:g}; give one a finite weight above "
                "0, or say none"
            )
        if self.hits < 2:
            raise RecipeError(f"feedback by {self.hits:g} hits; give a whole number of at least 2")

    @property
    def weights(self) -> dict[By, float]:
        """The kinds of vectors that count."""
        return {name: weight for name in get_args(By) if (weight := float(getattr(self, name)))}

    @property
    def spec(self) -> str:
        """As recipes name it: "codes=3" or "codes=1.5,cls=1.5,hits=3"."""
        parts = [f"{name}={weight:.12g}" for name, weight in self.weights.items()]
        return ",".join(parts + ([f"hits={self.hits:g}"] if self.hits != HITS else []))


def parse_feedback(spec: str | Feedback) -> Feedback:
    """The feedback that a text such as "codes=3" or "codes=1.5,cls=1.5" names.

    Raises:
        RecipeError: the text names none.
    """
    if isinstance(spec, Feedback):
        return spec
    given = parse_weights("feedback", spec, str(spec), (*get_args(By), "hits"), "codes=3")
    hits = given.pop("hits", HITS)
    if hits % 1:
        raise RecipeError(f"feedback by {hits:g} hits; give a whole number of at least 2")
    return Feedback(**given, hits=int(hits))


def agreement(vectors: Float32) -> float:
    """Mean cosine of the pairs of (h, d) vectors, h ≥ 2; 0 where it is negative."""
    units = unit(vectors)
    pairs = np.triu_indices(len(units), 1)
    return max(float((units @ units.T)[pairs].mean()), 0.0)


def first_of_each(documents: Sequence[str], order: Sequence[int], hits: int) -> list[int]:
    """Numbers of the first passages of the first `hits` documents.

    Args:
        documents: of each candidate the document's id.
        order: numbers of the candidates, best first.
    """
    found: dict[str, int] = {}
    for number in order:
        found.setdefault(documents[number], number)
        if len(found) == hits:
            break
    return list(found.values())
