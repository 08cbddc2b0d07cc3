"""One fixed-length vector for a passage's tokens, whose inner product with a query's estimates MaxSim."""

from __future__ import annotations

import numpy as np

from connector.core.errors import require
from connector.core.types import Float32

_PARTITIONS, _PROJECTED, _REPETITIONS = 4, 16, 20
"""Hyperplanes, dimensions a partition and repetitions: 20 · 2⁴ · 16 dimensions."""


class Muvera:
    """Fixed dimensional encodings: Dhulipala et al., "MUVERA", NeurIPS 2024, by fastembed.

    Token vectors are sorted into partitions by random hyperplanes; a query's are summed in each, a passage's
    averaged, then projected at random. The same for all collections, as its seed is.

    Args:
        width: of the token vectors.

    Raises:
        MissingExtra: fastembed is not installed.
    """

    def __init__(self, width: int) -> None:
        library = require("fastembed.postprocess", "muvera")
        self._encoding = library.Muvera(width, _PARTITIONS, min(_PROJECTED, width), _REPETITIONS)

    @staticmethod
    def size(width: int) -> int:
        """Dimensions of an encoding of tokens of this width."""
        return int(_REPETITIONS * 2**_PARTITIONS * min(_PROJECTED, width))

    def passage(self, tokens: Float32) -> Float32:
        """(n, width) to (size,) float32."""
        return np.asarray(self._encoding.process_document(tokens), np.float32)

    def query(self, tokens: Float32) -> Float32:
        """(m, width), as long as they weigh, to (size,) float32."""
        return np.asarray(self._encoding.process_query(tokens), np.float32)
