"""A retriever and a ranker for pipelines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.core.errors import SerializationError
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from connector.api.reranker import Reranker
from connector.core.errors import InputError
from connector.encoders import DEFAULT_MODEL, Encoder
from connector.integrations.haystack.conversion import checked, on_payload, restored
from connector.integrations.haystack.document_store import LateInteractionDocumentStore


@component
class LateInteractionRetriever:
    """The best documents for a query, each with its score.

    Args:
        document_store: which.
        filters: Haystack's.
        top_k: how many documents.
        filter_policy: whether filters of a run replace these or are merged with them.
        search_kwargs: what else `Connector.search` takes, such as `{"candidates_by": "hybrid"}`.

    Raises:
        InputError: an argument cannot be used.
    """

    def __init__(
        self,
        document_store: LateInteractionDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: FilterPolicy = FilterPolicy.REPLACE,
        search_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(document_store, LateInteractionDocumentStore):
            raise InputError(f"document_store is {document_store!r:.80}; give a LateInteractionDocumentStore")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; it must be at least 1")
        if own := {"query", "k", "filter"} & set(search_kwargs or {}):
            raise InputError(
                f"search_kwargs has {sorted(own)}; give query, top_k and filters in their places"
            )
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.filter_policy = filter_policy
        self.search_kwargs = search_kwargs

    def warm_up(self) -> None:
        """Open the collection and load its model."""
        _ = self.document_store.connector.encoder

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Search.

        Args:
            query: not blank.
            filters, top_k: for this run.

        Returns:
            `{"documents": …}`, best first.

        Raises:
            InputError: the query is blank, or an argument cannot be used.
            FilterError: the filter is malformed, or compares what cannot be compared.
        """
        hits = self.document_store.connector.search(
            query,
            self.top_k if top_k is None else top_k,
            filter=on_payload(apply_filter_policy(self.filter_policy, self.filters, filters)),
            **(self.search_kwargs or {}),
        )
        return {"documents": [restored(hit) for hit in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run` in a thread."""
        found: dict[str, list[Document]] = await asyncio.to_thread(self.run, query, filters, top_k)
        return found

    def close(self) -> None:
        """Release the store's folder or connection, as Haystack's writer does."""
        self.document_store.close()

    def to_dict(self) -> dict[str, Any]:
        """The arguments that this was made with."""
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            search_kwargs=self.search_kwargs,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LateInteractionRetriever:
        """The component that was saved."""
        arguments = dict(data.get("init_parameters", {}))
        if "filter_policy" in arguments:
            arguments["filter_policy"] = FilterPolicy.from_str(arguments["filter_policy"])
        return default_from_dict(cls, {**data, "init_parameters": arguments})


@component
class LateInteractionRanker:
    """Scores documents by MaxSim; nothing is stored, so each run encodes their texts.

    Args:
        model: a model id or folder, or an encoder of your own.
        recipe: the name of a recipe; by default `default` where it fits the model, else `colbert`.
        top_k: how many documents to keep; by default all.
        device: such as "cpu" or "cuda"; by default the best there is.

    Raises:
        InputError: top_k is less than 1.
    """

    def __init__(
        self,
        model: str | Encoder = DEFAULT_MODEL,
        recipe: str | None = None,
        top_k: int | None = None,
        device: str | None = None,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.top_k = _at_least_one(top_k)
        self.device = device
        self._reranker: Reranker | None = None

    def warm_up(self) -> None:
        """Load the model; `run` does so where nobody has.

        Raises:
            ModelError: it cannot be loaded.
            RecipeError: the recipe stores no tokens, or has to learn from a collection.
        """
        self._ready()

    def _ready(self) -> Reranker:
        if self._reranker is None:
            self._reranker = Reranker(self.model, self.recipe, self.device)
        return self._reranker

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Order documents by how well they answer a query.

        Args:
            query: not blank.
            documents: of the same id, the first one counts; those without content score zero.
            top_k: for this run.

        Returns:
            `{"documents": …}`, best first, with their new scores and otherwise as they came.

        Raises:
            InputError: an argument cannot be used.
        """
        most = self.top_k if top_k is None else _at_least_one(top_k)
        unique = list({it.id: it for it in reversed(checked(documents))}.values())[::-1]
        scores = self._ready().scores(query, [it.content or "" for it in unique])
        best = (-scores).argsort(kind="stable")[:most]
        return {"documents": [replace(unique[row], score=float(scores[row])) for row in best]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run` in a thread."""
        ranked: dict[str, list[Document]] = await asyncio.to_thread(self.run, query, documents, top_k)
        return ranked

    def to_dict(self) -> dict[str, Any]:
        """The arguments that this was made with.

        Raises:
            SerializationError: it was given an encoder, which no file can hold.
        """
        if not isinstance(self.model, str):
            raise SerializationError(f"model is {self.model!r:.80}, which cannot be saved; give a model id")
        return default_to_dict(
            self, model=self.model, recipe=self.recipe, top_k=self.top_k, device=self.device
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LateInteractionRanker:
        """The component that was saved."""
        return default_from_dict(cls, data)


def _at_least_one(top_k: int | None) -> int | None:
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; it must be at least 1")
    return top_k
