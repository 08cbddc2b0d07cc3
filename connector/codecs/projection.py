"""Projections: linear maps that come before a quantizer.

Each maps passage and query tokens alike and scales the result to unit length, as ColBERT's own linear
layer does, so that similarities stay cosines.
"""

from __future__ import annotations

import numpy as np

from connector.codecs.base import State
from connector.errors import InputError, RecipeError
from connector.types import Float32


class _Linear:
    """x ↦ xM / ‖xM‖ for a learned or drawn matrix M (w, d)."""

    _matrix: Float32 | None = None

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def apply(self, tokens: Float32) -> Float32:
        matrix = self._matrix
        if matrix is None:
            raise InputError(f"{self.spec} is not fitted; call fit on a sample of token vectors first")
        if tokens.ndim != 2 or tokens.shape[1] != len(matrix):
            raise InputError(
                f"{self.spec} takes vectors of width {len(matrix)}, got shape {tokens.shape}; "
                "use the encoder that it was fitted with"
            )
        mapped = tokens @ matrix
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        unit: Float32 = mapped / np.maximum(norms, 1e-12)
        return unit

    def state(self) -> State:
        return {} if self._matrix is None else {"matrix": self._matrix}

    def load(self, state: State) -> None:
        self._matrix = np.ascontiguousarray(state["matrix"], dtype=np.float32)


class PCA(_Linear):
    """The d directions that keep most of the inner products: eigenvectors of Σ xxᵀ.

    The second moment is not centred, because late interaction scores inner products, not differences
    from a mean.

    Args:
        dimensions: d, at least 1; an encoder of smaller width keeps its own.
    """

    def __init__(self, dimensions: int) -> None:
        if dimensions < 1:
            raise RecipeError(f"pca-{dimensions} has no dimensions; give at least 1")
        super().__init__(f"pca-{dimensions}")
        self.dimensions = dimensions

    def width(self, width: int) -> int:
        return min(self.dimensions, width)

    def fit(self, tokens: Float32, seed: int) -> Float32:  # noqa: ARG002  (needs no chance)
        exact = tokens.astype(np.float64)
        _, vectors = np.linalg.eigh(exact.T @ exact)
        directions = vectors[:, ::-1][:, : self.width(tokens.shape[1])]
        largest = np.abs(directions).argmax(axis=0)
        signs = np.sign(directions[largest, np.arange(directions.shape[1])])
        self._matrix = np.ascontiguousarray(directions * signs, dtype=np.float32)
        return self.apply(tokens)


class Rotation(_Linear):
    """A random rotation, which spreads the information of a vector evenly over its coordinates.

    After it, the signs alone estimate angles without bias towards any axis: Charikar, "Similarity
    Estimation Techniques from Rounding Algorithms", STOC 2002, with orthogonal directions.
    """

    def __init__(self) -> None:
        super().__init__("rotation")

    def width(self, width: int) -> int:
        return width

    def fit(self, tokens: Float32, seed: int) -> Float32:
        width = tokens.shape[1]
        gaussian = np.random.default_rng(seed).normal(size=(width, width))
        orthogonal, upper = np.linalg.qr(gaussian)
        self._matrix = np.ascontiguousarray(orthogonal * np.sign(np.diag(upper)), dtype=np.float32)
        return self.apply(tokens)
