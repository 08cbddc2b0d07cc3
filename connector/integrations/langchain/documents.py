"""Their documents and ours."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from langchain_core.documents import Document
from langchain_core.runnables.config import run_in_executor

from connector.api.async_connector import AsyncConnector
from connector.api.bulk_ingest import count_checked
from connector.api.connector import Connector
from connector.core import types
from connector.core.errors import InputError, PointsRefused
from connector.encoders.chunking import Chunking

T = TypeVar("T")


Held: TypeAlias = Connector | AsyncConnector


def synchronous(held: Held) -> Connector:
    """The connector whose methods return what they find."""
    return held.connector if isinstance(held, AsyncConnector) else held


async def in_thread(held: object, call: Callable[[], T]) -> T:
    """Call in a thread: an AsyncConnector's, whose close waits for it, or else one of LangChain's."""
    if isinstance(held, AsyncConnector):
        return await held.run(call)
    return await run_in_executor(None, call)


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


def checked(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[types.Document]:
    """The documents as ours, once all of them can be written.

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
    ours = [
        types.Document(
            id=str(uuid.uuid4()) if id_ is None else id_,
            text=document.page_content,
            metadata=document.metadata,
        )
        for id_, document in zip(chosen, documents, strict=True)
    ]
    count_checked(ours, Chunking(), skip_bad=False)
    return ours


def write(connector: Connector, documents: Sequence[types.Document]) -> None:
    """Write checked documents.

    Raises:
        PointsRefused: Qdrant refuses some of them; the others are written.
    """
    report = connector.ingest(documents)
    if report.refused:
        raise PointsRefused(report.refused)


def shown(id_: str, text: str, title: str | None, metadata: Mapping[str, Any]) -> Document:
    """A document for LangChain, which has no titles: one that is not LangChain's own is metadata "title"."""
    titled = {} if title is None else {"title": title}
    return Document(text, id=id_, metadata={**titled, **metadata})


def found(hit: types.Hit) -> Document:
    """A hit for LangChain."""
    return shown(hit.id, hit.text, hit.title, hit.metadata)
