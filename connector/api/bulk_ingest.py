"""A source into a collection that is made if it is not there: all of it checked before any is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from connector.api.connector import Connector
from connector.collection.documents.passages import checked, split_document
from connector.collection.documents.writer import IngestReport
from connector.collection.versions.aliases import drop_all
from connector.core.errors import ConnectorError, InputError, SourceError
from connector.core.sources import Source
from connector.core.types import Document
from connector.encoders.chunking import Chunking

Started = Callable[[int], Callable[[IngestReport], None] | None]
"""Told how many documents there are, gives what to call after each write."""


@contextlib.contextmanager
def opened(name: str, **options: Any) -> Iterator[Connector]:
    """A connector to a collection, which is made if missing and removed again if nothing was written to it.

    Args:
        name: the collection.
        options: as for `Connector.open_or_create`, which raises the same errors.
    """
    with Connector.open_or_create(name, **options) as connector:
        try:
            yield connector
        except BaseException:
            with contextlib.suppress(ConnectorError):  # the first error is the one to show
                if connector.created:
                    made = connector.collection
                    drop_all(made.store, made.name, unless=lambda: made.passages() > 0)
            raise


def ingest_source(
    source: Source,
    name: str,
    *,
    chunk_tokens: int | None = None,
    chunk_overlap: int = 0,
    skip_bad: bool = False,
    delete_missing: bool = False,
    started: Started = lambda _: None,
    **options: Any,
) -> IngestReport:
    """Read a source twice: once to check every record, once to ingest it.

    Args:
        source: the documents; made with the same `skip_bad`.
        name: the collection, which is made if missing.
        chunk_tokens, chunk_overlap, skip_bad, delete_missing: see `Connector.ingest`; nothing is
            deleted if the source has bad records, as some of them may be documents that are there.
        started: called between the two readings with the number of documents.
        options: recipe, model and place, as for `Connector.open_or_create`.

    Returns:
        The report, with the source's own bad records among the bad ones.

    Raises:
        DocumentError: a record cannot be used, and bad ones are not skipped; nothing was written.
        SourceError: there is no document, or the source cannot be read.
    """
    chunking = Chunking(chunk_tokens, chunk_overlap)
    total = count_checked(source, chunking, skip_bad)
    if total == 0:
        why = f"; bad records: {len(source.bad)}, the first: {source.bad[0]}" if source.bad else ""
        raise SourceError(f"{source.path} holds no document to ingest{why}; give another source")
    with opened(name, **options) as connector:
        return connector.ingest(
            source,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            skip_bad=skip_bad,
            delete_missing=delete_missing,
            progress=started(total),
        )


def count_checked(documents: Iterable[Document], chunking: Chunking, skip_bad: bool) -> int:
    """How many documents an ingest would take.

    Raises:
        DocumentError: one of them cannot be taken, and bad ones are not skipped.
    """
    return sum(1 for _ in checked(documents, chunking, skip_bad, []))


def check_passages(
    connector: Connector, documents: Iterable[Document], chunking: Chunking, most: int
) -> None:
    """Split texts, and encode none.

    Raises:
        InputError: they make more than so many passages, or the chunks do not fit the encoder's window.
    """
    encoder = connector.encoder_of(connector.collection)
    passages = 0
    for document in documents if chunking.tokens is not None else ():
        passages += len(split_document(document, encoder, chunking))
        if passages > most:
            raise InputError(
                f"the documents up to {document.id!r} are {passages:,} passages in chunks of "
                f"{chunking.tokens} tokens with {chunking.overlap} shared, over {most:,}; ask for larger "
                "chunks or less overlap, or send fewer documents at once"
            )
