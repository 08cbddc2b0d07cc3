"""Haystack's documents to this library's, and back.

The metadata stays as it is, so that everything else that reads the collection can filter by it. What else
Haystack's documents may have (blob, embedding, sparse embedding, score) stands below one more key, as text:
the engines read decimals back with an error in the last bit.
"""

from __future__ import annotations

import json
from typing import Any

from haystack import Document as HaystackDocument

from connector.core.errors import DocumentError, InputError
from connector.core.types import Document, Hit

_REST = "_haystack"


def stored(document: HaystackDocument) -> Document:
    """The document as a collection holds it.

    Raises:
        DocumentError: it has no text, or holds what JSON does not have.
    """
    if document.content is None:
        raise DocumentError(f"document {document.id!r} has no content; convert it to text, or leave it out")
    if _REST in document.meta:
        raise DocumentError(f"document {document.id!r}: meta has the reserved key {_REST!r}; rename it")
    rest = document.to_dict(flatten=False)
    text, meta, id_ = rest.pop("content"), rest.pop("meta"), rest.pop("id")
    rest = {key: value for key, value in rest.items() if value is not None}
    try:
        more = {_REST: json.dumps(rest)} if rest else {}
    except (TypeError, ValueError) as error:
        raise DocumentError(
            f"document {document.id!r}: {', '.join(rest)} cannot be stored: {error}"
        ) from error
    return Document(id=id_, text=text, metadata={**meta, **more})


def restored(found: Document | Hit) -> HaystackDocument:
    """What was given, and of a hit its own score; a title becomes `meta["title"]`, unless there is one."""
    data = dict(found.metadata)
    rest: dict[str, Any] = json.loads(data.pop(_REST, "{}"))
    if found.title is not None:
        data.setdefault("title", found.title)
    if isinstance(found, Hit):
        rest = rest | {"score": found.score}
    return HaystackDocument.from_dict({**rest, "id": found.id, "content": found.text, "meta": data})


def checked(documents: list[HaystackDocument]) -> list[HaystackDocument]:
    """Raises InputError unless this is a list of Haystack's documents."""
    if not isinstance(documents, list) or not all(isinstance(it, HaystackDocument) for it in documents):
        raise InputError(f"documents is {documents!r:.80}; give a list of haystack.Document")
    return documents
