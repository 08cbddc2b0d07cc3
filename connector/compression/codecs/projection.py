"""The parts of a codec, and the first kind: projections, linear maps that come before a quantizer.

Each maps passage and query tokens alike and scales the result to unit length, as ColBERT's own linear
layer does, so that similarities stay cosines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.core.errors import RecipeError, one_line
from connector.core.io import Arrays, check_learned
from connector.core.registry import Method, count
from connector.core.types import Float32, unit


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

    def shapes(self, width: int, state: Arrays) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  (none here)
        """Name and shape of each array for vectors of this width; a free dimension is as in the state."""
        return {}

    @abstractmethod
    def check(self, width: int) -> None:
        """Raise what `fit` would on vectors of this width: it does not divide, a file is missing."""

    def state(self) -> Arrays:
        """The learned arrays; none where nothing is learned."""
        return dict(self._arrays)

    def load(self, state: Arrays, width: int) -> None:
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


class Projection(Part):
    """A map of (n, w) vectors to (n, d) unit vectors, the same for passages and queries."""

    def width(self, width: int) -> int:
        """The width d of what comes out when vectors of this width go in."""
        return width

    def check(self, width: int) -> None:
        pass

    @abstractmethod
    def fit(self, tokens: Float32, seed: int) -> Float32:
        """Learn the map from a sample (N, w) and return the sample mapped, (N, d)."""

    @abstractmethod
    def apply(self, tokens: Float32) -> Float32:
        """Map (n, w) to (n, d) unit rows."""


class Linear(Projection):
    """x ↦ xM / ‖xM‖ for a learned or drawn matrix M (w, d)."""

    def shapes(self, width: int, state: Arrays) -> dict[str, tuple[int, ...]]:  # noqa: ARG002
        return {"matrix": (width, self.width(width))}

    @abstractmethod
    def matrix(self, tokens: Float32, seed: int) -> NDArray[np.floating]:
        """M (w, d), learned from a sample (N, w)."""

    def fit(self, tokens: Float32, seed: int) -> Float32:
        self._arrays = {"matrix": np.ascontiguousarray(self.matrix(tokens, seed), dtype=np.float32)}
        return self.apply(tokens)

    def apply(self, tokens: Float32) -> Float32:
        return unit(tokens @ self._arrays["matrix"])


_SAMPLE = 2_048
"""Token vectors that a mean, or up to 256 directions, are learned from: nDCG@10 differs from that with 10,000
by less than another order of documents makes; with 1,024, 96 directions lost 0.014 on one collection."""


class Center(Projection):
    """x ↦ (x − m) / ‖x − m‖ for the mean m of a sample.

    Token vectors of an encoder that was not trained for late interaction share a direction, and signs of
    what all share tell nothing apart: so it comes first. Sources: Mu and Viswanath, "All-but-the-Top", ICLR
    2018; Gao and Long, "RaBitQ", SIGMOD 2024, which centres before signs.
    """

    sample = _SAMPLE

    def __init__(self) -> None:
        super().__init__("center")

    def shapes(self, width: int, state: Arrays) -> dict[str, tuple[int, ...]]:  # noqa: ARG002
        return {"mean": (width,)}

    def fit(self, tokens: Float32, seed: int) -> Float32:  # noqa: ARG002  (needs no chance)
        mean = tokens.mean(axis=0, dtype=np.float64) * min(len(tokens) / _MANY, 1.0)
        self._arrays = {"mean": mean.astype(np.float32)}
        return self.apply(tokens)

    def apply(self, tokens: Float32, mean: Float32 | None = None) -> Float32:
        """Map (n, w) rows, less another mean (w,) if one is given."""
        return unit(tokens - (self._arrays["mean"] if mean is None else mean))


_MANY = 1_000
"""Token vectors whose mean is that of a language; the mean of fewer is that of their topics, so of a tenth of
them a tenth of it is taken."""


class PCA(Linear):
    """The d directions that keep most of the inner products: eigenvectors of Σ xxᵀ.

    The second moment is not centred, because late interaction scores inner products, not differences
    from a mean.

    Args:
        dimensions: d; an encoder of smaller width keeps its own.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__(f"pca-{dimensions}")
        self.dimensions = dimensions
        self.sample = max(_SAMPLE, 8 * dimensions)

    def width(self, width: int) -> int:
        return min(self.dimensions, width)

    def matrix(self, tokens: Float32, seed: int) -> NDArray[np.floating]:  # noqa: ARG002  (needs no chance)
        exact = tokens.astype(np.float64)
        _, vectors = np.linalg.eigh(exact.T @ exact)
        directions = vectors[:, ::-1][:, : self.width(tokens.shape[1])]
        largest = np.abs(directions).argmax(axis=0)
        signed: NDArray[np.floating] = directions * np.sign(directions[largest, np.arange(len(largest))])
        return signed


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

    def matrix(self, tokens: Float32, seed: int) -> NDArray[np.floating]:  # noqa: ARG002  (nothing to learn)
        return self._layer(tokens.shape[1])

    def _layer(self, width: int) -> Float32:
        if self._head is None:
            raise RecipeError(f"{self.spec} takes its layer from a folder; give it as the head (--head DIR)")
        own = Path(self._head) / self.spec
        layer = _dense(own if own.is_dir() else Path(self._head), self.spec)
        before, after = layer.shape
        if (before, after) != (width, self.dimensions):
            raise RecipeError(
                f"head {self._head!r} maps width {before} to {after}, and {self.spec} here needs {width} to "
                f"{self.dimensions}; give the head of this model"
            )
        return layer


