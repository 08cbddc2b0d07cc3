"""How often each token occurs in a corpus: what rarity, on both sides, is measured by."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from connector.errors import InputError
from connector.types import Embedding, Float32, Int32

Counts = NDArray[np.int64]


class Frequencies:
    """Token counts of a corpus, by token id.

    Attributes:
        passages: N, how many passages were counted.
        document: (V,) int64, how many passages have the token: df.
        collection: (V,) int64, how often the token occurs in all of them: cf.
    """

    def __init__(self) -> None:
        self.passages = 0
        self.document: Counts = np.zeros(0, np.int64)
        self.collection: Counts = np.zeros(0, np.int64)

    def add(self, embeddings: Iterable[Embedding]) -> None:
        """Count passages, each before any of its rows was dropped."""
        for embedding in embeddings:
            ids, times = np.unique(embedding.token_ids, return_counts=True)
            missing = int(ids.max()) + 1 - len(self.document)
            if missing > 0:
                self.document = np.pad(self.document, (0, missing))
                self.collection = np.pad(self.collection, (0, missing))
            self.document[ids] += 1
            self.collection[ids] += times
            self.passages += 1

    def idf(self, token_ids: Int32) -> Float32:
        """(n,) inverse document frequency, ln(1 + (N − df + ½) / (df + ½)), as in BM25; never negative.

        Raises:
            InputError: no passage was counted.
        """
        df = self._of(self.document, token_ids)
        idf: Float32 = np.log1p((self.passages - df + 0.5) / (df + 0.5)).astype(np.float32)
        return idf

    def icf(self, token_ids: Int32) -> Float32:
        """(n,) inverse collection frequency, ln((C + 1) / (cf + 1)) for C tokens in all.

        Raises:
            InputError: no passage was counted.
        """
        cf = self._of(self.collection, token_ids)
        icf: Float32 = np.log((self.collection.sum() + 1) / (cf + 1)).astype(np.float32)
        return icf

    def _of(self, counts: Counts, token_ids: Int32) -> Counts:
        if not self.passages:
            raise InputError("no token frequencies: count passages of the corpus with Frequencies.add first")
        known = token_ids < len(counts)
        found = np.zeros(len(token_ids), np.int64)
        found[known] = counts[token_ids[known]]
        return found

    def save(self) -> bytes:
        """The counts as one safetensors file."""
        passages = np.array([self.passages], np.int64)
        return save_safetensors(
            {"passages": passages, "document": self.document, "collection": self.collection}
        )

    def load(self, data: bytes) -> Frequencies:
        """Take over what `save` gave.

        Raises:
            InputError: the bytes are not such a file.
        """
        try:
            arrays = load_safetensors(data)
            # The file's arrays cannot be written to, and more passages may come.
            document, collection = (arrays[key].astype(np.int64) for key in ("document", "collection"))
            if document.ndim != 1 or document.shape != collection.shape:
                raise ValueError(f"counts of shapes {document.shape} and {collection.shape}")
            (passages,) = arrays["passages"].tolist()
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"not saved token frequencies: {error!r}; restore their file") from error
        self.passages, self.document, self.collection = passages, document, collection
        return self
