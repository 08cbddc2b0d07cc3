"""A vector store, for indexes and pipelines that write and delete nodes themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery, VectorStoreQueryResult
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQueryMode
from pydantic import PrivateAttr
from qdrant_client import models

from connector.api.connector import Connector
from connector.core.arguments import checked
from connector.core.errors import InputError
from connector.integrations.common import awaited, write
from connector.integrations.filters import all_of, equal
from connector.integrations.llama_index.conversion import SOURCE, documents_of, filter_of, node_of

_FILTERED = {SOURCE: "keyword"}
"""What nodes are deleted by, which a strict server takes no filter on without an index."""


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

    @checked
    def __init__(self, connector: Connector) -> None:
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
        self._connector.create_index(_FILTERED)
        write(self._connector, documents)
        return [document.id for document in documents]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that come from a document."""
        _refuse(delete_kwargs)
        self._connector.create_index(_FILTERED)  # its nodes may have been written by the connector
        self._connector.delete(filter=equal(SOURCE, [ref_doc_id]))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes that have one of the ids and fit the filters, of which not both may be missing.

        Raises:
            InputError: there are neither, or the filters ask for nothing.
        """
        _refuse(delete_kwargs)
        if node_ids == []:  # no node has one of no ids, though a query's are passed over
            return
        self._connector.delete(filter=self._where(None, node_ids, filters))

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes for the query's text.

        Args:
            query: of mode DEFAULT; or of mode MMR, whose `mmr_threshold` is the option `mmr`: from 1, by
                score alone, to 0, by difference alone; 0.5 if it is not given. Nodes are chosen from the
                candidates: the option `candidates` says how many, in place of a factor to fetch more by.
            kwargs: further options of `Connector.search`; in mode MMR also `mmr_threshold`, which an index's
                retriever has no other place for.

        Raises:
            InputError: the mode is another one, or an option cannot be used.
        """
        mode = VectorStoreQueryMode(query.mode)
        if mode == VectorStoreQueryMode.MMR:
            threshold = kwargs.pop("mmr_threshold", query.mmr_threshold)
            kwargs = {"mmr": 0.5 if threshold is None else threshold, **kwargs}
        elif mode != VectorStoreQueryMode.DEFAULT:
            raise InputError(
                f"query mode {mode.value!r} is not known here; give candidates_by in vector_store_kwargs"
            )
        where = self._where(query.doc_ids, query.node_ids, query.filters)
        hits = self._connector.search(query.query_str or "", query.similarity_top_k, filter=where, **kwargs)
        return VectorStoreQueryResult(
            nodes=[node_of(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    def _where(
        self, doc_ids: list[str] | None, node_ids: list[str] | None, filters: MetadataFilters | None
    ) -> models.Filter | None:
        must: list[Any] = [equal(SOURCE, doc_ids)] if doc_ids else []
        if node_ids:
            point_id = self._connector.collection.point_id
            must.append(models.HasIdCondition(has_id=[point_id(id_, 0) for id_ in node_ids]))
        if filters is not None and filters.filters:
            must.append(filter_of(filters))
        return all_of(must) if must else None

    async_add = awaited(add)
    adelete = awaited(delete)
    adelete_nodes = awaited(delete_nodes)
    aquery = awaited(query)


def _refuse(options: dict[str, Any]) -> None:
    if options:
        raise InputError(f"{', '.join(options)}: this vector store has no such option; leave it out")
