"""What a codec is made of: projections that turn vectors, then a quantizer that stores them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import InputError, RecipeError
from connector.core.types import Float32
from connector.scoring.maxsim import Scorer, products

State = dict[str, NDArray[Any]]


Datatype = Literal["float32", "float16", "turbo8", "turbo4"]
"""How Qdrant stores a coordinate. The turbo types are its own rotated quantization to 8 and 4 bits."""


_BITS: dict[Datatype, int] = {"float32": 32, "float16": 16, "turbo8": 8, "turbo4": 4}


_TURBO_HEADER = 4
"""Bytes that Qdrant keeps with each vector of a turbo type, measured on the engine's files."""


def stored_bytes(datatype: Datatype, width: int) -> int:
    """Bytes that Qdrant takes for one vector."""
    return width * _BITS[datatype] // 8 + (_TURBO_HEADER if datatype.startswith("turbo") else 0)


class Part(ABC):
    """A projection or a quantizer: what it has learned are float32 arrays, each with a name.

    Args:
        spec: how codecs name it; for messages, where it learns something.
    """

    sample = 1
    """Token vectors that `fit` wants to see; 1 where it learns nothing from them."""

    def __init__(self, spec: str = "") -> None:
        self.spec = spec
        self._arrays: dict[str, Float32] = {}

    def shapes(self, width: int, state: State) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  (none here)
        """Name and shape of each array for vectors of this width; a free dimension is as in the state."""
        return {}

    @abstractmethod
    def check(self, width: int) -> None:
        """Raise what `fit` would on vectors of this width: it does not divide, a file is missing."""

    def state(self) -> State:
        """The learned arrays; none where nothing is learned."""
        return dict(self._arrays)

    def load(self, state: State, width: int) -> None:
        """Take over arrays that `state` gave, for vectors of this width.

        Raises:
            KeyError, TypeError, ValueError: one is missing, or does not fit the width.
        """
        arrays = {}
        for name, shape in self.shapes(width, state).items():
            if state[name].shape != shape:
                raise ValueError(f"{self.spec} has {name} of shape {state[name].shape}, not {shape}")
            arrays[name] = np.array(state[name], np.float32, order="C")  # torch wants them writable
        self._arrays = arrays

    def learned(self, name: str) -> Float32:
        """One of the arrays.

        Raises:
            InputError: neither `fit` nor `load` was called.
        """
        if name not in self._arrays:
            raise InputError(f"{self.spec} is not fitted; call fit on a sample of token vectors first")
        return self._arrays[name]


class Projection(Part):
    """x ↦ xM / ‖xM‖ for a learned or drawn matrix M (w, d), the same for passages and queries."""

    def width(self, width: int) -> int:
        """The width d of what comes out when vectors of this width go in."""
        return width

    def shapes(self, width: int, state: State) -> dict[str, tuple[int, ...]]:  # noqa: ARG002
        return {"matrix": (width, self.width(width))}

    def check(self, width: int) -> None:
        pass

    @abstractmethod
    def matrix(self, tokens: Float32, seed: int) -> NDArray[np.floating]:
        """M (w, d), learned from a sample (N, w)."""

    def fit(self, tokens: Float32, seed: int) -> Float32:
        """Learn the map from a sample (N, w) and return the sample mapped, (N, d)."""
        self._arrays = {"matrix": np.ascontiguousarray(self.matrix(tokens, seed), dtype=np.float32)}
        return self.apply(tokens)

    def apply(self, tokens: Float32) -> Float32:
        """Map (n, w) to (n, d) unit rows."""
        matrix = self.learned("matrix")
        if tokens.ndim != 2 or tokens.shape[1] != len(matrix):
            raise InputError(
                f"{self.spec} is for width {len(matrix)}, got shape {tokens.shape}; use the encoder it had"
            )
        mapped = tokens @ matrix
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        unit: Float32 = mapped / np.maximum(norms, 1e-12)
        return unit


class Quantizer(Part):
    """A stored form of unit vectors, and how a float query is scored against it.

    The stored rows of n tokens are an array (n, …) of `dtype`, whose bytes are what is stored.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)
    datatype: Datatype | None = None
    """What Qdrant stores the vectors as, and scores itself; None if only this library can."""

    def check(self, width: int) -> None:
        self.bytes_per_token(width)

    def fit(self, tokens: Float32, seed: int) -> None:
        """Learn from a sample (N, d) of unit rows."""

    @abstractmethod
    def bytes_per_token(self, width: int) -> int:
        """Stored bytes of one token of this width; RecipeError if it cannot be stored."""

    @abstractmethod
    def encode(self, tokens: Float32) -> NDArray[Any]:
        """(n, d) float32 unit rows to their stored form, one row a token."""

    @abstractmethod
    def decode(self, codes: NDArray[Any]) -> Float32:
        """The stored form back to (n, d) float32."""

    def scorer(self, query: Float32, device: str) -> Scorer:
        """Inner products of stored rows with (m, d) query vectors, as `decode(codes) @ query.T` has them."""
        return products(query, self.decode, device)


Ending = tuple[list[Projection], Quantizer]
"""What a codec ends in: a quantizer, and the projections that belong to it."""


def number(text: str) -> int:
    """What follows a part's name, as in "pca-128"."""
    if not (text.isascii() and text.isdecimal()):
        raise RecipeError(f"{text!r} is no number; give one such as 16")
    return int(text)
