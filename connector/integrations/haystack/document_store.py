"""A Haystack document store whose documents are found by late interaction."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from dataclasses import replace
from typing import Any

from haystack import Document as HaystackDocument
from haystack import default_from_dict, default_to_dict
from haystack.core.errors import SerializationError
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret
from qdrant_client import QdrantClient

from connector.api.bulk_ingest import count_checked, opened
from connector.api.connector import Connector
from connector.collection.aliases import check_name
from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, scan, states
from connector.collection.recipe import Recipe, get_recipe, load_recipe
from connector.core.errors import InputError
from connector.core.io import batched
from connector.core.types import Document
from connector.encoders import Encoder
from connector.encoders.chunking import Chunking
from connector.integrations.haystack.conversion import checked, on_payload, restored, stored

_WINDOW = 256


class LateInteractionDocumentStore:
    """Documents in one Qdrant collection, which is opened, or made, when it is first needed.

    Documents must have content, which is not split. Their ids, content, meta, score, blob and embeddings come
    back as they were given; the last three stand below the metadata key "_haystack", and no search uses them.

    Args:
        collection: its name, or a `Connector`, which stays yours to close; then nothing else is given.
        path: a folder, for Qdrant in this process.
        url, api_key: a Qdrant server or cluster.
        client: instead, a `QdrantClient` of your own.
        recipe: of a new collection; one that is there must have it, if it is given.
        model: likewise; a model id or folder, or an encoder of your own.
        device: such as "cpu" or "cuda"; by default the best there is.

    Raises:
        InputError: the arguments do not go together.
    """

    def __init__(
        self,
        collection: str | Connector,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: Secret | None = None,
        client: QdrantClient | None = None,
        recipe: str | os.PathLike[str] | Recipe | None = None,
        model: str | Encoder | None = None,
        device: str | None = None,
    ) -> None:
        places = {"path": None if path is None else os.fspath(path), "url": url, "client": client}
        self._place = {key: value for key, value in places.items() if value is not None}
        self._given = isinstance(collection, Connector)
        self._connector = collection if isinstance(collection, Connector) else None
        self.collection = collection.name if isinstance(collection, Connector) else collection
        self._api_key, self._model, self._device = api_key, model, device
        self._recipe = get_recipe(os.fspath(recipe)) if isinstance(recipe, str | os.PathLike) else recipe
        self._opening = threading.Lock()
        others = (*self._place.values(), api_key, recipe, model, device)
        if self._given and any(it is not None for it in others):
            raise InputError(f"collection is {collection!r}, which knows its place and recipe; give it alone")
        if api_key is not None and not isinstance(api_key, Secret):
            raise InputError("api_key is a text, which a saved pipeline would show; give a haystack Secret")
        if not self._given and len(self._place) != 1:
            raise InputError(f"give one of path, url and client, got {' and '.join(self._place) or 'none'}")
        check_name(self.collection)

    @property
    def connector(self) -> Connector:
        """The collection itself, for what Haystack has no words for, such as `explain(query, id)`.

        Raises:
            InputError: the collection that is there has another recipe.
            EncoderMismatch: it was made by another model.
            StoreError: the folder is locked, or no server answers.
        """
        with self._opening:
            if self._connector is None:
                self._connector = self._opened()
            return self._connector

    def _opened(self) -> Connector:
        options: dict[str, Any] = {**self._place, "device": self._device}
        if self._api_key is not None:
            options["api_key"] = self._api_key.resolve_value()
        connector, _ = opened(self.collection, recipe=self._recipe, model=self._model, **options)
        return connector

    def close(self) -> None:
        """Release the folder or connection; what is used again opens it again."""
        with self._opening:
            if self._connector is not None and not self._given:
                self._connector.close()
                self._connector = None

    def to_dict(self) -> dict[str, Any]:
        """The arguments that this store was made with; an API key must be of an environment variable.

        Raises:
            SerializationError: it was made with an object that no file can hold.
        """
        if self._given or "client" in self._place or not isinstance(self._model, str | None):
            raise SerializationError(
                f"the document store of {self.collection!r} was given a connector, client or encoder, which "
                "cannot be saved; give it a path or url, and a model id"
            )
        recipe = None if self._recipe is None else self._recipe.model_dump(exclude_defaults=True)
        return default_to_dict(
            self,
            collection=self.collection,
            **self._place,
            api_key=self._api_key,
            recipe=recipe,
            model=self._model,
            device=self._device,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LateInteractionDocumentStore:
        """The store that was saved; its recipe may also be a name."""
        arguments = dict(data.get("init_parameters", {}))
        if isinstance(arguments.get("recipe"), dict):
            arguments["recipe"] = load_recipe(json.dumps(arguments["recipe"]))
        return default_from_dict(cls, {**data, "init_parameters": arguments})

    def count_documents(self) -> int:
        """How many documents there are."""
        return self._collection.documents()

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many documents match."""
        return len(self._found(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """The documents that match, or all, in no order that means anything.

        Raises:
            FilterError: the filter is malformed, or compares what cannot be compared.
        """
        return [restored(it) for it in self.connector.get(self._found(filters))]

    def write_documents(
        self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Write documents; all are checked before the first is written.

        Args:
            documents: with content.
            policy: what to do with ids that are there, or come twice: FAIL, and NONE likewise; SKIP;
                OVERWRITE, where the last of the same id stays.

        Returns:
            How many were written; with OVERWRITE all.

        Raises:
            DuplicateDocumentError: an id is there; nothing was written.
            InputError: a document cannot be taken, and is named; nothing was written.
            DocumentStoreError: Qdrant refused documents, which are named; the others are written.
        """
        wanted = self._wanted(checked(documents), policy)
        self._write([stored(it) for it in wanted])
        return len(documents) if policy is DuplicatePolicy.OVERWRITE else len(wanted)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Put these keys into the metadata of the documents that match, which are encoded again.

        Returns:
            How many were changed.

        Raises:
            FilterError: the filter is empty, or malformed.
            DocumentStoreError: a document is stored in several passages, which this would join.
        """
        found = self._found(_given(filters))
        split = [id_ for id_, state in found.items() if state.passages > 1]
        if split:
            raise DocumentStoreError(f"document {split[0]!r} is split into passages; ingest it anew")
        documents = self.connector.get(found)
        self._write([replace(it, metadata={**it.metadata, **meta}) for it in documents])
        return len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; ids that are not there do no harm."""
        self.connector.delete(document_ids)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match, and say how many there were.

        Raises:
            FilterError: the filter is empty, or malformed.
        """
        return self.connector.delete(self._found(_given(filters)))

    def delete_all_documents(self) -> None:
        """Delete every document; the collection stays."""
        self.connector.delete([id_ for id_, _ in scan(self._collection)])

    async def count_documents_async(self) -> int:
        """`count_documents` in a thread; so are the others that follow."""
        return await asyncio.to_thread(self.count_documents)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def delete_all_documents_async(self) -> None:
        await asyncio.to_thread(self.delete_all_documents)

    async def close_async(self) -> None:
        await asyncio.to_thread(self.close)

    @property
    def _collection(self) -> Collection:
        """As it is now; an error if a connector that was given is closed."""
        self.connector.refresh()
        return self.connector.collection

    def _found(self, filters: dict[str, Any] | None) -> dict[str, State]:
        found = scan(self._collection, on_payload(filters))
        return {id_: state for id_, state in found if state.hash is not None}

    def _wanted(self, documents: list[HaystackDocument], policy: DuplicatePolicy) -> list[HaystackDocument]:
        """Those to be written, each id once."""
        if not isinstance(policy, DuplicatePolicy):
            raise InputError(f"policy is {policy!r}; give a DuplicatePolicy")
        if policy is DuplicatePolicy.OVERWRITE:
            return list({it.id: it for it in documents}.values())
        there, wanted = self._there([it.id for it in documents]), dict[str, HaystackDocument]()
        for document in documents:
            if document.id not in there and document.id not in wanted:
                wanted[document.id] = document
            elif policy is not DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(
                    f"document {document.id!r} is there already; choose policy SKIP or OVERWRITE"
                )
        return list(wanted.values())

    def _there(self, ids: list[str]) -> set[str]:
        collection, there = self._collection, set[str]()
        for some in batched(ids, _WINDOW):
            there |= {id_ for id_, state in states(collection, some).items() if state.hash is not None}
        return there

    def _write(self, documents: list[Document]) -> None:
        count_checked(documents, Chunking(), skip_bad=False)
        report = self.connector.ingest(documents) if documents else None
        if report is not None and report.refused:
            id_, reason = next(iter(report.refused.items()))
            raise DocumentStoreError(
                f"Qdrant refused {len(report.refused)} documents, the first, {id_!r}: {reason}"
            )


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    if not filters:
        raise FilterError(f"filters is {filters!r}, which every document matches; say which are meant")
    return filters
