"""A Haystack component that puts what any retriever has found in a better order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.core.errors import SerializationError

from connector.api.reranker import Reranker
from connector.core.errors import InputError
from connector.encoders import DEFAULT_MODEL, Encoder
from connector.integrations.haystack.documents import checked


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