def _dense(folder: Path, name: str) -> Float32:
    """(w, d) the linear layer of a saved `Dense`."""
    from sentence_transformers.base.modules import Dense

    if not (folder / "config.json").is_file():
        raise RecipeError(
            f"head {str(folder)!r} holds no saved sentence-transformers Dense, nor a folder {name!r} with one"
        )
    try:
        settings: dict[str, Any] = Dense.load_config(str(folder))
        weights: dict[str, Any] = Dense.load_torch_weights(str(folder))
        layer: Float32 = weights.pop("linear.weight").float().numpy().T
        _, _ = layer.shape
        linear = settings["activation_function"].endswith(".Identity") and not settings.get("use_residual")
        check_learned({"weight": layer})
    except Exception as error:  # damaged files fail in many ways
        said = one_line(str(error))
        raise RecipeError(f"head {str(folder)!r} cannot be loaded: {said}; save the Dense again") from error
    if weights or not linear:
        raise RecipeError(
            f"head {str(folder)!r} is not a linear map; train a Dense with bias=False, "
            "activation_function=None"
        )
    return layer


class Rotation(Linear):
    """A random rotation, which spreads the information of a vector evenly over its coordinates.

    After it, the signs alone estimate angles without bias towards any axis: Charikar, "Similarity
    Estimation Techniques from Rounding Algorithms", STOC 2002, with orthogonal directions.
    """

    def __init__(self) -> None:
        super().__init__("rotation")

    def matrix(self, tokens: Float32, seed: int) -> NDArray[np.floating]:
        gaussian = np.random.default_rng(seed).normal(size=(tokens.shape[1],) * 2)
        orthogonal, upper = np.linalg.qr(gaussian)
        rotation: NDArray[np.floating] = orthogonal * np.sign(np.diag(upper))
        return rotation


PROJECTIONS: tuple[Method[Projection, str | None], ...] = (
    Method(
        "pca-D",
        "the D directions that keep most of the inner products",
        "Ma et al., Redundancy Elimination, EMNLP 2021",
        lambda size, _: PCA(count(size)),
    ),
    Method(
        "linear-D",
        "a trained layer with D outputs, from the recipe's head",
        "Khattab and Zaharia, ColBERT, SIGIR 2020",
        lambda size, head: Trained(count(size), head),
    ),
    Method(
        "center",
        "less the mean of the passages' tokens",
        "Mu and Viswanath, All-but-the-Top, ICLR 2018",
        lambda _, __: Center(),
    ),
    Method("rotation", "a random rotation", "Charikar, STOC 2002", lambda _, __: Rotation()),
)
"""What may come before the last part of a codec, as recipes name it."""
