"""Where other programs keep a text and its metadata in the payload of a point."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from connector.core.errors import CollectionError

OWN = "late_"
"""Before the payload keys, vectors and descriptions that this library adds to points of other programs."""

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
        value = _at(payload, self.text)
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


def _at(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a key, or at the end of a path of keys with dots between."""
    if path in payload:
        return payload[path]
    value: Any = payload
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
