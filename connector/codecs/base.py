"""What a codec is made of: projections that turn vectors, then a quantizer that stores them."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from connector.types import Float32

State = dict[str, NDArray[np.generic]]


class Projection(Protocol):
    """A linear map of token vectors, the same for passages and queries, to unit vectors."""

    spec: str

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

    def load(self, state: State) -> None:
        """Take over arrays that `state` gave."""
        ...


class Quantizer(Protocol):
    """A stored form of unit vectors, and how a float query is scored against it."""

    spec: str
    server_scorable: ClassVar[bool]
    """Whether what `encode` gives are plain vectors that Qdrant can score itself."""

    def bytes_per_token(self, width: int) -> int:
        """Stored bytes of one token of this width."""
        ...

    def encode(self, tokens: Float32) -> NDArray[np.generic]:
        """(n, d) float32 unit rows to their stored form, one row a token."""
        ...

    def decode(self, codes: NDArray[np.generic], width: int) -> Float32:
        """The stored form back to (n, d) float32."""
        ...

    def stored(self, data: bytes, width: int) -> NDArray[np.generic]:
        """The rows whose bytes these are."""
        ...

    def similarities(self, codes: NDArray[np.generic], query: Float32) -> Float32:
        """(N, m) inner products of N stored tokens with (m, d) query vectors.

        Equal to `decode(codes) @ query.T` up to rounding.
        """
        ...
