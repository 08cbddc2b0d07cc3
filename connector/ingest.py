"""Documents to points: batched, idempotent, and safe to kill and run again.

A document's passages are written last to first, so that passage 0, which carries the hash of the whole
document, is there only when all others are. A run looks these hashes up and passes over documents that
are there unchanged; what an earlier run had not finished is simply done. While a document of several
passages is being written, a mark stands in place of its passage 0, so that no run takes it for finished.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from connector.collection import Collection
from connector.encoders import Encoder
from connector.errors import DocumentError
from connector.passages import Checker, Chunking, Passage, content_hash, split_document
from connector.points import points_of, text_of
from connector.schema import CLS, FDE
from connector.stores import Point
from connector.types import Document, Embedding, point_id

logger = logging.getLogger(__name__)

T = TypeVar("T")

WORD_BYTES = 8
"""Of a word in a sparse vector: its number and its weight."""

WINDOW = 256
"""Passages that are encoded, and written, at a time."""

_WAITING = 2048
"""Passages that wait at most until the codec is fitted; a run that is killed before has written nothing."""


_writing: defaultdict[tuple[str, str], threading.RLock] = defaultdict(threading.RLock)
"""One run at a time writes to a collection: two that mixed their passages of a document would spoil it."""


@dataclass(slots=True)
class IngestReport:
    """What one run of `ingest` did.

    Attributes:
        documents: documents written.
        unchanged: documents passed over, because they were there with the same content.
        passages: passages written; more than documents where texts were split.
        truncated: passages whose end lay beyond the encoder's window.
        tokens_lost: tokens in those ends.
        tokens_before: token vectors that the encoder made.
        tokens_after: token vectors stored after reduction.
        cls_bytes, token_bytes, lexical_bytes, fde_bytes: stored bytes of the CLS vectors, of the token
            vectors, of the index of words and of fixed dimensional encodings, as far as there are any.
        seconds: wall-clock time.
        bad: for each record that was skipped, where it stood and what was wrong.
    """

    documents: int = 0
    unchanged: int = 0
    passages: int = 0
    truncated: int = 0
    tokens_lost: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    cls_bytes: int = 0
    token_bytes: int = 0
    lexical_bytes: int = 0
    fde_bytes: int = 0
    seconds: float = 0.0
    bad: list[str] = field(default_factory=list)

    @property
    def documents_per_second(self) -> float:
        """Documents written a second."""
        return self.documents / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_passage(self) -> dict[str, float]:
        """Mean stored bytes of a passage: "cls", "tokens", "total"; "lexical" and "fde" if there are any."""
        sizes = {"cls": self.cls_bytes, "tokens": self.token_bytes}
        more = {"lexical": self.lexical_bytes, "fde": self.fde_bytes}
        sizes |= {name: size for name, size in more.items() if size}
        sizes["total"] = sum(sizes.values())
        return {name: round(size / max(self.passages, 1), 1) for name, size in sizes.items()}


def ingest(
    collection: Collection,
    encoder: Encoder,
    documents: Iterable[Document],
    *,
    chunking: Chunking,
    skip_bad: bool = False,
    progress: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Write documents into a collection; running it twice is harmless.

    Args:
        collection: made by the same encoder.
        encoder: encodes the passages.
        documents: in any order; read once, a window at a time.
        chunking: how to split texts.
        skip_bad: skip documents that cannot be taken, and name them in the report.
        progress: called after each acknowledged write with the report so far.

    Raises:
        EncoderMismatch: the collection was made by another encoder.
        DocumentError: a document cannot be taken; those before it are written.
    """
    with _writing[collection.store.location, collection.name]:
        return _ingest(collection, encoder, documents, chunking, skip_bad, progress)


def _ingest(
    collection: Collection,
    encoder: Encoder,
    documents: Iterable[Document],
    chunking: Chunking,
    skip_bad: bool,
    progress: Callable[[IngestReport], None] | None,
) -> IngestReport:
    collection.check_current()
    collection.check_encoder(encoder)
    report = IngestReport()
    writer = _Writer(collection, encoder, report)
    started = time.perf_counter()
    try:
        for group in _batched(_checked(documents, chunking, skip_bad, report), WINDOW):
            pending = _pending(collection, group, chunking, report)
            split = [(split_document(document, encoder, chunking), there) for document, there in pending]
            _unmake(collection, split)
            passages = itertools.chain.from_iterable(numbered for numbered, _ in split)
            for window in _batched(passages, WINDOW):
                writer.add(window)
                report.seconds = time.perf_counter() - started
                if progress is not None:
                    progress(report)
            if not pending and progress is not None:
                progress(report)
    finally:  # also when nothing was new: the run before may have been killed just before this
        if writer.flush() and progress is not None:
            progress(report)
        if report.passages or report.unchanged:
            collection.store.finish(collection.name)
        report.seconds = time.perf_counter() - started
    return report


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


