"""Vector quantizers: token vectors as places in learned codebooks."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connector.compression.codecs import scalar_quantization as packing
from connector.compression.codecs.projection import Linear, Rotation
from connector.compression.codecs.scalar_quantization import Ending, Quantizer
from connector.core.errors import RecipeError, require
from connector.core.io import Arrays
from connector.core.registry import Method, count
from connector.core.types import Float32
from connector.scoring.maxsim import Scorer, lookups

if TYPE_CHECKING:
    import torch


faiss = partial(require, "faiss", "faiss")
"""The package, or `MissingExtra`."""


_CENTROID_ROWS = 16
"""Vectors of a sample that a centroid stands for, at least."""


CODEWORDS = 256
"""Of one byte."""


_ROWS = 8192
"""Rows whose distances to a codebook are computed at a time."""


class _Learned(Quantizer):
    """Fitted by faiss."""

    sample = 50_000

    def check(self, width: int) -> None:
        super().check(width)
        faiss()


class Residual(_Learned):
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

    def __init__(self, bits: int) -> None:
        if bits not in (1, 2, 4):
            raise RecipeError(f"residual-{bits} is not known; give 1, 2 or 4 bits a dimension")
        super().__init__(f"residual-{bits}")
        self.bits = bits

    def bytes_per_token(self, width: int) -> int:
        if width * self.bits % 8:
            raise RecipeError(f"{self.spec} needs whole bytes, got width {width}; project to one with pca-D")
        return 4 + width * self.bits // 8

    def shapes(self, width: int, state: Arrays) -> dict[str, tuple[int, ...]]:
        centroids, levels = min(max(len(state["centroids"]), 1), 2**16), 2**self.bits
        return {"centroids": (centroids, width), "cutoffs": (levels - 1,), "buckets": (levels,)}

    def fit(self, tokens: Float32, seed: int) -> None:
        centroids, levels = _centroids(tokens, seed), 2**self.bits
        residuals = tokens - centroids[_nearest(tokens, centroids)]
        cutoffs = np.quantile(residuals, np.arange(1, levels) / levels)
        buckets = np.quantile(residuals, (np.arange(levels) + 0.5) / levels)
        learned = {"centroids": centroids, "cutoffs": cutoffs, "buckets": buckets}
        self._arrays = {name: array.astype(np.float32) for name, array in learned.items()}

    def encode(self, tokens: Float32) -> NDArray[Any]:
        nearest = _nearest(tokens, self._arrays["centroids"])
        centroids = self._arrays["centroids"][nearest]
        cutoffs, buckets = self._arrays["cutoffs"], self._arrays["buckets"]
        levels = np.searchsorted(cutoffs, tokens - centroids, side="right").astype(np.uint8)
        norms = np.linalg.norm(centroids + buckets[levels], axis=1)
        scales = 1 / np.maximum(norms, 1e-4)  # float16 ends at 65,504
        first = packing.to_bytes(nearest, "<u2"), packing.to_bytes(scales, "<f2")
        return np.hstack([*first, packing.pack(levels, self.bits)])

    def decode(self, codes: NDArray[Any]) -> Float32:
        book = self._arrays["centroids"]
        numbers = packing.from_bytes(codes[:, :2], "<u2")[:, 0]
        centroids = book[np.minimum(numbers, len(book) - 1)]  # damaged bytes name the last one
        vectors: Float32 = centroids + self._arrays["buckets"][packing.unpack(codes[:, 4:], self.bits)]
        return vectors * packing.from_bytes(codes[:, 2:4], "<f2").astype(np.float32)

    def scorer(self, query: Float32, device: str) -> Scorer:
        import torch

        book = torch.from_numpy(self._arrays["centroids"])
        levels = packing.byte_tables(query, self._arrays["buckets"])
        tables = torch.cat([book @ torch.from_numpy(query).t(), levels])

        def places(codes: torch.Tensor) -> torch.Tensor:
            number = (codes[:, :1].int() + 256 * codes[:, 1:2].int()).clamp_(max=len(book) - 1)
            return torch.cat([number, packing.byte_places(codes[:, 4:]).add_(len(book))], dim=1)

        def scales(codes: torch.Tensor) -> torch.Tensor:
            return codes[:, 2:4].flatten().view(torch.float16).float()[:, None]

        return lookups(tables, places, device, scales)


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


class Product(_Learned):
    """One byte for each of m parts of a vector: the nearest of 256 codewords of that part.

    Jégou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011; a float query is
    scored by tables (asymmetric distance computation, section III). After `pca-D` it is the compression of
    Ma et al., "Simple and Effective Unsupervised Redundancy Elimination to Compress Dense Vectors for
    Passage Retrieval", EMNLP 2021, whose PCA-256 with PQ2, two dimensions a byte, is "pca-256+pq-128".

    Args:
        parts: m; the width must be divisible by it.
    """

    def __init__(self, parts: int) -> None:
        super().__init__(f"pq-{parts}")
        self.parts = parts

    def bytes_per_token(self, width: int) -> int:
        if width % self.parts:
            raise RecipeError(f"{self.spec} needs a width divisible by {self.parts}, got {width}")
        return self.parts

    def fit(self, tokens: Float32, seed: int) -> None:
        trainer = product_trainer(tokens.shape[1], self.parts, seed)
        trainer.train(repeated(tokens))
        book = faiss().vector_to_array(trainer.centroids)
        self._arrays = {"codewords": book.reshape(self.parts, CODEWORDS, -1).astype(np.float32)}

    def shapes(self, width: int, state: Arrays) -> dict[str, tuple[int, ...]]:  # noqa: ARG002
        return {"codewords": (self.parts, CODEWORDS, width // self.parts)}

    def encode(self, tokens: Float32) -> NDArray[Any]:
        parts = tokens.reshape(len(tokens), self.parts, tokens.shape[1] // self.parts)
        nearest = [_nearest(parts[:, part], book) for part, book in enumerate(self._arrays["codewords"])]
        return np.stack(nearest, axis=1).astype(np.uint8)

    def decode(self, codes: NDArray[Any]) -> Float32:
        book = self._arrays["codewords"]
        vectors: Float32 = book[np.arange(self.parts), codes].reshape(len(codes), self.parts * book.shape[2])
        return vectors

    def scorer(self, query: Float32, device: str) -> Scorer:
        return lookups(packing.part_tables(self._arrays["codewords"], query), packing.byte_places, device)


def _nearest(rows: Float32, book: Float32) -> NDArray[np.intp]:
    """(n,) the codeword of least Euclidean distance to each row."""
    halves = (book * book).sum(axis=1) / 2
    found = [
        (rows[start : start + _ROWS] @ book.T - halves).argmax(axis=1) for start in range(0, len(rows), _ROWS)
    ]
    return np.concatenate([np.empty(0, np.intp), *found])


class OPQ(Linear):
    """The rotation under which product quantization errs least.

    Ge, He, Ke and Sun, "Optimized Product Quantization", TPAMI 2014, the non-parametric solution, by faiss.

    Args:
        parts: of the product quantizer that follows.
    """

    def __init__(self, parts: int) -> None:
        super().__init__(f"opq-{parts}")
        self.parts = parts

    def matrix(self, tokens: Float32, seed: int) -> NDArray[np.floating]:
        width = tokens.shape[1]
        rotation = faiss().OPQMatrix(width, self.parts)
        trainer = product_trainer(width, self.parts, seed)  # faiss keeps no reference to it
        rotation.pq = trainer
        rotation.train(repeated(tokens))
        matrix: NDArray[np.floating] = faiss().vector_to_array(rotation.A).reshape(width, width).T
        return matrix


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


METHODS: tuple[Method[Ending, None], ...] = (
    Method(
        "residual-B",
        "a random rotation, then the nearest centroid and B bits a dimension (1, 2, 4) of what is left",
        "Santhanam et al., ColBERTv2, NAACL 2022; fitted by the extra faiss",
        lambda bits, _: ([Rotation()], Residual(count(bits))),
    ),
    Method(
        "pq-M",
        "one byte for each of M parts: product quantization",
        "Jégou, Douze and Schmid, TPAMI 2011; fitted by the extra faiss",
        lambda parts, _: ([], Product(count(parts))),
    ),
    Method(
        "opq-M",
        "a learned rotation, then the same",
        "Ge, He, Ke and Sun, TPAMI 2014; fitted by the extra faiss",
        lambda parts, _: ([OPQ(count(parts))], Product(count(parts))),
    ),
)
