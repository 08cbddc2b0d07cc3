"""A retriever and a ranker for pipelines."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from haystack import Document, component
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from connector.api.reranker import Reranker
from connector.collection.search.options import search_options
from connector.core.errors import InputError
from connector.encoders import DEFAULT_MODEL, Model
from connector.integrations.common import awaited
from connector.integrations.haystack.conversion import checked, on_payload, restored
from connector.integrations.haystack.document_store import LateInteractionDocumentStore


@component
@dataclass(eq=False, repr=False)
class LateInteractionRetriever:
    """The best documents for a query, each with its score.

    Haystack's components take one query a run, and its `MultiQueryTextRetriever` runs this one for several;
    `document_store.connector.search_batch` finds the hits of many at once.

    Args:
        document_store: which.
        filters: Haystack's.
        top_k: how many documents.
        filter_policy: whether filters of a run replace these or are merged with them.
        search_kwargs: what else `Connector.search` takes: `candidates`, `offset`, `min_similarity`, `mmr`,
            `group_by`, `group_size` and so on, such as `{"mmr": 0.5}`.

    Raises:
        InputError: an argument cannot be used.
    """

    document_store: LateInteractionDocumentStore
    filters: dict[str, Any] | None = None
    top_k: int = 10
    filter_policy: FilterPolicy | str = FilterPolicy.REPLACE
    search_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.document_store, LateInteractionDocumentStore):
            raise InputError(f"give a LateInteractionDocumentStore, not {self.document_store!r:.80}")
        _check_top_k(self.top_k)
        _check_options(self.search_kwargs)
        self.filter_policy = FilterPolicy(self.filter_policy).value  # as pipelines are saved

    def warm_up(self) -> None:
        """Open the collection and load its model."""
        _ = self.document_store.connector.encoder

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
        search_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, list[Document]]:
        """Search.

        Args:
            query: not blank.
            filters, top_k: for this run.
            search_kwargs: for this run, in place of those of the same names, such as `{"offset": 10}`.

        Returns:
            `{"documents": …}`, best first.

        Raises:
            InputError: the query is blank, or an argument cannot be used.
            FilterError: the filter is malformed, or compares what cannot be compared.
        """
        chosen = apply_filter_policy(FilterPolicy(self.filter_policy), self.filters, filters)
        _check_options(search_kwargs)
        hits = self.document_store.connector.search(
            query,
            self.top_k if top_k is None else top_k,
            filter=on_payload(chosen),
            **{**(self.search_kwargs or {}), **(search_kwargs or {})},
        )
        return {"documents": [restored(hit) for hit in hits]}

    run_async = awaited(run)

    def close(self) -> None:
        """Release the store's folder or connection, as Haystack's writer does."""
        self.document_store.close()


@component
@dataclass(eq=False, repr=False)
class LateInteractionRanker:
    """Scores documents by MaxSim; nothing is stored, so each run encodes their texts.

    Args:
        model: a model id or folder, or an encoder of your own, with which no pipeline can be saved.
        recipe: the name of a recipe; by default `default` where it fits the model, else `colbert`.
        top_k: how many documents to keep; by default all.
        device: such as "cpu" or "cuda"; by default the best there is.

    Raises:
        InputError: top_k is less than 1.
    """

    model: Model = DEFAULT_MODEL
    recipe: str | None = None
    top_k: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        _check_top_k(self.top_k)
        if isinstance(self.model, os.PathLike):
            self.model = os.fspath(self.model)

    def warm_up(self) -> None:
        """Load the model; `run` does so where nobody has.

        Raises:
            ModelError: it cannot be loaded.
            RecipeError: the recipe stores no tokens, or has to learn from a collection.
        """
        _ = self._reranker

    @cached_property
    def _reranker(self) -> Reranker:
        return Reranker(self.model, self.recipe, self.device)

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
        _check_top_k(top_k)
        unique = list({it.id: it for it in reversed(checked(documents))}.values())[::-1]
        scores = self._reranker.scores(query, [it.content or "" for it in unique])
        best = (-scores).argsort(kind="stable")[: top_k or self.top_k]
        return {"documents": [replace(unique[row], score=float(scores[row])) for row in best]}

    run_async = awaited(run)


def _check_top_k(top_k: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; it must be at least 1")


def _check_options(search_kwargs: dict[str, Any] | None) -> None:
    if own := {"query", "k", "filter"} & set(search_kwargs or {}):
        raise InputError(f"search_kwargs has {sorted(own)}; give query, top_k and filters in their places")
    search_options(**(search_kwargs or {}))
