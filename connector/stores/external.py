"""The same Store over another program's points: its fields and vectors under our names."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict
from qdrant_client import models

from connector.core.errors import CollectionError
from connector.stores.base import Store
from connector.stores.filters import Where, renamed
from connector.stores.points import Answer, Keys, Point, Query, Record
from connector.stores.schema import OWN, CollectionSchema, PayloadKind
from connector.stores.server.convert import native
from connector.stores.server.store import ServerStore

ADDED = tuple(
    OWN + key for key in ("passage", "passages", "hash", "rows", "words", "codes", "saliency", "revised")
)
"""The payload keys that are added."""


_NODE = "_node_content"


_NODE_KEYS = (_NODE, "_node_type", "document_id", "doc_id", "ref_doc_id")


_KNOWN = (("page_content", "metadata"), ("content", "meta"))
"""Of LangChain and of Haystack: where the text is, and where the metadata."""


_TEXTS = ("text", "page_content", "content", "body", "contents", "passage")
"""Keys that a text has where there is no other sign; the metadata is beside it."""


TEXT_KEYS = (_NODE, *_TEXTS)
"""Keys that tell a layout."""


class Layout(BaseModel):
    """Where texts and metadata are.

    Args:
        text: a payload key; a dot leads into an object.
        metadata: the key of an object; None where all other keys are metadata.
        node: whether the value at `text` is a LlamaIndex node as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    metadata: str | None = None
    node: bool = False

    def text_of(self, payload: Mapping[str, Any]) -> str | None:
        """The text of a point; None if it has none."""
        value = at(payload, self.text)
        if self.node and isinstance(value, str):
            try:
                value = json.loads(value).get("text")
            except (ValueError, AttributeError):
                return None
        return value if isinstance(value, str) and value.strip() else None

    def metadata_of(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The metadata of a point."""
        if self.metadata is not None:
            value = payload.get(self.metadata)
            return dict(value) if isinstance(value, Mapping) else {}
        hidden = _NODE_KEYS if self.node else (self.text.partition(".")[0],)
        return {key: it for key, it in payload.items() if key not in hidden and key not in ADDED}

    def metadata_key(self, key: str) -> str:
        """Where a filter finds a metadata key, "metadata.year" for us."""
        rest = key.removeprefix("metadata.")
        return rest if self.metadata is None else f"{self.metadata}.{rest}"

    @property
    def needed(self) -> list[str] | None:
        """The payload keys that text and metadata are read from; None for all."""
        return None if self.metadata is None else [self.text, self.metadata]

    def __str__(self) -> str:
        where = "all other keys" if self.metadata is None else repr(self.metadata)
        return f"text in {self.text!r}{' (LlamaIndex nodes)' if self.node else ''}, metadata in {where}"


def recognised(
    payloads: Sequence[Mapping[str, Any]], text_field: str | None, metadata_field: str | None
) -> Layout:
    """The layout of some points: that of LangChain, LlamaIndex or Haystack, or what the caller says.

    Args:
        payloads: of some points that have such a key; if none has, of any.
        text_field: the key of the text, for other layouts.
        metadata_field: the key of an object with the metadata.

    Raises:
        CollectionError: none is recognised, or no text is where the caller says.
    """
    found = _layout(payloads, text_field, metadata_field)
    if payloads and (found is None or not any(found.text_of(payload) for payload in payloads)):
        keys = sorted({key for payload in payloads for key in payload})
        raise CollectionError(
            f"no text {'is recognised' if found is None else f'stands in {found.text!r}'}; points have the "
            f"payload keys {', '.join(map(repr, keys)) or 'none'}; name the one with the text, with "
            "text_field (--text-field)"
        )
    if found is None:
        raise CollectionError("there is no point to recognise a text in; name its key with text_field")
    return found


def _layout(
    payloads: Sequence[Mapping[str, Any]], text_field: str | None, metadata_field: str | None
) -> Layout | None:
    if text_field is not None:
        usual = dict(_KNOWN).get(text_field)
        there = any(isinstance(payload.get(usual or ""), Mapping) for payload in payloads)
        metadata = metadata_field or (usual if there or not payloads else None)
        return Layout(text=text_field, metadata=metadata, node=text_field == _NODE)
    if any(_NODE in payload for payload in payloads):
        return Layout(text=_NODE, metadata=metadata_field, node=True)
    for text, metadata in _KNOWN:
        if any(text in payload and metadata in payload for payload in payloads):
            return Layout(text=text, metadata=metadata_field or metadata)
    plain = [key for key in _TEXTS if any(isinstance(payload.get(key), str) for payload in payloads)]
    return Layout(text=plain[0], metadata=metadata_field) if len(plain) == 1 else None


def at(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a key, or at the end of a path of keys with dots between."""
    if path in payload:
        return payload[path]
    value: Any = payload
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


_THEIRS = ("id", "text", "title", "metadata")
"""Payload keys that are not added: the program's own tell them."""


_LAYOUT = OWN + "layout"


def seen_through(store: Store, physical: str) -> Store:
    """The store, or what makes it look like one of ours if the collection is an attached one."""
    if isinstance(store, AttachedStore) or not isinstance(store, ServerStore):
        return store
    layout = store.info(physical).get(_LAYOUT)
    return AttachedStore(store, Layout.model_validate_json(layout)) if layout else store


class AttachedStore(ServerStore):
    """A server's store with other names for payload keys, vectors and descriptions.

    All its collections, of one layout, look as if they were ours.

    Args:
        store: the server, whose connection it uses.
        layout: where the texts are.
    """

    _prefix = OWN

    def __init__(self, store: ServerStore, layout: Layout) -> None:
        vars(self).update(vars(store))
        self.layout = layout

    def info(self, name: str) -> dict[str, str]:
        there = super().info(name)
        return {key.removeprefix(OWN): it for key, it in there.items() if key.startswith(OWN) and it}

    def set_info(self, name: str, info: Mapping[str, str]) -> None:
        super().set_info(name, {OWN + key: it for key, it in info.items()})

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        """Adds to points that are there; no other one is made, and nothing of theirs replaced."""
        self.amend(name, points)

    def amend(self, name: str, points: Sequence[Point]) -> None:
        super().amend(name, [replace(point, payload=_added(point.payload)) for point in points])

    def retrieve(
        self, name: str, ids: Sequence[str], payload: Keys, vectors: Sequence[str] = ()
    ) -> dict[str, Record]:
        known = [id_ for id_ in ids if _is_id(id_)]
        found = super().retrieve(name, known, self._keys(payload), vectors)
        return {key: self._ours(record, payload) for key, record in found.items()}

    def search_many(
        self,
        name: str,
        searches: Sequence[Sequence[Query]],
        *,
        payload: Keys,
        vectors: Sequence[str] = (),
        filter: Where = None,
    ) -> list[Answer]:
        """As every store does, but passing over points whose payload the program has replaced since."""
        keys, where = self._keys(payload), self._filter(filter)
        wanted = {OWN + key for key in payload or () if key not in _THEIRS}

        def whole(record: Record) -> bool:
            return wanted <= record.payload.keys() and len(record.vectors) == len(vectors)

        answers = super().search_many(name, searches, payload=keys, vectors=vectors, filter=where)
        return [([self._ours(it, payload) for it in first if whole(it)], rest) for first, rest in answers]

    def scroll(
        self, name: str, payload: Keys, vectors: Sequence[str] = (), filter: Where = None
    ) -> Iterator[Record]:
        found = super().scroll(name, self._keys(payload), vectors, self._filter(filter))
        return (self._ours(record, payload) for record in found)

    def texts(self, name: str) -> Iterator[tuple[str, str | None]]:
        """The ids and texts of all points of the program."""
        for record in super().scroll(name, [self.layout.text]):
            yield record.id, self.layout.text_of(record.payload)

    def count(self, name: str, filter: Where = None) -> int:
        return super().count(name, self._filter(filter))

    def create_index(self, name: str, key: str, kind: PayloadKind) -> None:
        super().create_index(name, self._key(key), kind)

    def refused(self, name: str, keys: Iterable[str]) -> list[str]:
        return super().refused(name, map(self._key, keys))

    def indexed_by_others(self, name: str, keys: Iterable[str]) -> list[str]:
        there = self._on(self._client.get_collection, name).payload_schema
        return sorted(key for key in keys if self._key(key) in there)

    def drop_index(self, name: str, key: str) -> None:
        super().drop_index(name, self._key(key))

    def check_free(self, name: str, schema: CollectionSchema) -> None:
        """Raises CollectionError if anything that would be added has the name of something of the program's.

        Args:
            name: the collection.
            schema: the vectors that would be added.
        """
        params = self._on(self._client.get_collection, name).config.params
        named = params.vectors if isinstance(params.vectors, dict) else {}
        vectors = {*named, *(params.sparse_vectors or {})} & {OWN + it for it in schema.names}
        taken = [f"metadata {OWN + key!r}" for key in self.info(name)]
        keys = {key for it in ServerStore.scroll(self, name, ADDED) for key in it.payload}
        taken += [f"payload key {key!r}" for key in sorted(keys)]
        taken += [f"vector {it!r}" for it in sorted(vectors)]
        if taken:
            raise CollectionError(
                f"collection {name!r} has {', '.join(taken)}, which attaching would write; rename it"
            )
        if self._call.local and isinstance(params.vectors, models.VectorParams):
            raise CollectionError(
                f"collection {name!r} has an unnamed vector, which a client without a server takes no "
                "more when others are beside it; use a server, or let its program give the vector a name"
            )

    def detach(self, name: str, schema: CollectionSchema) -> None:
        """Take away all that was added; running it again, after being cut off, does the rest."""
        for vector in schema.names:
            self.drop_vector(name, vector)
        self._on(self._client.delete_payload, name, list(ADDED), models.Filter(), wait=True)
        for key in {**schema.filtered, **schema.indexes}:
            self.drop_index(name, key)
        self._artifacts.drop(self._physical(name))
        self.set_info(name, dict.fromkeys(self.info(name), ""))

    def _keys(self, ours: Sequence[str] | None) -> list[str] | None:
        """The payload keys to ask for; None for all."""
        if ours is None or ("metadata" in ours and self.layout.needed is None):
            return None
        theirs = self.layout.needed if "metadata" in ours else [self.layout.text] if "text" in ours else None
        return (theirs or []) + [OWN + key for key in ours if key not in _THEIRS]

    def _ours(self, record: Record, asked: Sequence[str] | None) -> Record:
        """What is asked for, as our own points would have it."""
        theirs = record.payload
        payload = {key.removeprefix(OWN): it for key, it in theirs.items() if key in ADDED}
        payload |= {"id": record.id, "metadata": self.layout.metadata_of(theirs)}
        if (text := self.layout.text_of(theirs)) is not None:
            payload["text"] = text
        if asked is not None:
            payload = {key: payload[key] for key in asked if key in payload}
        vectors = {name.removeprefix(OWN): it for name, it in record.vectors.items()}
        return Record(record.key, payload, record.score, vectors)

    def _filter(self, filter: Where) -> models.Filter | None:
        return None if filter is None else renamed(filter, self._key, id=native)

    def _key(self, key: str) -> str:
        return self.layout.metadata_key(key) if key.startswith("metadata.") else OWN + key


def _added(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is added to a payload of the program's."""
    return {OWN + key: it for key, it in payload.items() if key not in _THEIRS}


def _is_id(id_: str) -> bool:
    """Whether a point of Qdrant's has this id: a whole number or a UUID, as it writes them."""
    try:
        return id_ == str(native(id_) if isinstance(native(id_), int) else uuid.UUID(id_))
    except ValueError:
        return False
