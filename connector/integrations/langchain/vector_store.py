"""A collection as a LangChain vector store."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from connector.api.connector import Connector
from connector.collection.documents.document_state import scan
from connector.collection.recipe import Recipe
from connector.core.errors import InputError
from connector.encoders import Model
from connector.integrations import common
from connector.integrations.common import Held, awaited
from connector.integrations.langchain.documents import of_texts, restored, stored
from connector.integrations.langchain.search_types import diverse, relevant
from connector.integrations.langchain.store_retriever import StoreRetriever


class LateInteractionVectorStore(VectorStore):
    """A collection as a vector store.

    Methods that search take the options of `Connector.search`: `filter` (a `qdrant_client.models.Filter` on
    metadata keys), `candidates`, `candidates_by`, `rerank`, `fusion`, `feedback`, `alignment`, `offset`,
    `min_similarity`, `mmr`, `group_by`, `group_size`. What they find is a document's best passage; a title,
    if LangChain has not written the document, is metadata "title".

    Args:
        collection: a collection's name, which is made if it is missing; or a `Connector` or `AsyncConnector`,
            which stays open when the store is closed. Awaited methods use the threads of the latter.
        recipe: of a new collection; one that is there must have it, if it is given.
        model: a model id or folder, or an encoder of your own, as in `Connector.open`.
        place: where the collection is: path, url and api_key, or client, and what else `Connector.create`
            takes.

    Raises:
        InputError: the arguments do not go together, or the collection that is there has another recipe.
        CollectionError: it was made by another program.
        StoreError: the folder is locked, or no server answers.
    """

    def __init__(
        self,
        collection: str | Held,
        *,
        recipe: str | os.PathLike[str] | Recipe | None = None,
        model: Model | None = None,
        **place: Any,
    ) -> None:
        self._owned = isinstance(collection, str)
        self._held = common.taken_or_opened(collection, recipe=recipe, model=model, **place)

    @property
    def connector(self) -> Connector:
        """The synchronous connector, to explain, to count, to adapt."""
        return common.synchronous(self._held)

    @classmethod
    def from_documents(
        cls, documents: list[Document], embedding: Embeddings | None = None, **kwargs: Any
    ) -> Self:
        """A store with these documents in it, besides those that are there.

        Args:
            documents: all are checked before the collection is made or written.
            embedding: none; the collection has its own encoder, which `model` names.
            kwargs: the arguments of the store, and `ids`, as in `add_documents`.

        Raises:
            InputError: an embedding is given; or as the store and `add_documents` say.
        """
        if embedding is not None:
            kind = type(embedding).__name__
            raise InputError(f"embedding is a {kind}, but the collection has its own encoder; give model=")
        ours = stored(documents, kwargs.pop("ids", None))
        common.check(ours)
        store = cls(**kwargs)
        try:
            common.write(store.connector, ours)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> Self:
        """`from_documents` of texts and their metadata."""
        return cls.from_documents(of_texts(texts, metadatas), embedding, **kwargs)

    @classmethod
    async def afrom_documents(cls, *args: Any, **kwargs: Any) -> Self:
        """`from_documents`, awaited, with the same arguments."""
        made = functools.partial(cls.from_documents, *args, **kwargs)
        return await common.in_thread(kwargs.get("collection"), made)

    @classmethod
    async def afrom_texts(cls, *args: Any, **kwargs: Any) -> Self:
        """`from_texts`, awaited, with the same arguments."""
        made = functools.partial(cls.from_texts, *args, **kwargs)
        return await common.in_thread(kwargs.get("collection"), made)

    def add_documents(
        self, documents: list[Document], *, ids: Sequence[str | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """Write documents, replacing those with the same ids.

        Args:
            documents: all are checked before the first is written.
            ids: in place of the documents' own; those that are None are made.
            kwargs: only `batch_size`, which LangChain's `index` gives; batches have a size of their own.

        Returns:
            The ids, in the order of the documents.

        Raises:
            DocumentError: a document cannot be taken, such as one whose text is blank, or whose metadata JSON
                does not have; nothing is written.
            InputError: there is not one id for each document.
            PointsRefused: Qdrant refuses some documents; the others are written.
        """
        if unknown := kwargs.keys() - {"batch_size"}:
            raise InputError(f"adding documents has no option {', '.join(sorted(unknown))}; leave it out")
        ours = stored(documents, ids)
        common.write(self.connector, ours)
        return [document.id for document in ours]

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """`add_documents` of texts and their metadata."""
        return self.add_documents(of_texts(texts, metadatas), ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by their ids, by a filter, or all of them.

        Args:
            ids: those that are not there do no harm; None, and no filter, deletes all documents.
            kwargs: `filter`, instead of ids, as in `Connector.delete`.

        Returns:
            True.
        """
        if ids is None and not kwargs:
            self.connector.delete([id_ for id_, _ in scan(self.connector.collection)])
        else:
            self.connector.delete(ids, **kwargs)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by their ids, in this order; those that are not there are left out."""
        return [restored(it) for it in self.connector.get(ids)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The k best documents for a query, best first."""
        return [restored(hit) for hit in self.connector.search(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k best documents with the scores of `Connector.search`: larger is better, without bounds."""
        return [(restored(hit), hit.score) for hit in self.connector.search(query, k, **kwargs)]

    def similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k best documents with their similarities to the query, which mean the same for every query.

        A similarity is a hit's `similarity`: the mean, over the query's tokens, of the similarity to the
        document's most similar one, as the collection aligns them; or, where no tokens are scored, as in
        recipe dense, that of the CLS vectors. LangChain wants it from 0 to 1: negative ones count as 0. The
        order is that of `similarity_search`, which words, feedback and the scale of the candidates decide,
        too.

        Args:
            query: not blank.
            k: how many documents.
            kwargs: options, and `score_threshold`: documents have at least this similarity, which is the
                option `min_similarity`, so that there are k of them if the candidates hold as many; 0 leaves
                out nothing. `connector stats --scores` shows what a collection's own queries give.

        Raises:
            InputError: both of these are given, or one is out of its range.
        """
        hits = self.connector.search(query, **relevant(k=k, **kwargs))
        return [(restored(hit), min(max(hit.similarity or 0.0, 0.0), 1.0)) for hit in hits]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The k best documents that are unlike one another, by the means of their tokens or CLS vectors.

        Args:
            query: not blank.
            k: how many documents.
            fetch_k: how many passages each way of finding candidates finds, which documents are chosen from:
                the option `candidates`, of which LangChain's 20 are a tenth of this library's own.
            lambda_mult: from 1, by score alone, to 0, by difference alone: the option `mmr`.
            kwargs: other options; `candidates` and `mmr` among them count before `fetch_k` and `lambda_mult`.
        """
        asked = diverse(k=k, fetch_k=fetch_k, lambda_mult=lambda_mult, **kwargs)
        return [restored(hit) for hit in self.connector.search(query, **asked)]

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> list[Document]:
        """There is no such search.

        Raises:
            InputError: always: a query has a vector for each token, which the collection's encoder makes.
        """
        raise _by_vector(embedding, "similarity_search")

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,  # noqa: ARG002
        fetch_k: int = 20,  # noqa: ARG002
        lambda_mult: float = 0.5,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> list[Document]:
        """There is no such search.

        Raises:
            InputError: always: a query has a vector for each token, which the collection's encoder makes.
        """
        raise _by_vector(embedding, "max_marginal_relevance_search")

    def as_retriever(self, **kwargs: Any) -> StoreRetriever:
        """The store as a retriever, whose `batch` and `abatch` search for all queries together.

        Args:
            kwargs: `search_type`: "similarity", "mmr" or "similarity_score_threshold"; `search_kwargs`:
                options, with the second type `fetch_k` and `lambda_mult`, with the third `score_threshold`;
                and what else LangChain's retrievers take, such as `tags`.
        """
        tags = kwargs.pop("tags", None) or self._get_retriever_tags()
        return StoreRetriever(vectorstore=self, connector=self._held, tags=tags, **kwargs)

    aadd_documents = awaited(add_documents)
    aadd_texts = awaited(add_texts)
    adelete = awaited(delete)
    aget_by_ids = awaited(get_by_ids)
    asimilarity_search = awaited(similarity_search)
    asimilarity_search_with_score = awaited(similarity_search_with_score)
    asimilarity_search_with_relevance_scores = awaited(similarity_search_with_relevance_scores)
    amax_marginal_relevance_search = awaited(max_marginal_relevance_search)

    def close(self) -> None:
        """Release the folder or connection, unless a connector was given. Calling it twice is harmless."""
        if self._owned:
            self.connector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _by_vector(embedding: Any, instead: str) -> InputError:
    return InputError(
        f"embedding is one vector, {embedding!r:.40}, and a query has one for each token, which the "
        f"collection's own encoder makes; give the text to {instead}"
    )
