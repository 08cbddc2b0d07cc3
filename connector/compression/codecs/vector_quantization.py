"""Vector quantizers: token vectors as places in learned codebooks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connector.compression.codecs.base import Datatype, Ending, State, number
from connector.compression.codecs.bit_packing import byte_places, byte_tables, pack, part_tables, unpack
from connector.compression.codecs.projection import Linear, Rotation
from connector.core.errors import InputError, MissingExtra, RecipeError
from connector.core.registry import Method
from connector.core.types import Float32
from connector.scoring.maxsim import Scorer, lookups

if TYPE_CHECKING:
    import torch


_CENTROID_ROWS = 16
"""Vectors of a sample that a centroid stands for, at least."""


_ROWS = 8192
"""Rows whose distances to a codebook are computed at a time."""


class Residual:
    """The nearest centroid, and what is left in b bits a dimension: ColBERTv2.

    Santhanam et al., "ColBERTv2", NAACL 2022, section 3.3: k-means with about 16·√N centroids, but of at
    least 16 vectors each, and residuals rounded to 2ᵇ buckets that are quantiles of them all, which is why
    recipes put a rotation before: it makes the coordinates alike. A row is stored as

        centroid    2 bytes, low byte first
        scale       2 bytes, the float16 1 / ‖centroid + residual‖, so that scoring need not normalise
        residual    d·b / 8 bytes, the first coordinate in the highest bits of the first byte

    which is 20 bytes at width 128 and b = 1, and 36 at b = 2.

    Args:
        bits: b, 1, 2 or 4.
    """

    datatype: Datatype | None = None
    dtype = np.dtype(np.uint8)
    sample = 50_000

    def __init__(self, bits: int) -> None:
        if bits not in (1, 2, 4):
            raise RecipeError(f"residual-{bits} is not known; give 1, 2 or 4 bits a dimension")
        self.bits = bits
        self._centroids: Float32 | None = None
        self._buckets = np.empty(0, np.float32)
        self._cutoffs = np.empty(0, np.float32)

    def bytes_per_token(self, width: int) -> int:
        if width * self.bits % 8:
            raise RecipeError(
                f"residual-{self.bits} needs whole bytes, got width {width}; project to one with pca-D"
            )
        return 4 + width * self.bits // 8

    def check(self, width: int) -> None:
        self.bytes_per_token(width)
        faiss()

    def fit(self, tokens: Float32, seed: int) -> None:
        self._centroids = _centroids(tokens, seed)
        residuals = tokens - self._centroids[_nearest(tokens, self._centroids)]
        levels = 2**self.bits
        self._cutoffs = np.quantile(residuals, np.arange(1, levels) / levels).astype(np.float32)
        self._buckets = np.quantile(residuals, (np.arange(levels) + 0.5) / levels).astype(np.float32)

    def state(self) -> State:
        return {"centroids": self._book(), "cutoffs": self._cutoffs, "buckets": self._buckets}

    def load(self, state: State, width: int) -> None:
        centroids, cutoffs, buckets = (
            np.array(state[name], np.float32, order="C")  # torch wants them writable
            for name in ("centroids", "cutoffs", "buckets")
        )
        levels = 2**self.bits
        if (
            centroids.ndim != 2
            or centroids.shape[1] != width
            or not 1 <= len(centroids) <= 2**16
            or cutoffs.shape != (levels - 1,)
            or buckets.shape != (levels,)
        ):
            raise ValueError(
                f"residual-{self.bits} has centroids of shape {centroids.shape}, cutoffs {cutoffs.shape} and "
                f"buckets {buckets.shape} for width {width}"
            )
        self._centroids, self._cutoffs, self._buckets = centroids, cutoffs, buckets

    def encode(self, tokens: Float32) -> NDArray[Any]:
        self.bytes_per_token(tokens.shape[1])
        nearest = _nearest(tokens, self._book())
        centroids = self._book()[nearest]
        levels = np.searchsorted(self._cutoffs, tokens - centroids, side="right").astype(np.uint8)
        norms = np.linalg.norm(centroids + self._buckets[levels], axis=1)
        scales = 1 / np.maximum(norms, 1e-4)  # float16 ends at 65,504
        return np.hstack([_bytes(nearest, "<u2"), _bytes(scales, "<f2"), pack(levels, self.bits)])

    def decode(self, codes: NDArray[Any]) -> Float32:
        book = self._book()
        numbers = np.minimum(_numbers(codes[:, :2], "<u2"), len(book) - 1)  # damaged bytes name the last one
        vectors: Float32 = book[numbers] + self._buckets[unpack(codes[:, 4:], self.bits)]
        return vectors * _numbers(codes[:, 2:4], "<f2").astype(np.float32)[:, None]

    def scorer(self, query: Float32, device: str) -> Scorer:
        import torch

        book = torch.from_numpy(self._book())
        tables = torch.cat([book @ torch.from_numpy(query).t(), byte_tables(query, self._buckets)])

        def places(codes: torch.Tensor) -> torch.Tensor:
            number = (codes[:, :1].int() + 256 * codes[:, 1:2].int()).clamp_(max=len(book) - 1)
            return torch.cat([number, byte_places(codes[:, 4:]).add_(len(book))], dim=1)

        def scales(codes: torch.Tensor) -> torch.Tensor:
            return codes[:, 2:4].flatten().view(torch.float16).float()[:, None]

        return lookups(tables, places, device, scales)

    def _book(self) -> Float32:
        if self._centroids is None:
            raise InputError(f"residual-{self.bits} is not fitted; call fit on a sample of token vectors")
        return self._centroids


def _centroids(tokens: Float32, seed: int) -> Float32:
    """(k, d); the origin alone where there are too few vectors for one centroid."""
    most = min(16 * math.sqrt(len(tokens)), len(tokens) / _CENTROID_ROWS, 2**16)
    if most < 1:
        return np.zeros((1, tokens.shape[1]), np.float32)
    trainer = faiss().Kmeans(
        tokens.shape[1],
        2 ** int(math.log2(most)),
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(tokens),
    )
    trainer.train(np.ascontiguousarray(tokens))
    return np.ascontiguousarray(trainer.centroids, dtype=np.float32)


class Product:
    """One byte for each of m parts of a vector: the nearest of 256 codewords of that part.

    Jégou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011; a float query is
    scored by tables (asymmetric distance computation, section III). After `pca-D` it is the compression of
    Ma et al., "Simple and Effective Unsupervised Redundancy Elimination to Compress Dense Vectors for
    Passage Retrieval", EMNLP 2021, whose PCA-256 with PQ2, two dimensions a byte, is "pca-256+pq-128".

    Args:
        parts: m, at least 1; the width must be divisible by it.
    """

    datatype: Datatype | None = None
    dtype = np.dtype(np.uint8)
    sample = 50_000

    def __init__(self, parts: int) -> None:
        if parts < 1:
            raise RecipeError(f"pq-{parts} has no parts; give at least 1")
        self.parts = parts
        self._codewords: Float32 | None = None

    def bytes_per_token(self, width: int) -> int:
        if width % self.parts:
            raise RecipeError(f"pq-{self.parts} needs a width divisible by {self.parts}, got {width}")
        return self.parts

    def check(self, width: int) -> None:
        self.bytes_per_token(width)
        faiss()

    def fit(self, tokens: Float32, seed: int) -> None:
        trainer = product_trainer(tokens.shape[1], self.parts, seed)
        trainer.train(repeated(tokens))
        book = faiss().vector_to_array(trainer.centroids)
        self._codewords = book.reshape(self.parts, CODEWORDS, -1).astype(np.float32)

    def state(self) -> State:
        return {"codewords": self._book()}

    def load(self, state: State, width: int) -> None:
        codewords = np.array(state["codewords"], np.float32, order="C")  # torch wants them writable
        if codewords.shape != (self.parts, CODEWORDS, width // self.parts) or width % self.parts:
            raise ValueError(f"pq-{self.parts} has codewords of shape {codewords.shape} for width {width}")
        self._codewords = codewords

    def encode(self, tokens: Float32) -> NDArray[Any]:
        self.bytes_per_token(tokens.shape[1])
        parts = tokens.reshape(len(tokens), self.parts, tokens.shape[1] // self.parts)
        nearest = [_nearest(parts[:, part], book) for part, book in enumerate(self._book())]
        return np.stack(nearest, axis=1).astype(np.uint8)

    def decode(self, codes: NDArray[Any]) -> Float32:
        book = self._book()
        vectors: Float32 = book[np.arange(self.parts), codes].reshape(len(codes), self.parts * book.shape[2])
        return vectors

    def scorer(self, query: Float32, device: str) -> Scorer:
        parts = query.T.reshape(self.parts, query.shape[1] // self.parts, len(query))
        return lookups(part_tables(self._book(), parts), byte_places, device)

    def _book(self) -> Float32:
        if self._codewords is None:
            raise InputError(f"pq-{self.parts} is not fitted; call fit on a sample of token vectors")
        return self._codewords


def _nearest(rows: Float32, book: Float32) -> NDArray[np.intp]:
    """(n,) the codeword of least Euclidean distance to each row."""
    halves = (book * book).sum(axis=1) / 2
    found = [
        (rows[start : start + _ROWS] @ book.T - halves).argmax(axis=1) for start in range(0, len(rows), _ROWS)
    ]
    return np.concatenate([np.empty(0, np.intp), *found])


def _bytes(numbers: NDArray[Any], dtype: str) -> NDArray[np.uint8]:
    return numbers.astype(dtype)[:, None].view(np.uint8)


def _numbers(codes: NDArray[Any], dtype: str) -> NDArray[Any]:
    """(n,) from (n, 2) bytes."""
    return np.ascontiguousarray(codes).view(dtype)[:, 0]


class OPQ(Linear):
    """The rotation under which product quantization errs least.

    Ge, He, Ke and Sun, "Optimized Product Quantization", TPAMI 2014, the non-parametric solution, by faiss.

    Args:
        parts: of the product quantizer that follows.
    """

    def __init__(self, parts: int) -> None:
        super().__init__(f"opq-{parts}")
        self.parts = parts

    def fit(self, tokens: Float32, seed: int) -> Float32:
        library, width = faiss(), tokens.shape[1]
        rotation = library.OPQMatrix(width, self.parts)
        trainer = product_trainer(width, self.parts, seed)
        rotation.pq = trainer
        rotation.train(repeated(tokens))
        matrix = library.vector_to_array(rotation.A).reshape(width, width).T
        return self._take(matrix, tokens)


METHODS: tuple[Method[Ending, None], ...] = (
    Method(
        "residual-B",
        "a random rotation, then the nearest centroid and B bits a dimension (1, 2, 4) of what is left",
        "Santhanam et al., ColBERTv2, NAACL 2022; fitted by the extra faiss",
        lambda bits, _: ([Rotation()], Residual(number(bits))),
    ),
    Method(
        "pq-M",
        "one byte for each of M parts: product quantization",
        "Jégou, Douze and Schmid, TPAMI 2011; fitted by the extra faiss",
        lambda parts, _: ([], Product(number(parts))),
    ),
    Method(
        "opq-M",
        "a learned rotation, then the same",
        "Ge, He, Ke and Sun, TPAMI 2014; fitted by the extra faiss",
        lambda parts, _: ([OPQ(number(parts))], Product(number(parts))),
    ),
)


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
