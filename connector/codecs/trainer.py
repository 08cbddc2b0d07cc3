"""The trainer of codebooks; only fitting needs it."""

from __future__ import annotations

from typing import Any

import numpy as np

from connector.core.errors import MissingExtra
from connector.core.types import Float32

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


def product_trainer(width: int, parts: int, seed: int) -> Any:
    """An untrained product quantizer of one byte a part."""
    trainer = faiss().ProductQuantizer(width, parts, 8)
    trainer.cp.seed = seed + 1  # faiss takes 0 for no seed
    trainer.cp.min_points_per_centroid = 1  # it would print what we log
    return trainer


def repeated(tokens: Float32) -> Float32:
    """The sample, repeated until there are as many rows as codewords and as dimensions.

    For fewer codewords faiss raises, for fewer dimensions its OPQ breaks its memory.
    """
    rows = np.resize(np.arange(len(tokens)), max(len(tokens), CODEWORDS, tokens.shape[1]))
    return np.ascontiguousarray(tokens[rows])
