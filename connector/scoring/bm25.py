"""Words as sparse vectors: BM25, whose inverse document frequencies Qdrant keeps."""

from __future__ import annotations

import numpy as np
import qdrant_edge as edge

from connector.core.errors import RecipeError
from connector.core.types import Sparse


class BM25:
    """Term weights by which Qdrant, with the IDF modifier, scores BM25.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with k = 1.2,
    b = 0.75 and an average length of 256 words, as Qdrant's own model of this name has them. Words are
    lowercased, stop words left out and the rest stemmed.

    Args:
        language: such as "english" or "german"; Qdrant's names, or ISO 639-1's two letters.

    Raises:
        RecipeError: the language is not known.
    """

    def __init__(self, language: str) -> None:
        try:
            self._model = edge.Bm25(edge.Bm25Config(language=language))
        except ValueError as error:
            raise RecipeError(f"lexical: {error}; give one such as english, german or french") from None

    def passage(self, text: str) -> Sparse:
        """The weights of a passage's words."""
        return _sparse(self._model.embed_document(text))

    def query(self, text: str) -> Sparse:
        """The words of a query, each once."""
        return _sparse(self._model.embed_query(text))


def _sparse(vector: edge.SparseVector) -> Sparse:
    return Sparse(np.asarray(vector.indices, np.uint32), np.asarray(vector.values, np.float32))
