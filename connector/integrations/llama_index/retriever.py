"""A retriever over a collection."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters
from qdrant_client import models

from connector.api.async_connector import AsyncConnector
from connector.api.connector import Connector
from connector.collection.search.search import CandidatesBy, Rerank
from connector.core.errors import InputError
from connector.core.types import Hits
from connector.integrations.llama_index.filters import filter_of
from connector.integrations.llama_index.nodes import node_of
from connector.scoring.alignment import Alignment


class SearchOptions(TypedDict, total=False):
    """What a retriever passes on to `Connector.search`."""

    rerank: Rerank | None
    candidates: int
    candidates_by: CandidatesBy
    cls_weight: float | None
    alignment: str | Alignment | None


class LateInteractionRetriever(BaseRetriever):
    """Nodes of a collection, with the scores of their hits.

    What is searched for is the text of a query, not its embedding strings (HyDE) or image.
    `connector.explain(query, node.node_id)` says which words a node was found by.

    Args:
        connector: of the collection, whose nodes `documents_of` made; other documents do as well. An
            `AsyncConnector` on a server has to be awaited: `aretrieve`.
        similarity_top_k: how many nodes.
        filters: of LlamaIndex (see `filter_of`) or of Qdrant.
        callback_manager, object_map: as of every retriever.
        search: `rerank`, `candidates`, `candidates_by`, `cls_weight`, `alignment`, as in `Connector.search`.

    Raises:
        InputError: the filters cannot be used.
    """

    def __init__(
        self,
        connector: Connector | AsyncConnector,
        *,
        similarity_top_k: int = 10,
        filters: MetadataFilters | models.Filter | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        **search: Unpack[SearchOptions],
    ) -> None:
        if not isinstance(connector, Connector | AsyncConnector):
            raise InputError(f"connector is {connector!r:.80}; give a Connector or an AsyncConnector")
        self._connector = connector
        self._search: dict[str, Any] = {"k": similarity_top_k, "filter": filter_of(filters), **search}
        super().__init__(callback_manager=callback_manager, object_map=object_map)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        connector = self._connector
        waiting = connector.connector if isinstance(connector, AsyncConnector) else connector
        return _scored(waiting.search(query_bundle.query_str, **self._search))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if isinstance(self._connector, AsyncConnector):
            return _scored(await self._connector.search(query_bundle.query_str, **self._search))
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _scored(hits: Hits) -> list[NodeWithScore]:
    return [NodeWithScore(node=node_of(hit), score=hit.score) for hit in hits]
