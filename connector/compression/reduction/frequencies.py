"""How often each token occurs in a corpus: what rarity, on both sides, is measured by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from connector.core.errors import InputError
from connector.core.io import load_arrays
from connector.core.types import Embedding, Float32, Int32

Counts = NDArray[np.int64]


_NONE: Counts = np.zeros(0, np.int64)


_MOST = 2**53
"""That anything is counted to; floats hold all whole numbers up to it."""


class Frequencies:
    """Token counts of a corpus, by token id. Threads may read while one adds: they see all of it or nothing.

    Args:
        passages: N, how many passages were counted.
        document: (V,) int64, how many passages have the token: df.
        collection: (V,) int64, how often the token occurs in all of them: cf.
    """

    def __init__(self, passages: int = 0, document: Counts = _NONE, collection: Counts = _NONE) -> None:
        self._counts = passages, document, collection

    @property
    def passages(self) -> int:
        """N, how many passages were counted."""
        return self._counts[0]

    @property
    def document(self) -> Counts:
        """(V,) int64 df."""
        return self._counts[1]

    @property
    def collection(self) -> Counts:
        """(V,) int64 cf."""
        return self._counts[2]

    def add(self, embeddings: Sequence[Embedding]) -> None:
        """Count passages, each before any of its rows was dropped."""
        self.add_ids([embedding.token_ids for embedding in embeddings])

    def add_ids(self, ids: Sequence[Int32]) -> None:
        """Count passages.

        Args:
            ids: of each passage's tokens, (n,) int32.
        """
        passages, document, collection = self._counts
        self._counts = passages + len(ids), _more(document, map(np.unique, ids)), _more(collection, ids)

    def idf(self, token_ids: Int32) -> Float32:
        """(n,) inverse document frequency, ln(1 + (N − df + ½) / (df + ½)), as in BM25; never negative.

        Raises:
            InputError: no passage was counted.
        """
        passages, document, _ = self._counted()
        df = _of(document, token_ids)
        idf: Float32 = np.log1p((passages - df + 0.5) / (df + 0.5)).astype(np.float32)
        return idf

    def icf(self, token_ids: Int32) -> Float32:
        """(n,) inverse collection frequency, ln((C + 1) / (cf + 1)) for C tokens in all.

        Raises:
            InputError: no passage was counted.
        """
        _, _, collection = self._counted()
        icf: Float32 = np.log((collection.sum() + 1) / (_of(collection, token_ids) + 1)).astype(np.float32)
        return icf

    def _counted(self) -> tuple[int, Counts, Counts]:
        if not self.passages:
            raise InputError("no token frequencies: count passages of the corpus with Frequencies.add first")
        return self._counts

    def save(self) -> bytes:
        """The counts as one safetensors file."""
        passages, document, collection = self._counts
        counted = np.array([passages], np.int64)
        return save_safetensors({"passages": counted, "document": document, "collection": collection})

    def load(self, data: bytes) -> Frequencies:
        """Take over what `save` gave.

        Raises:
            InputError: the bytes are not such a file.
        """
        try:
            arrays = load_arrays(data)
            number, document, collection = (arrays[key] for key in ("passages", "document", "collection"))
            types = {str(it.dtype) for it in (number, document, collection)}
            if types != {"int64"} or document.ndim != 1 or document.shape != collection.shape:
                raise ValueError(f"counts of shapes {document.shape} and {collection.shape}, {types}")
            (passages,) = number.tolist()
            in_order = (document >= 0) & (document <= passages) & (document <= collection)
            if not in_order.all() or not 0 <= passages <= _MOST or collection.sum(dtype=float) > _MOST:
                raise ValueError(f"counts that {passages} passages cannot have")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not saved token frequencies: {error!r:.300}; restore their file") from error
        self._counts = passages, document, collection
        return self


def _more(counts: Counts, token_ids: Iterable[Int32]) -> Counts:
    """The counts and those of more tokens, some of which may be beyond the vocabulary so far."""
    total: Counts = np.bincount(np.concatenate([_NONE, *token_ids]), minlength=len(counts))
    total[: len(counts)] += counts
    return total


def _of(counts: Counts, token_ids: Int32) -> Counts:
    """(n,) the counts of these tokens; 0 for those that were never seen."""
    known = token_ids < len(counts)
    found = np.zeros(len(token_ids), np.int64)
    found[known] = counts[token_ids[known]]
    return found
