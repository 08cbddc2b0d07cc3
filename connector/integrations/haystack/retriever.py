"""A Haystack component that asks a collection."""

from __future__ import annotations

import asyncio
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from connector.core.errors import InputError
from connector.integrations.haystack.documents import restored
from connector.integrations.haystack.filters import on_payload
from connector.integrations.haystack.store import LateInteractionDocumentStore


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
