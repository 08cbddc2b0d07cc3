"""Documents to points: batched, idempotent, and safe to kill and run again.

A run looks the content hashes of documents up (`connector.collection.documents.document_state`) and passes
over those that are there unchanged; what an earlier run had not finished is simply done. While a migration
makes another version of the collection, what is written reaches that one, too
(`connector.collection.versions.dual_write`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, scan, states, unmake
from connector.collection.documents.passages import Checker, Passage, content_hash, split_document
from connector.collection.documents.writer import EncoderOf, IngestReport, Writer
from connector.collection.pipeline import WINDOW
from connector.collection.versions.dual_write import check_payloads, delete, settle
from connector.core.errors import CollectionNotFound, DocumentError, StoreError
from connector.core.io import batched
from connector.core.types import Document
from connector.encoders import Encoder
from connector.encoders.chunking import Chunking

logger = logging.getLogger(__name__)


_writing: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)
"""One run at a time writes to a collection: two that mixed their passages of a document would spoil it."""


def ingest(
    collection: Collection,
    encoder: Encoder | EncoderOf,
    documents: Iterable[Document],
    *,
    chunking: Chunking,
    skip_bad: bool = False,
    prune: bool = False,
    progress: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Write documents into a collection; running it twice is harmless.

    Args:
        collection: made by the same encoder.
        encoder: encodes the passages; or what gives a collection's encoder, as a migration may change it.
        documents: in any order; read once, a window at a time.
        chunking: how to split texts.
        skip_bad: skip documents that cannot be taken, and name them in the report.
        prune: at the end, delete the documents that did not come; not if any was skipped.
        progress: called after each acknowledged write with the report so far.

    Raises:
        EncoderMismatch: the collection was made by another encoder.
        DocumentError: a document cannot be taken; those before it are written.
    """
    with _writing[collection.store.location, collection.name]:
        collection.check_current()
        check_payloads(collection)
        encoder_of = encoder if callable(encoder) else _only(encoder)
        report = IngestReport()
        run = _Run(collection, encoder_of, report, chunking, progress)
        return run(documents, skip_bad, prune)


def _only(encoder: Encoder) -> EncoderOf:
    def encoder_of(collection: Collection) -> Encoder:
        collection.check_encoder(encoder)
        return encoder

    return encoder_of


class _Run:
    """One run of `ingest`."""

    def __init__(
        self,
        collection: Collection,
        encoder_of: EncoderOf,
        report: IngestReport,
        chunking: Chunking,
        progress: Callable[[IngestReport], None] | None,
    ) -> None:
        self._writer = Writer(
            collection, encoder_of, report, lambda it, ids, again: settle(it, ids, encoder_of, again)
        )
        self._encoder_of = encoder_of
        self._report = report
        self._chunking = chunking
        self._progress = progress or (lambda _: None)
        self._seen: set[str] = set()

    def __call__(self, documents: Iterable[Document], skip_bad: bool, prune: bool) -> IngestReport:
        report, writer = self._report, self._writer
        started = time.perf_counter()
        try:
            for group in batched(_checked(documents, self._chunking, skip_bad, report), WINDOW):
                writer.follow()
                self._take(group, started)
            if prune and not report.bad:
                writer.flush()
                writer.follow()
                self._prune()
        finally:  # also when nothing was new: the run before may have been killed just before this
            if writer.flush():
                self._progress(report)
            if report.passages or report.unchanged or report.pruned:
                with contextlib.suppress(CollectionNotFound):  # another version has taken its place
                    writer.collection.store.finish(writer.collection.physical)
            report.seconds = time.perf_counter() - started
        return report

    def _take(self, group: list[Document], started: float) -> None:
        writer, report = self._writer, self._report
        self._seen.update(document.id for document in group)
        try:
            pending = self._pending(group)
        except (CollectionNotFound, StoreError):
            if not writer.follow():
                raise
            pending = self._pending(group)  # the version was dropped after another one took its place
        new = {them[0].document.id for them in pending}
        unchanged = [document.id for document in group if document.id not in new]
        # Who wrote them may have been killed before they reached a version that is being made.
        settle(writer.collection, unchanged, self._encoder_of, lambda: None)
        report.unchanged += len(unchanged)
        passages = itertools.chain.from_iterable(pending)
        for window in batched(passages, WINDOW):
            writer.add(window)
            report.seconds = time.perf_counter() - started
            self._progress(report)
        if not pending:
            self._progress(report)

    def _pending(self, group: list[Document]) -> list[list[Passage]]:
        """The passages of each document that is new or changed, which is unfinished from now on."""
        writer, pending, sizes = self._writer, [], {}
        found = states(writer.collection, [document.id for document in group])
        for document in group:
            state = found.get(document.id, State(None, 1))
            if state.hash != content_hash(document, self._chunking):
                pending.append(split_document(document, writer.encoder, self._chunking))
                sizes[document.id] = state.passages, len(pending[-1])
        unmake(writer.collection, sizes)
        return pending

    def _prune(self) -> None:
        """Delete the documents that did not come."""
        collection = self._writer.collection
        for gone in batched((id_ for id_, _ in scan(collection) if id_ not in self._seen), WINDOW):
            self._report.pruned += delete(collection, gone, self._encoder_of)
            self._progress(self._report)


def _checked(
    documents: Iterable[Document], chunking: Chunking, skip_bad: bool, report: IngestReport
) -> Iterator[Document]:
    checker = Checker(chunking)
    for document in documents:
        try:
            if checker.is_new(document):
                yield document
        except DocumentError as error:
            if not skip_bad:
                raise
            report.bad.append(str(error))
