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
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from connector.collection.collection import Collection
from connector.collection.documents.counts import mend, writing
from connector.collection.documents.document_state import State, read, relabel, scan, states, unmake
from connector.collection.documents.passages import Passage, checked, content_hash, split_document
from connector.collection.documents.writer import EncoderOf, IngestReport, Writer
from connector.collection.pipeline import WINDOW
from connector.collection.versions.dual_write import check_payloads, delete, settle
from connector.core.errors import CollectionNotFound, InputError, StoreError
from connector.core.io import batched
from connector.core.sources import Source
from connector.core.sources.records import USUAL, Fields
from connector.core.types import Document
from connector.encoders import Encoder
from connector.encoders.chunking import Chunking

logger = logging.getLogger(__name__)


def ingest(
    collection: Collection,
    encoder: Encoder | EncoderOf,
    documents: Iterable[Document | Mapping[str, Any]],
    *,
    chunking: Chunking,
    fields: Fields = USUAL,
    skip_bad: bool = False,
    delete_missing: bool = False,
    progress: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Write documents into a collection; running it twice is harmless.

    Args:
        collection: made by the same encoder.
        encoder: encodes the passages; or what gives a collection's encoder, as a migration may change it.
        documents: in any order, or records of them; read once, a window at a time.
        chunking: how to split texts.
        fields: the names of the records' fields.
        skip_bad: skip documents that cannot be taken, and name them in the report.
        delete_missing: at the end, delete the documents that did not come; not if any was skipped, by a
            `Source` or here.
        progress: called after each acknowledged write with the report so far.

    Raises:
        EncoderMismatch: the collection was made by another encoder.
        DocumentError: a document cannot be taken; those before it are written.
        InputError: no document came, and the missing ones, which are all, were to be deleted.
    """
    with writing[collection.store.location, collection.name]:
        collection.check_current()
        check_payloads(collection)
        encoder_of = encoder if callable(encoder) else _only(encoder)
        report = IngestReport()
        run = _Run(collection, encoder_of, report, chunking, progress)
        run(documents, fields, skip_bad, delete_missing)
        with contextlib.suppress(CollectionNotFound):  # another version has taken its place
            mend(run.collection, encoder_of)
        return report


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

    @property
    def collection(self) -> Collection:
        """What it writes to now."""
        return self._writer.collection

    def __call__(
        self,
        documents: Iterable[Document | Mapping[str, Any]],
        fields: Fields,
        skip_bad: bool,
        delete_missing: bool,
    ) -> IngestReport:
        report, writer = self._report, self._writer
        started = time.perf_counter()
        try:
            for group in batched(checked(documents, self._chunking, skip_bad, report.bad, fields), WINDOW):
                writer.follow()
                self._take(group, started)
            if isinstance(documents, Source):
                report.bad[:0] = documents.bad
            if delete_missing and not report.bad:
                writer.flush()
                writer.follow()
                self._delete_missing()
        finally:  # also when nothing was new: the run before may have been killed just before this
            if writer.flush():
                self._progress(report)
            if report.passages or report.unchanged or report.metadata_updated or report.deleted_missing:
                with contextlib.suppress(CollectionNotFound):  # another version has taken its place
                    writer.collection.store.finish(writer.collection.physical)
            report.seconds = time.perf_counter() - started
        if report.truncated:
            logger.warning(
                "%d of %d passages were longer than the model's window: %d tokens of their ends cannot be "
                "found; split texts with chunk_tokens (--chunk-tokens)",
                *(report.truncated, report.passages, report.tokens_lost),
            )
        if report.titles_cut:
            logger.warning(
                "titles of %d of %d documents did not fit the model's window beside their texts: the first "
                "words alone, in a quarter of it, can be found; give shorter titles, or split texts into "
                "smaller chunks",
                *(report.titles_cut, report.documents),
            )
        return report

    def _take(self, group: list[Document], started: float) -> None:
        writer, report = self._writer, self._report
        self._seen.update(document.id for document in group)
        try:
            pending, relabelled = self._pending(group)
        except (CollectionNotFound, StoreError):
            if not writer.follow():
                raise
            pending, relabelled = self._pending(group)  # the version was dropped after another took its place
        new = {them[0].document.id for them in pending}
        there = [document.id for document in group if document.id not in new]
        # Who wrote them may have been killed before they reached a version that is being made.
        collection = writer.collection
        settle(collection, there, self._encoder_of, lambda: relabel(collection, relabelled))
        updated = sum(passage.number == 0 for passage in relabelled)
        report.metadata_updated += updated
        report.unchanged += len(there) - updated
        passages = itertools.chain.from_iterable(pending)
        for window in batched(passages, WINDOW):
            writer.add(window)
            report.seconds = time.perf_counter() - started
            self._progress(report)
        if not pending:
            self._progress(report)

    def _pending(self, group: list[Document]) -> tuple[list[list[Passage]], list[Passage]]:
        """The passages of each document that has to be encoded, which is unfinished from now on; and those of
        documents that only had other metadata, which is written."""
        writer, changed = self._writer, dict[str, list[Passage]]()
        found = states(writer.collection, [document.id for document in group])
        for document in group:
            if document.id not in found or found[document.id].hash != content_hash(document, self._chunking):
                changed[document.id] = split_document(document, writer.encoder, self._chunking)
        relabelled = self._relabelled(changed, found)
        there = {id_: found.get(id_, State(None, 1)).passages for id_ in changed}
        unmake(writer.collection, {id_: (there[id_], len(them)) for id_, them in changed.items()})
        return list(changed.values()), relabelled

    def _relabelled(self, changed: dict[str, list[Passage]], found: Mapping[str, State]) -> list[Passage]:
        """The passages that are encoded as before, which are no longer among the changed; their metadata is
        written."""
        collection, relabelled = self._writer.collection, list[Passage]()
        if collection.attached:  # the program's texts of now do not say what was encoded
            return relabelled
        known = {id_: found[id_] for id_ in changed if id_ in found and found[id_].revised is None}
        for id_, pairs in read(collection, known).items():
            if _encoded(changed[id_]) == _encoded([passage for passage, _ in pairs]):
                relabelled += changed.pop(id_)
        relabel(collection, relabelled)
        return relabelled

    def _delete_missing(self) -> None:
        """Delete the documents that did not come; if none came, that is refused."""
        collection = self._writer.collection
        if not self._seen and (there := collection.documents()):
            raise InputError(
                f"no document came, and delete_missing would delete all {there:,} of {collection.name!r}; "
                "see what became of the source, or drop the collection"
            )
        for gone in batched((id_ for id_, _ in scan(collection) if id_ not in self._seen), WINDOW):
            self._report.deleted_missing += delete(collection, gone, self._encoder_of)
            self._progress(self._report)


def _encoded(passages: list[Passage]) -> list[str | None]:
    """What is encoded of the passages of a document, the first one last, and its title, which may be more."""
    return [
        passages[-1].document.title,
        *(it for passage in passages for it in (passage.title, passage.text)),
    ]
