"""A vector store, for indexes and pipelines that write and delete nodes themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from pydantic import PrivateAttr
from qdrant_client import models

from connector.api.bulk_ingest import count_checked
from connector.api.connector import Connector
from connector.core.errors import InputError, PointsRefused
from connector.encoders.chunking import Chunking
from connector.integrations.llama_index.conversion import SOURCE, documents_of, filter_of, node_of

logger = logging.getLogger(__name__)


class LateInteractionVectorStore(BasePydanticVectorStore):
    """A collection as a vector store, which encodes nodes and queries itself.

    `VectorStoreIndex` wants an embedding model all the same: give `MockEmbedding(embed_dim=1)`, whose
    vectors are passed over. Options of `Connector.search` go in `vector_store_kwargs` of a retriever.

    Args:
        connector: of the collection.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    _connector: Connector = PrivateAttr()

    def __init__(self, connector: Connector) -> None:
        if not isinstance(connector, Connector):
            raise InputError(f"connector is {connector!r:.80}; give a Connector")
        super().__init__(stores_text=True)
        self._connector = connector

    @classmethod
    def class_name(cls) -> str:
        return "LateInteractionVectorStore"

    @property
    def client(self) -> Connector:
        """The connector."""
        return self._connector

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes, all of which are checked before the first is written, and give their ids.

        Raises:
            DocumentError: a node cannot be stored; none was written.
            PointsRefused: Qdrant refuses some nodes; the others are written.
        """
        _refuse(kwargs)
        documents = documents_of(nodes)
        count_checked(documents, Chunking(), skip_bad=False)
        report = self._connector.ingest(documents)
        if report.truncated:
            logger.warning("%d nodes do not fit the model's window; split them smaller", report.truncated)
        if report.refused:
            raise PointsRefused(report.refused)
        return [document.id for document in documents]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that come from a document."""
        _refuse(delete_kwargs)
        self._connector.delete(filter=models.Filter(must=[_any_of(SOURCE, [ref_doc_id])]))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes that have one of the ids and fit the filters, of which not both may be missing."""
        _refuse(delete_kwargs)
        self._connector.delete(filter=self._where(node_ids=node_ids, filters=filters))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes for the query's text; further arguments are those of `Connector.search`."""
        mode = VectorStoreQueryMode(query.mode).value
        if mode != VectorStoreQueryMode.DEFAULT:
            raise InputError(
                f"query mode {mode!r} is not known here; leave it, and say how to search with "
                'vector_store_kwargs, such as {"candidates_by": "hybrid"}'
            )
        where = self._where(query.doc_ids, query.node_ids, query.filters)
        hits = self._connector.search(query.query_str or "", query.similarity_top_k, filter=where, **kwargs)
        return VectorStoreQueryResult(
            nodes=[node_of(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    def _where(
        self,
        doc_ids: list[str] | None = None,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
    ) -> models.Filter | None:
        must: list[Any] = []
        if doc_ids:
            must.append(_any_of(SOURCE, doc_ids))
        if node_ids:
            point_id = self._connector.collection.point_id
            must.append(models.HasIdCondition(has_id=[point_id(id_, 0) for id_ in node_ids]))
        if filters is not None and filters.filters:
            must.append(filter_of(filters))
        return models.Filter(must=must) if must else None

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        return await asyncio.to_thread(self.query, query, **kwargs)


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise InputError(f"{', '.join(options)}: this vector store has no such option; leave it out")


def _any_of(key: str, values: list[str]) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchAny(any=values))
