"""A codec: how projections and a quantizer are fitted, store token vectors, and score them again."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from connector.compression.codecs.projection import Center, Part, Projection
from connector.compression.codecs.scalar_quantization import TURBO, Datatype, Quantizer
from connector.compression.saliency import Saliency
from connector.core.errors import InputError, RecipeError
from connector.core.io import check_learned, load_arrays
from connector.core.types import Float32, check_rows
from connector.scoring.maxsim import Scorer, one_blas_thread

logger = logging.getLogger(__name__)


class Codec:
    """A chain of projections and a quantizer.

    Passage tokens are projected and quantized; query tokens are projected and stay float32. Scores are
    inner products in the space behind the projections.

    Args:
        spec: the codec as text; `parse_codec(spec)` makes the same one.
        projections: applied in order.
        quantizer: the stored form.
        saliency: what tells how salient tokens are, and keeps it in a byte; None if nothing asks for it.
    """

    def __init__(
        self, spec: str, projections: list[Projection], quantizer: Quantizer, saliency: Saliency | None = None
    ) -> None:
        self.spec = spec
        self._projections = projections
        self._quantizer = quantizer
        self._saliency = saliency
        self._width: int | None = None

    @property
    def datatype(self) -> Datatype | None:
        """What Qdrant stores the vectors as; None where they become bytes that only this library scores."""
        return self._quantizer.datatype

    @property
    def saliency(self) -> Saliency:
        """What tells how salient tokens are.

        Raises:
            RecipeError: nothing asks for it.
        """
        if self._saliency is None:
            raise RecipeError(f"codec {self.spec} was made without saliency")
        return self._saliency

    @property
    def sample(self) -> int:
        """How many token vectors `fit` wants to see; 1 where it learns nothing from them."""
        return max(part.sample for part in (*self._projections, self._quantizer))

    @property
    def least_sample(self) -> float:
        """With how many fewer token vectors `fit` warns."""
        return self._quantizer.sample / 20

    @property
    def learns(self) -> bool:
        """Whether `fit` learns from its sample; else any sample does."""
        return self.sample > 1

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
        """Stored bytes of one token of an encoder whose tokens have this width, without its saliency."""
        return self._quantizer.bytes_per_token(self.width(width))

    @property
    def stored_row_bytes(self) -> int:
        """Bytes of one row of what `encode` gives."""
        return self.bytes_per_token(self._fitted_width())

    def check(self, width: int) -> None:
        """Look whether `fit` will work on token vectors of this width.

        Raises:
            RecipeError: a width does not divide, or a trained layer is missing or made for another model.
            MissingExtra: the quantizer is fitted by a package that is not installed.
        """
        for _, part, before in self._parts(width):
            part.check(before)

    def fit(self, tokens: Float32, seed: int = 0, saliency: Float32 | None = None) -> Codec:
        """Learn from a sample; deterministic for a seed.

        Args:
            tokens: (N, w) float32 token vectors, N ≥ 1.
            seed: of the random parts.
            saliency: (N,) float32 of the same tokens, where it will be stored; None where it only prunes.

        Returns:
            The codec itself.

        Raises:
            InputError: the sample is empty, or a row is not finite or zero (it is named).
            MissingExtra: the quantizer is fitted by a package that is not installed.
        """
        if tokens.ndim != 2 or len(tokens) == 0:
            raise InputError(f"a codec is fitted on a matrix of token vectors, got shape {tokens.shape}")
        check_rows(tokens, nonzero=True)
        width = tokens.shape[1]
        self.check(width)
        if len(tokens) < self.least_sample:
            logger.warning(
                "codec %s is fitted on %d token vectors, of the %d it wants; begin with more documents",
                self.spec,
                len(tokens),
                self._quantizer.sample,
            )
        self._learn(self._projections, tokens, seed)
        if self._saliency is not None:
            self._saliency.fit(np.ones(1, np.float32) if saliency is None else saliency)
        self._width = width
        return self

    def continued(self, base: Codec, tokens: Float32, seed: int = 0) -> Codec:
        """Learn from vectors that a fitted codec has projected, taking over its projections.

        Args:
            base: its projections are the first ones of this codec.
            tokens: (N, d) float32, in the scored space of `base`.
            seed: of the random parts.

        Returns:
            The codec itself.

        Raises:
            InputError: this codec does not begin with the projections of `base`.
        """
        rest, width = self._after(base), base._fitted_width()
        for theirs, (_, own, before) in zip(base._projections, self._parts(width), strict=False):
            own.load(theirs.state(), before)
        self._learn(rest, tokens, seed)
        if self._saliency is not None:
            self._saliency.load(base.saliency.state(), width)
        self._width = width
        return self

    def _learn(self, projections: list[Projection], tokens: Float32, seed: int) -> None:
        """Fit these projections, which are the last ones, and the quantizer."""
        for projection in projections:
            tokens = projection.fit(tokens, seed)
        self._quantizer.fit(tokens, seed)

    def project_from(self, base: Codec, tokens: Float32) -> Float32:
        """(n, d) float32 vectors in the scored space of `base` to this codec's, see `continued`."""
        with one_blas_thread():
            return _projected(tokens, self._after(base))

    def encode_from(self, base: Codec, tokens: Float32) -> NDArray[Any]:
        """(n, d) float32 vectors in the scored space of `base` to stored rows, see `continued`."""
        return self._quantizer.encode(self.project_from(base, tokens))

    def _after(self, base: Codec) -> list[Projection]:
        """The projections that come after those of another codec."""
        theirs = [projection.spec for projection in base._projections]
        if [projection.spec for projection in self._projections[: len(theirs)]] != theirs:
            raise InputError(f"codec {self.spec} does not begin with the projections of {base.spec}")
        return self._projections[len(theirs) :]

    def encode(self, tokens: Float32) -> NDArray[Any]:
        """(n, w) float32 token vectors to (n, …) stored rows.

        Raises:
            InputError: the codec is not fitted, a row is not finite or zero, or the width is another.
        """
        self._check_width(tokens)
        check_rows(tokens, nonzero=True)
        return self._quantizer.encode(_projected(tokens, self._projections))

    def decode(self, codes: NDArray[Any]) -> Float32:
        """Stored rows to (n, d) float32 vectors in the scored space."""
        self._fitted_width()
        return self._quantizer.decode(codes)

    def means(self, codes: NDArray[Any], lengths: NDArray[np.integer]) -> Float32:
        """(P, d) float32 means of the decoded rows of each passage.

        Args:
            codes: (N, …) stored rows, one passage after another.
            lengths: (P,) rows of each passage, each at least 1, Σ = N.
        """
        self._fitted_width()
        means: Float32 = self._quantizer.sums(codes, lengths) / np.asarray(lengths, np.float32)[:, None]
        return means

    @property
    def centers(self) -> bool:
        """Whether a mean is subtracted first."""
        return isinstance(next(iter(self._projections), None), Center)

    def encode_query(self, tokens: Float32, mean: Float32 | None = None) -> Float32:
        """(m, w) float32 query tokens to (m, d) float32 in the scored space.

        Args:
            tokens: of a query, or of a passage that is compared as one.
            mean: (w,) float32 that is subtracted in place of the passages' mean; without effect unless this
                codec `centers`.
        """
        self._check_width(tokens)
        with one_blas_thread():
            first = next(iter(self._projections), None)
            if mean is not None and isinstance(first, Center):
                return _projected(first.apply(tokens, mean), self._projections[1:])
            return _projected(tokens, self._projections)

    def scorer(self, query: Float32, device: str = "cpu") -> Scorer:
        """Ready to score stored rows, straight from their codes.

        Args:
            query: (m, d) float32 from `encode_query`.
            device: "cpu" or a CUDA device.

        Returns:
            For `connector.scoring.maxsim.maxsim`; its similarities are `decode(codes) @ query.T` up to
            rounding.
        """
        self._fitted_width()
        with one_blas_thread():
            return self._quantizer.scorer(np.require(query, np.float32, ["C", "W"]), device)

    def stored(self, data: bytes) -> NDArray[Any]:
        """The stored rows whose bytes (`encode(…).tobytes()`) these are.

        Raises:
            InputError: the codec is not fitted, or the bytes are no whole number of rows, or Qdrant's.
        """
        row = self.stored_row_bytes
        if self.datatype in TURBO:
            raise InputError(f"bytes of {self.spec} are Qdrant's; read the vectors from Qdrant")
        if len(data) % row:
            raise InputError(f"{len(data)} bytes are not rows of {row} bytes ({self.spec}); ingest again")
        dtype = self._quantizer.dtype
        return np.frombuffer(data, dtype).reshape(-1, row // dtype.itemsize)

    def save(self) -> bytes:
        """The fitted codec as one safetensors file."""
        arrays = {
            f"{prefix}{name}": array
            for prefix, part, _ in self._parts(self._fitted_width())
            for name, array in part.state().items()
        }
        arrays["width"] = np.array([self._fitted_width()], np.int64)
        arrays["spec"] = np.frombuffer(self.spec.encode(), np.uint8)
        return save_safetensors(arrays)

    def load(self, data: bytes) -> Codec:
        """Take over what `save` of a codec of the same spec gave, or nothing.

        Raises:
            InputError: the bytes are not such a file.
        """
        try:
            arrays = load_arrays(data)
            spec, sizes = arrays.pop("spec").tobytes().decode(), arrays.pop("width")
            if spec != self.spec:
                raise ValueError(f"it is a {spec}")
            (width,) = sizes.tolist()
            if sizes.dtype != np.int64 or width < 1:
                raise ValueError(f"it is for vectors of width {width} ({sizes.dtype})")
            check_learned(arrays)
            loaded = copy.deepcopy(self)
            for prefix, part, before in loaded._parts(width):
                own = {key[len(prefix) :]: it for key, it in arrays.items() if key.startswith(prefix)}
                part.load(own, before)
            loaded.bytes_per_token(width)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a saved codec {self.spec}: {error!r:.300}; restore its file") from error
        vars(self).update(vars(loaded), _width=width)
        return self

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 of `save()`."""
        return hashlib.sha256(self.save()).hexdigest()[:16]

    def _check_width(self, tokens: Float32) -> None:
        width = self._fitted_width()
        if tokens.ndim != 2 or tokens.shape[1] != width:
            raise InputError(
                f"codec {self.spec} is for width {width}, got shape {tokens.shape}; use the encoder it had"
            )

    def _parts(self, width: int) -> Iterator[tuple[str, Part | Saliency, int]]:
        """What has a state, what stands before its arrays' names in a file, and the width that it takes."""
        before = width
        for index, projection in enumerate(self._projections):
            yield f"{index}.", projection, before
            before = projection.width(before)
        yield f"{len(self._projections)}.", self._quantizer, before
        if self._saliency is not None:
            yield "saliency.", self._saliency, width

    def _fitted_width(self) -> int:
        if self._width is None:
            raise InputError(f"codec {self.spec} is not fitted; call fit on a sample of token vectors first")
        return self._width


def _projected(tokens: Float32, projections: list[Projection]) -> Float32:
    for projection in projections:
        tokens = projection.apply(tokens)
    return tokens