def _pending(
    collection: Collection, group: list[Document], chunking: Chunking, report: IngestReport
) -> list[tuple[Document, int]]:
    """The documents of a group that are new or changed, with how many passages of each may be there."""
    ids = [point_id(document.id, 0) for document in group]
    there = collection.store.retrieve(collection.name, ids, ["hash", "passages"])
    pending = []
    for document, id_ in zip(group, ids, strict=True):
        payload = there[id_].payload if id_ in there else {}
        if payload.get("hash") == content_hash(document, chunking):
            report.unchanged += 1
            continue
        pending.append((document, payload.get("passages", 1)))
    return pending


def _unmake(collection: Collection, split: list[tuple[list[Passage], int]]) -> None:
    """Mark documents of several passages as unfinished, then delete their old passages.

    The mark stands in place of passage 0. It has no vector, so no search finds it; no hash, so no run takes
    the document for finished; and the largest number of passages that a killed run can leave.
    """
    marks, old = [], []
    for passages, there in split:
        id_, most = passages[0].document.id, max(there, len(passages))
        if most > 1:
            marks.append(Point(point_id(id_, 0), {}, {"id": id_, "passages": most}))
            old += [point_id(id_, number) for number in range(1, there)]
    if marks:
        collection.store.upsert(collection.name, marks)
    if old:
        collection.store.delete(collection.name, old)


class _Writer:
    """Encodes, reduces and writes passages.

    A codec is fitted before the first passage is written, on as many token vectors as it wants; until they
    have come, reduced passages wait in memory.
    """

    def __init__(self, collection: Collection, encoder: Encoder, report: IngestReport) -> None:
        self._collection = collection
        self._encoder = encoder
        self._report = report
        self._passages: list[Passage] = []
        self._reduced: list[Embedding] = []

    def add(self, window: list[Passage]) -> None:
        """Take a window of passages, and write all that wait unless the codec wants more."""
        collection, report = self._collection, self._report
        texts = [text_of(passage) for passage in window]
        embeddings = self._encoder.encode_documents(
            texts, attention="attention" in collection.reduction.needs
        )
        embeddings = collection.salient(embeddings, "document")
        collection.count(embeddings, more=bool(self._passages))
        report.truncated += sum(embedding.truncated > 0 for embedding in embeddings)
        report.tokens_lost += sum(embedding.truncated for embedding in embeddings)
        if collection.recipe.layout != "dense":
            report.tokens_before += sum(map(len, embeddings))
            embeddings = [collection.reduction(embedding) for embedding in embeddings]
        self._passages += window
        self._reduced += embeddings
        codec = collection.codec
        if codec is None or codec.fitted or self._enough(codec.sample):
            self.flush()

    def _enough(self, rows: int) -> bool:
        return len(self._passages) >= _WAITING or sum(map(len, self._reduced)) >= rows

    def flush(self) -> bool:
        """Write what waits, and say whether anything did."""
        passages, reduced = self._passages, self._reduced
        self._passages, self._reduced = [], []
        if not passages:
            return False
        collection, report = self._collection, self._report
        points = points_of(collection, passages, reduced)
        collection.store.upsert(collection.name, points)
        collection.store_counts()
        rows = sum(point.payload.get("rows", 0) for point in points)
        report.tokens_after += rows
        report.token_bytes += rows * collection.token_bytes
        report.lexical_bytes += WORD_BYTES * sum(point.payload.get("words", 0) for point in points)
        report.fde_bytes += sum(FDE in point.vectors for point in points) * collection.vector_bytes.get(
            FDE, 0
        )
        report.passages += len(passages)
        report.documents += sum(passage.number == 0 for passage in passages)
        report.cls_bytes += len(passages) * collection.vector_bytes[CLS]
        return True


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; when the source fails, what came before is given out first."""
    batch: list[T] = []
    failure: Exception | None = None
    iterator = iter(items)
    while True:
        try:
            batch.append(next(iterator))
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
    if failure is not None:
        raise failure
