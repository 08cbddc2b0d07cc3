"""A retriever and a postprocessor."""

from __future__ import annotations

import os
from typing import Any, Unpack

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores import MetadataFilters
from pydantic import Field, PrivateAttr
from qdrant_client import models

from connector.api.async_connector import AsyncConnector
from connector.api.connector import Connector
from connector.api.reranker import Reranker
from connector.collection.recipe import Recipe
from connector.collection.search.options import SearchKeywords, search_options
from connector.core.arguments import checked
from connector.core.errors import InputError
from connector.encoders import DEFAULT_MODEL, Model
from connector.integrations.common import awaited, synchronous
from connector.integrations.llama_index.conversion import encoded_texts, filter_of, node_of


class LateInteractionRetriever(BaseRetriever):
    """Nodes of a collection, with the scores of their hits.

    What is searched for is the text of a query, not its embedding strings (HyDE) or image.
    `connector.explain(query, node.node_id)` says which words a node was found by. LlamaIndex's retrievers
    have no method for several queries; `connector.search_batch` and `node_of` find the nodes of many at once.

    Args:
        connector: of the collection, whose nodes `documents_of` made; other documents do as well. An
            `AsyncConnector` on a server has to be awaited: `aretrieve`.
        similarity_top_k: how many nodes.
        filters: of LlamaIndex (see `filter_of`) or of Qdrant.
        callback_manager, object_map: as of every retriever.
        search: other options of `Connector.search`, such as `candidates`, `offset`, `min_similarity`, `mmr`,
            `group_by` and `group_size`. LlamaIndex keeps a node once, in its first group.

    Raises:
        InputError: the filters cannot be used.
    """

    @checked
    def __init__(
        self,
        connector: Connector | AsyncConnector,
        *,
        similarity_top_k: int = 10,
        filters: MetadataFilters | models.Filter | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        **search: Unpack[SearchKeywords],
    ) -> None:
        self._held = connector
        self._search: dict[str, Any] = {"k": similarity_top_k, "filter": filter_of(filters), **search}
        search_options(**self._search)
        super().__init__(callback_manager=callback_manager, object_map=object_map)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = synchronous(self._held).search(query_bundle.query_str, **self._search)
        return [NodeWithScore(node=node_of(hit), score=hit.score) for hit in hits]

    _aretrieve = awaited(_retrieve)


class LateInteractionRerank(BaseNodePostprocessor):
    """Scores nodes by MaxSim, as a collection of the recipe would; each call encodes them.

    What is scored is the text with the metadata in front, except for `excluded_embed_metadata_keys`, as in
    LlamaIndex's own rerankers; of metadata that does not fit the model's window beside the text, only the
    first words. Nodes without either score zero. The nodes given stay as they are.

    Args:
        top_n: how many nodes are kept.
        model: a model id or folder, or an encoder, of which a serialized postprocessor keeps the name.
        recipe: how tokens are reduced and aligned, as in `connector.Reranker`.
        device: such as "cpu" or "cuda"; by default the best there is.
        keep_retrieval_score: whether the metadata says the score that a node came with, as "retrieval_score".

    Raises:
        ModelError: the model cannot be loaded.
        RecipeError: the recipe stores no tokens, or has to learn from a collection.
    """

    top_n: int = Field(gt=0)
    model: str
    recipe: str | Recipe | None
    device: str | None
    keep_retrieval_score: bool
    _reranker: Reranker = PrivateAttr()

    def __init__(
        self,
        top_n: int = 5,
        model: Model = DEFAULT_MODEL,
        recipe: str | Recipe | None = None,
        device: str | None = None,
        keep_retrieval_score: bool = False,
    ) -> None:
        name = os.fspath(model) if isinstance(model, str | os.PathLike) else model.name
        given = {"recipe": recipe, "device": device, "keep_retrieval_score": keep_retrieval_score}
        super().__init__(**dict[str, Any](top_n=top_n, model=name, **given))
        self._reranker = Reranker(model, self.recipe, device)

    @classmethod
    def class_name(cls) -> str:
        return "LateInteractionRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise InputError("query_bundle is None; give the query, as query_str or query_bundle")
        if not nodes:
            return []
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            texts = encoded_texts(self._reranker.encoder, (it.node for it in nodes))
            scores = self._reranker.scores(query_bundle.query_str, texts)
            order = (-scores).argsort(kind="stable")[: self.top_n]
            best = [self._scored(nodes[row], float(scores[row])) for row in order]
            event.on_end(payload={EventPayload.NODES: best})
        return best

    def _scored(self, given: NodeWithScore, score: float) -> NodeWithScore:
        node = given.node
        if self.keep_retrieval_score:
            node = node.model_copy(update={"metadata": {**node.metadata, "retrieval_score": given.score}})
        return given.model_copy(update={"node": node, "score": score})
