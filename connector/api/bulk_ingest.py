"""A source into a collection that is made if it is not there: all of it checked before any is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from connector.api.attach import check_recipe
from connector.api.connector import Connector
from connector.collection.documents.passages import Checker
from connector.collection.documents.writer import IngestReport
from connector.collection.recipe import RECIPES, Recipe, get_recipe
from connector.core.errors import CollectionNotFound, ConnectorError, DocumentError, InputError, SourceError
from connector.core.sources import Source
from connector.core.types import Document
from connector.encoders import DEFAULT_MODEL, Encoder
from connector.encoders.chunking import Chunking
from connector.stores.schema import Copies

Started = Callable[[int], Callable[[IngestReport], None] | None]
"""Told how many documents there are, gives what to call after each write."""


def opened(
    name: str,
    *,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    model: str | Encoder | None = None,
    copies: Copies | None = None,
    **place: Any,
) -> tuple[Connector, bool]:
    """A connector to a collection, and whether it was missing and is made.

    Args:
        name: the collection.
        recipe: of a new collection; one that is there must have it, if it is given.
        model: likewise.
        copies: how a cluster spreads a new collection.
        place: where, as in `Connector.open`.

    Raises:
        InputError: the collection that is there has another recipe.
        EncoderMismatch: it was made by another model.
    """
    given = get_recipe(os.fspath(recipe)) if isinstance(recipe, str | os.PathLike) else recipe
    try:
        connector = Connector.open(name, model=model, **place)
    except CollectionNotFound:
        chosen, wanted = model or DEFAULT_MODEL, given or RECIPES["default"]
        return Connector.create(name, recipe=wanted, model=chosen, copies=copies, **place), True
    try:
        check_recipe(connector.collection, given, "has", "choose another collection")
    except InputError:
        connector.close()
        raise
    return connector, False


@contextlib.contextmanager
def open_or_create(name: str, **options: Any) -> Iterator[Connector]:
    """A connector to a collection, which is made if missing and removed again if nothing was written to it.

    Args:
        name: the collection.
        options: as for `opened`, which raises the same errors.
    """
    connector, made = opened(name, **options)
    with connector:
        try:
            yield connector
        except BaseException:
            with contextlib.suppress(ConnectorError):  # the first error is the one to show
                if made and connector.stats().passages == 0:
                    connector.drop()
            raise


def ingest_source(
    source: Source,
    name: str,
    *,
    chunk_tokens: int | None = None,
    chunk_overlap: int = 0,
    skip_bad: bool = False,
    prune: bool = False,
    started: Started = lambda _: None,
    **options: Any,
) -> IngestReport:
    """Read a source twice: once to check every record, once to ingest it.

    Args:
        source: the documents; made with the same `skip_bad`.
        name: the collection, which is made if missing.
        chunk_tokens, chunk_overlap, skip_bad, prune: see `Connector.ingest`; nothing is pruned if the source
            has bad records, as some of them may be documents that are there.
        started: called between the two readings with the number of documents.
        options: recipe, model, copies and place, as for `opened`.

    Returns:
        The report, with the source's own bad records among the bad ones.

    Raises:
        DocumentError: a record cannot be used, and bad ones are not skipped; nothing was written.
        SourceError: there is no document, or the source cannot be read.
    """
    chunking = Chunking.checked(chunk_tokens, chunk_overlap)
    total = count_checked(source, chunking, skip_bad)
    if total == 0:
        why = f"; bad records: {len(source.bad)}, the first: {source.bad[0]}" if source.bad else ""
        raise SourceError(f"{source.path} holds no document to ingest{why}; give another source")
    with open_or_create(name, **options) as connector:
        report = connector.ingest(
            source,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            skip_bad=skip_bad,
            prune=prune and not source.bad,
            progress=started(total),
        )
    report.bad[:0] = source.bad
    return report


def count_checked(documents: Iterable[Document], chunking: Chunking, skip_bad: bool) -> int:
    """How many documents an ingest would take.

    Raises:
        DocumentError: one of them cannot be taken, and bad ones are not skipped.
    """
    checker = Checker(chunking)
    count = 0
    for document in documents:
        try:
            count += checker.is_new(document)
        except DocumentError:
            if not skip_bad:
                raise
    return count
