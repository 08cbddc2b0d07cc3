"""Codecs: how token vectors are compressed, stored, and scored again.

A codec is a chain of projections that ends in one quantizer, written as text with "+" between the
parts: "float16", "pca-128+float16", "pca-192+binary".
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from connector.codecs.base import Projection, Quantizer
from connector.codecs.projection import PCA, Rotation
from connector.codecs.quantization import Floats, Signs
from connector.errors import InputError, RecipeError
from connector.types import Float32, check_rows

__all__ = ["Codec", "parse_codec"]


class Codec:
    """A chain of projections and a quantizer.

    Passage tokens are projected and quantized; query tokens are projected and stay float32. Scores are
    inner products in the space behind the projections.

    Args:
        spec: the codec as text; `parse_codec(spec)` makes the same one.
        projections: applied in order.
        quantizer: the stored form.
    """

    def __init__(self, spec: str, projections: list[Projection], quantizer: Quantizer) -> None:
        self.spec = spec
        self._projections = projections
        self._quantizer = quantizer
        self._width: int | None = None

    @property
    def server_scorable(self) -> bool:
        """Whether `encode` gives plain vectors, which Qdrant can score itself."""
        return self._quantizer.server_scorable

    @property
    def fitted(self) -> bool:
        """Whether `fit` or `load` was called."""
        return self._width is not None

    def width(self, width: int) -> int:
        """The width of the scored space for an encoder whose tokens have this width."""
        for projection in self._projections:
            width = projection.width(width)
        return width

    def bytes_per_token(self, width: int) -> int:
        """Stored bytes of one token of an encoder whose tokens have this width."""
        return self._quantizer.bytes_per_token(self.width(width))

    def fit(self, tokens: Float32, seed: int = 0) -> Codec:
        """Learn from a sample; deterministic for a seed.

        Args:
            tokens: (N, w) float32 token vectors, N ≥ 1.
            seed: of the random parts.

        Returns:
            The codec itself.

        Raises:
            InputError: the sample is empty or not finite (the row is named).
        """
        if tokens.ndim != 2 or len(tokens) == 0:
            raise InputError(f"a codec is fitted on a matrix of token vectors, got shape {tokens.shape}")
        check_rows(tokens)
        width = tokens.shape[1]
        self.bytes_per_token(width)
        for projection in self._projections:
            tokens = projection.fit(tokens, seed)
        self._width = width
        return self

    def encode(self, tokens: Float32) -> NDArray[Any]:
        """(n, w) float32 token vectors to (n, …) stored rows.

        Raises:
            InputError: the codec is not fitted, a row is not finite, or the width is another.
        """
        check_rows(tokens)
        return self._quantizer.encode(self.encode_query(tokens))

    def decode(self, codes: NDArray[Any]) -> Float32:
        """Stored rows to (n, d) float32 vectors in the scored space."""
        return self._quantizer.decode(codes, self._scored_width())

    def encode_query(self, tokens: Float32) -> Float32:
        """(m, w) float32 query tokens to (m, d) float32 in the scored space."""
        width = self._fitted_width()
        if tokens.ndim != 2 or tokens.shape[1] != width:
            raise InputError(
                f"codec {self.spec} was fitted on vectors of width {width}, got shape {tokens.shape}; "
                "use the encoder that it was fitted with"
            )
        for projection in self._projections:
            tokens = projection.apply(tokens)
        return tokens

    def similarities(self, codes: NDArray[Any], query: Float32) -> Float32:
        """Inner products of stored rows with projected query tokens.

        Args:
            codes: (N, …) rows from `encode` or `stored`.
            query: (m, d) float32 from `encode_query`.

        Returns:
            (N, m) float32, equal to `decode(codes) @ query.T` up to rounding.
        """
        return self._quantizer.similarities(codes, query)

    def stored(self, data: bytes) -> NDArray[Any]:
        """The stored rows whose bytes (`encode(…).tobytes()`) these are.

        Raises:
            InputError: the codec is not fitted, or the bytes are no whole number of rows.
        """
        row = self._quantizer.bytes_per_token(self._scored_width())
        if len(data) % row:
            raise InputError(
                f"{len(data)} bytes are not rows of {row} bytes ({self.spec}); ingest the document again"
            )
        return self._quantizer.stored(data, self._scored_width())

    def save(self) -> bytes:
        """The fitted codec as one safetensors file."""
        arrays: dict[str, NDArray[Any]] = {}
        for index, projection in enumerate(self._projections):
            for name, array in projection.state().items():
                arrays[f"{index}.{name}"] = array
        arrays["width"] = np.array([self._fitted_width()], np.int64)
        arrays["spec"] = np.frombuffer(self.spec.encode(), np.uint8)
        return save_safetensors(arrays)

    def load(self, data: bytes) -> Codec:
        """Take over what `save` of a codec of the same spec gave.

        Raises:
            InputError: the bytes are not such a file.
        """
        try:
            arrays = load_safetensors(data)
            spec = arrays["spec"].tobytes().decode()
            if spec != self.spec:
                raise ValueError(f"it is a {spec}")
            (width,) = arrays["width"].tolist()
            for index, projection in enumerate(self._projections):
                prefix = f"{index}."
                projection.load(
                    {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
                )
            self._check_shapes(width)
            self._width = width
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"not a saved codec {self.spec}: {error!r}; restore its file") from error
        return self

    def _check_shapes(self, width: int) -> None:
        for projection in self._projections:
            shape = projection.state()["matrix"].shape
            if shape != (width, projection.width(width)):
                raise ValueError(f"{projection.spec} has a matrix of shape {shape} for width {width}")
            width = projection.width(width)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 of `save()`."""
        return hashlib.sha256(self.save()).hexdigest()[:16]

    def _fitted_width(self) -> int:
        if self._width is None:
            raise InputError(f"codec {self.spec} is not fitted; call fit on a sample of token vectors first")
        return self._width

    def _scored_width(self) -> int:
        return self.width(self._fitted_width())


def parse_codec(spec: str) -> Codec:
    """The unfitted codec that a text names.

    Parts: `pca-D` (a fitted projection to D dimensions), and last one of `float32`, `float16` or
    `binary` (a random rotation, then one bit a dimension).

    Raises:
        RecipeError: a part is not known, or the last one is no quantizer.
    """
    *head, last = spec.split("+")
    projections = [_parse_projection(part, spec) for part in head]
    if last in ("float32", "float16"):
        return Codec(spec, projections, Floats(last))
    if last == "binary":
        return Codec(spec, [*projections, Rotation()], Signs())
    raise RecipeError(f"codec {spec!r} ends in {last!r}; end it in float32, float16 or binary")


def _parse_projection(part: str, spec: str) -> Projection:
    name, _, number = part.partition("-")
    if name == "pca" and number.isdecimal():
        return PCA(int(number))
    raise RecipeError(f"codec {spec!r}: {part!r} is not known; the known projections: pca-D, such as pca-128")
