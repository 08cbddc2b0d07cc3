"""What a codec is made of: projections that turn vectors, then a quantizer that stores them."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import RecipeError
from connector.core.types import Float32
from connector.scoring.maxsim import Scorer

State = dict[str, NDArray[Any]]


Datatype = Literal["float32", "float16", "turbo8", "turbo4"]
"""How Qdrant stores a coordinate. The turbo types are its own rotated quantization to 8 and 4 bits."""


_BITS: dict[Datatype, int] = {"float32": 32, "float16": 16, "turbo8": 8, "turbo4": 4}


_TURBO_HEADER = 4
"""Bytes that Qdrant keeps with each vector of a turbo type, measured on the engine's files."""


def stored_bytes(datatype: Datatype, width: int) -> int:
    """Bytes that Qdrant takes for one vector."""
    return width * _BITS[datatype] // 8 + (_TURBO_HEADER if datatype.startswith("turbo") else 0)


class Projection(Protocol):
    """A linear map of token vectors, the same for passages and queries, to unit vectors."""

    spec: str

    def check(self, width: int) -> None:
        """Raise what `fit` would on vectors of this width: a file or a package is missing."""
        ...

    def fit(self, tokens: Float32, seed: int) -> Float32:
        """Learn the map from a sample (N, w) and return the sample mapped, (N, d)."""
        ...

    def apply(self, tokens: Float32) -> Float32:
        """Map (n, w) to (n, d) unit rows."""
        ...

    def width(self, width: int) -> int:
        """The width d of what comes out when vectors of this width go in."""
        ...

    def state(self) -> State:
        """The learned arrays."""
        ...

    def load(self, state: State, width: int) -> None:
        """Take over arrays that `state` gave, for vectors of this width; ValueError if they do not fit it."""
        ...


class Quantizer(Protocol):
    """A stored form of unit vectors, and how a float query is scored against it.

    The stored rows of n tokens are an array (n, …) of `dtype`, whose bytes are what is stored.
    """

    dtype: np.dtype[Any]
    datatype: Datatype | None
    """What Qdrant stores the vectors as, and scores itself; None if only this library can."""
    sample: int
    """Token vectors that `fit` wants to see."""

    def check(self, width: int) -> None:
        """Raise what `fit` would on vectors of this width: they do not divide, a package is missing."""
        ...

    def fit(self, tokens: Float32, seed: int) -> None:
        """Learn from a sample (N, d) of unit rows."""
        ...

    def state(self) -> State:
        """The learned arrays; none where nothing is learned."""
        ...

    def load(self, state: State, width: int) -> None:
        """Take over arrays that `state` gave, for vectors of this width; ValueError if they do not fit it."""
        ...

    def bytes_per_token(self, width: int) -> int:
        """Stored bytes of one token of this width; RecipeError if it cannot be stored."""
        ...

    def encode(self, tokens: Float32) -> NDArray[Any]:
        """(n, d) float32 unit rows to their stored form, one row a token."""
        ...

    def decode(self, codes: NDArray[Any]) -> Float32:
        """The stored form back to (n, d) float32."""
        ...

    def scorer(self, query: Float32, device: str) -> Scorer:
        """Inner products of stored rows with (m, d) query vectors, as `decode(codes) @ query.T` has them."""
        ...


Ending = tuple[list[Projection], Quantizer]
"""What a codec ends in: a quantizer, and the projections that belong to it."""


def number(text: str) -> int:
    """What follows a part's name, as in "pca-128"."""
    if not (text.isascii() and text.isdecimal()):
        raise RecipeError(f"{text!r} is no number; give one such as 16")
    return int(text)
