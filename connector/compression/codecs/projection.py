"""Projections: linear maps that come before a quantizer.

Each maps passage and query tokens alike and scales the result to unit length, as ColBERT's own linear
layer does, so that similarities stay cosines.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from connector.compression.codecs.base import Projection, State, number
from connector.core.errors import InputError, RecipeError, one_line
from connector.core.io import check_learned
from connector.core.registry import Method
from connector.core.types import Float32


class Linear:
    """x ↦ xM / ‖xM‖ for a learned or drawn matrix M (w, d)."""

    _matrix: Float32 | None = None

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def width(self, width: int) -> int:
        return width

    def check(self, width: int) -> None:
        pass

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

    def load(self, state: State, width: int) -> None:
        matrix = np.ascontiguousarray(state["matrix"], dtype=np.float32)
        if matrix.shape != (width, self.width(width)):
            raise ValueError(f"{self.spec} has a matrix of shape {matrix.shape} for width {width}")
        self._matrix = matrix

    def _take(self, matrix: Float32, tokens: Float32) -> Float32:
        self._matrix = np.ascontiguousarray(matrix, dtype=np.float32)
        return self.apply(tokens)


class PCA(Linear):
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
        return self._take(directions * signs, tokens)


class Trained(Linear):
    """A projection that was trained: the linear layer of a sentence-transformers `Dense`.

    "Fitting" takes it over; from then on it is kept with the codec, and the folder is not needed any more.

    Args:
        dimensions: d, which the layer must have.
        head: folder of the saved `Dense`, without bias and activation, or of a head with the layer in its
            folder "linear-D"; needed for `fit` alone.
    """

    def __init__(self, dimensions: int, head: str | None) -> None:
        super().__init__(f"linear-{dimensions}")
        self.dimensions = dimensions
        self._head = head

    def width(self, width: int) -> int:  # noqa: ARG002  (whatever goes in)
        return self.dimensions

    def check(self, width: int) -> None:
        self._layer(width)

    def fit(self, tokens: Float32, seed: int) -> Float32:  # noqa: ARG002  (nothing to learn)
        return self._take(self._layer(tokens.shape[1]), tokens)

    def _layer(self, width: int) -> Float32:
        if self._head is None:
            raise RecipeError(
                f"{self.spec} takes its layer from a folder; give it as the recipe's head (--head DIR)"
            )
        own = Path(self._head) / self.spec
        folder = str(own if own.is_dir() else self._head)
        has = _shape(folder, self.spec)  # before memory is taken for it
        if has != (width, self.dimensions):
            raise RecipeError(
                f"head {self._head!r} maps width {has[0]} to {has[1]}, but {self.spec} after "
                f"vectors of width {width} needs {width} to {self.dimensions}; give the head of this model"
            )
        return _dense(folder)


def _shape(folder: str, name: str) -> tuple[int, int]:
    """(w, d) of a saved `Dense`, as its configuration says."""
    config = Path(folder) / "config.json"
    if not config.is_file():
        raise RecipeError(
            f"head {folder!r} holds no saved sentence-transformers Dense, nor a folder {name!r} with one; "
            "give the folder of a trained head"
        )
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        shape = settings["in_features"], settings["out_features"]
        if not all(type(size) is int and size > 0 for size in shape):
            raise ValueError(f"in_features and out_features are {shape!r}")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _unloadable(folder, error) from error
    return shape


def _unloadable(folder: str, error: Exception) -> RecipeError:
    return RecipeError(f"head {folder!r} cannot be loaded: {one_line(str(error))}; save the Dense again")


def _dense(folder: str) -> Float32:
    """(w, d) the linear layer of a saved `Dense`."""
    import torch
    from sentence_transformers.base.modules import Dense

    try:
        layer = Dense.load(folder)
    except Exception as error:  # damaged files fail in many ways
        raise _unloadable(folder, error) from error
    if layer.bias or layer.use_residual or not isinstance(layer.activation_function, torch.nn.Identity):
        raise RecipeError(
            f"head {folder!r} is no linear map; train a Dense with bias=False, use_residual=False and "
            "activation_function=None"
        )
    weight: Float32 = layer.linear.weight.detach().float().cpu().numpy().T
    try:
        check_learned({"weight": weight})
    except ValueError as error:
        raise _unloadable(folder, error) from error
    return weight


class Rotation(Linear):
    """A random rotation, which spreads the information of a vector evenly over its coordinates.

    After it, the signs alone estimate angles without bias towards any axis: Charikar, "Similarity
    Estimation Techniques from Rounding Algorithms", STOC 2002, with orthogonal directions.
    """

    def __init__(self) -> None:
        super().__init__("rotation")

    def fit(self, tokens: Float32, seed: int) -> Float32:
        width = tokens.shape[1]
        gaussian = np.random.default_rng(seed).normal(size=(width, width))
        orthogonal, upper = np.linalg.qr(gaussian)
        return self._take(orthogonal * np.sign(np.diag(upper)), tokens)


METHODS: tuple[Method[Projection, str | None], ...] = (
    Method(
        "pca-D",
        "the D directions that keep most of the inner products",
        "Ma et al., Redundancy Elimination, EMNLP 2021",
        lambda size, _: PCA(number(size)),
    ),
    Method(
        "linear-D",
        "a trained layer with D outputs, from the recipe's head",
        "Khattab and Zaharia, ColBERT, SIGIR 2020",
        lambda size, head: Trained(number(size), head),
    ),
    Method("rotation", "a random rotation", "Charikar, STOC 2002", lambda _, __: Rotation()),
)
