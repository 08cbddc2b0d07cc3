"""A Haystack document store whose documents are found by late interaction."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from haystack import Document as HaystackDocument
from haystack import default_from_dict, default_to_dict
from haystack.core.errors import SerializationError
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret
from qdrant_client import QdrantClient, models

from connector.api.connector import Connector
from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, scan
from connector.collection.recipe import Recipe, get_recipe, load_recipe
from connector.collection.versions.aliases import check_name
from connector.core.errors import InputError, PointsRefused
from connector.core.forks import Mutex
from connector.core.types import Document
from connector.encoders import Model
from connector.integrations.common import Held, awaited, synchronous, taken_or_opened, write
from connector.integrations.haystack.conversion import checked, on_payload, restored, stored
from connector.stores import NewCollectionKeywords
from connector.stores.filters import matches_all


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
        indexes: metadata keys that are filtered by ("year" of "meta.year") and the kinds of their
            values, as in `Connector.create`. Lists of such values are indexed, too ("year[]"), as Haystack's
            filters tell them from single ones.
        options: what else `Connector.create` takes, such as `prefer_grpc` or `replication_factor`.

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
        model: Model | None = None,
        device: str | None = None,
        indexes: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        if unknown := options.keys() - NewCollectionKeywords.__annotations__.keys():
            raise InputError(f"{', '.join(sorted(unknown))}: there is no such option of Connector.create")
        if api_key is not None and not isinstance(api_key, Secret):
            raise InputError("api_key is a text, which a saved pipeline would show; give a haystack Secret")
        places = {"path": None if path is None else os.fspath(path), "url": url, "client": client}
        self._place = {key: value for key, value in places.items() if value is not None}
        chosen = get_recipe(os.fspath(recipe)) if isinstance(recipe, str | os.PathLike) else recipe
        model = os.fspath(model) if isinstance(model, os.PathLike) else model
        self._options: dict[str, Any] = {
            "recipe": chosen,
            "model": model,
            "device": device,
            "indexes": indexes,
            **options,
        }
        self._api_key = api_key
        self._opening = Mutex()
        self._held: Held | None = None
        if not isinstance(collection, str):
            self._held = taken_or_opened(collection, **self._place, **self._options, api_key=api_key)
        elif len(self._place) != 1:
            raise InputError(f"give one of path, url and client, got {' and '.join(self._place) or 'none'}")
        self._given = self._held is not None
        self.collection = collection if isinstance(collection, str) else collection.name
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
            if self._held is None:
                key = None if self._api_key is None else self._api_key.resolve_value()
                asked = {**self._options, "indexes": _with_lists(self._options["indexes"])}
                self._held = taken_or_opened(self.collection, **self._place, **asked, api_key=key)
            return synchronous(self._held)

    def close(self) -> None:
        """Release the folder or connection; what is used again opens it again."""
        with self._opening:
            if self._held is not None and not self._given:
                synchronous(self._held).close()
                self._held = None

    def to_dict(self) -> dict[str, Any]:
        """The arguments that this store was made with; an API key must be of an environment variable.

        Raises:
            SerializationError: it was made with an object that no file can hold.
        """
        model, recipe = self._options["model"], self._options["recipe"]
        if self._given or "client" in self._place or not isinstance(model, str | None):
            reason = "a connector, client or encoder cannot be saved; give a path or url, and a model id"
            raise SerializationError(f"the document store of {self.collection!r}: {reason}")
        saved = None if recipe is None else recipe.model_dump(exclude_defaults=True)
        options = {**self._place, "api_key": self._api_key, **self._options, "recipe": saved}
        return default_to_dict(self, collection=self.collection, **options)

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
        return len(self._found(on_payload(filters)))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """The documents that match, or all, in no order that means anything.

        Raises:
            FilterError: the filter is malformed, or compares what cannot be compared.
        """
        return [restored(it) for it in self.connector.get(self._found(on_payload(filters)))]

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
            FilterError: the filter is malformed, or asks for nothing.
            DocumentStoreError: a document is stored in several passages, which this would join.
        """
        found = self._found(_given(filters))
        split = [id_ for id_, state in found.items() if state.passages > 1]
        if split:
            raise DocumentStoreError(f"document {split[0]!r} is split into passages; ingest it again")
        documents = self.connector.get(found)
        self._write([replace(it, metadata={**it.metadata, **meta}) for it in documents])
        return len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; ids that are not there do no harm."""
        self.connector.delete(document_ids)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match, and say how many there were.

        Raises:
            FilterError: the filter is malformed, or asks for nothing.
        """
        return self.connector.delete(self._found(_given(filters)))

    def delete_all_documents(self) -> None:
        """Delete every document; the collection stays."""
        self.connector.delete([id_ for id_, _ in scan(self._collection)])

    count_documents_async = awaited(count_documents)
    count_documents_by_filter_async = awaited(count_documents_by_filter)
    filter_documents_async = awaited(filter_documents)
    write_documents_async = awaited(write_documents)
    update_by_filter_async = awaited(update_by_filter)
    delete_documents_async = awaited(delete_documents)
    delete_by_filter_async = awaited(delete_by_filter)
    delete_all_documents_async = awaited(delete_all_documents)
    close_async = awaited(close)

    @property
    def _collection(self) -> Collection:
        """As it is now; an error if a connector that was given is closed."""
        self.connector.refresh()
        return self.connector.collection

    def _found(self, filter: models.Filter | None) -> dict[str, State]:
        found = scan(self._collection, filter)
        return {id_: state for id_, state in found if state.hash is not None}

    def _wanted(self, documents: list[HaystackDocument], policy: DuplicatePolicy) -> list[HaystackDocument]:
        """Those to be written, each id once."""
        if not isinstance(policy, DuplicatePolicy):
            raise InputError(f"policy is {policy!r}; give a DuplicatePolicy")
        if policy is DuplicatePolicy.OVERWRITE:
            return list({it.id: it for it in documents}.values())
        seen, wanted = {it.id for it in self.connector.get([it.id for it in documents])}, []
        for document in documents:
            if document.id not in seen:
                seen.add(document.id)
                wanted.append(document)
            elif policy is not DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(f"{document.id!r} is there already; choose SKIP or OVERWRITE")
        return wanted

    def _write(self, documents: list[Document]) -> None:
        try:
            if documents:
                write(self.connector, documents)
        except PointsRefused as error:
            id_, reason = next(iter(error.reasons.items()))
            raise DocumentStoreError(
                f"Qdrant refused {len(error.reasons)} documents, the first, {id_!r}: {reason}"
            ) from error


def _given(filters: dict[str, Any]) -> models.Filter:
    """The filter on payload keys, if it asks for anything."""
    found = on_payload(filters)
    if found is None or matches_all(found):
        raise FilterError(f"filters is {filters!r:.200}, which every document matches; say which are meant")
    return found


def _with_lists(indexes: dict[str, str] | None) -> dict[str, str] | None:
    return indexes and {**indexes, **{f"{key}[]": kind for key, kind in indexes.items()}}
