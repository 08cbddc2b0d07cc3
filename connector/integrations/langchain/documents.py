"""LangChain's documents and ours."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document

from connector.core import types
from connector.core.errors import InputError
from connector.integrations.common import titled


def of_texts(texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None) -> list[Document]:
    """Texts and their metadata, if any, as documents.

    Raises:
        InputError: there is not one metadata for each text.
    """
    texts = list(texts)
    metadatas = metadatas or [{} for _ in texts]
    if len(metadatas) != len(texts):
        raise InputError(f"there are {len(texts)} texts and {len(metadatas)} metadatas; give one for each")
    return [Document(text, metadata=it) for text, it in zip(texts, metadatas, strict=True)]


def stored(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[types.Document]:
    """The documents as a collection holds them.

    Args:
        documents: what to write.
        ids: in place of the documents' own; those that are None are made.

    Raises:
        DocumentError: a document cannot be taken.
        InputError: there is not one id for each document.
    """
    chosen = [document.id for document in documents] if ids is None else list(ids)
    if len(chosen) != len(documents):
        raise InputError(f"there are {len(documents)} documents and {len(chosen)} ids; give one for each")
    return [
        types.Document(str(uuid.uuid4()) if id_ is None else id_, it.page_content, metadata=it.metadata)
        for id_, it in zip(chosen, documents, strict=True)
    ]


def restored(found: types.Document | types.Hit) -> Document:
    """A document for LangChain: a title, which is not LangChain's own, is metadata "title"."""
    return Document(found.text, id=found.id, metadata=titled(found))
