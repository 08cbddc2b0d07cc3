"""The trainer of codebooks; only fitting needs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from connector.errors import MissingExtra
from connector.types import Float32

CODEWORDS = 256
"""Of one byte."""


def faiss() -> Any:
    """The package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import faiss as library
    except ImportError as error:
        raise MissingExtra("faiss", "faiss") from error
    return library


def repeated(tokens: Float32) -> Float32:
    """The sample, repeated until there are as many rows as codewords and as dimensions.

    For fewer codewords faiss raises, for fewer dimensions its OPQ breaks its memory.
    """
    rows = np.resize(np.arange(len(tokens)), max(len(tokens), CODEWORDS, tokens.shape[1]))
    return np.ascontiguousarray(tokens[rows])
