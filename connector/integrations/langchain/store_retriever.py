"""A vector store as a retriever, whose batches are searched for together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStoreRetriever

from connector.core.types import Hits
from connector.integrations.common import Held, synchronous
from connector.integrations.langchain.batch import BatchRetriever, Found, handed_out
from connector.integrations.langchain.documents import restored
from connector.integrations.langchain.search_types import diverse, relevant


class StoreRetriever(BatchRetriever, VectorStoreRetriever):
    """What `as_retriever` gives.

    Args:
        connector: that of the store; other arguments are LangChain's.
    """

    connector: Held

    @property
    def _held(self) -> Held:
        return self.connector

    def _search_batch(self, queries: list[str], **kwargs: Any) -> Iterator[Hits]:
        asked = {"k": 4, **self.search_kwargs, **kwargs}
        if self.search_type == "mmr":
            asked = diverse(**asked)
        elif self.search_type == "similarity_score_threshold":
            asked = relevant(**asked)
        return synchronous(self.connector).search_batch(queries, **asked)

    def _get_relevant_documents(
        self, query: str, *, run_manager: Any, found: Found | None = None, **kwargs: Any
    ) -> list[Document]:
        hits = handed_out(found, query)
        if hits is None:
            return super()._get_relevant_documents(query, run_manager=run_manager, **kwargs)
        return [restored(hit) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: Any, found: Found | None = None, **kwargs: Any
    ) -> list[Document]:
        hits = handed_out(found, query)
        if hits is None:
            return await super()._aget_relevant_documents(query, run_manager=run_manager, **kwargs)
        return [restored(hit) for hit in hits]
