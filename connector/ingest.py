"""Documents to points: batched, idempotent, and safe to kill and run again.

A document's passages are written last to first, so that passage 0, which carries the hash of the whole
document, is there only when all others are. A run looks these hashes up and passes over documents that
are there unchanged; what an earlier run had not finished is simply done. While a document of several
passages is being written, a mark stands in place of its passage 0, so that no run takes it for finished.
"""

from __future__ import annotations

import base64
import itertools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from connector.collection import Collection
from connector.encoders import Encoder
from connector.errors import DocumentError
from connector.passages import Checker, Chunking, Passage, content_hash, payload_of, split_document
from connector.schema import CLS, TOKENS
from connector.stores import Point
from connector.types import Document, Embedding, Float32, passage_text, point_id

logger = logging.getLogger(__name__)

T = TypeVar("T")

WINDOW = 256
"""Passages that are encoded, and written, at a time."""


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
        cls_bytes, token_bytes: stored bytes of the CLS vectors and of the token vectors.
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
    seconds: float = 0.0
    bad: list[str] = field(default_factory=list)

    @property
    def documents_per_second(self) -> float:
        """Documents written a second."""
        return self.documents / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_passage(self) -> dict[str, float]:
        """Mean stored bytes of a passage's vectors: "cls", "tokens" and "total"."""
        count = max(self.passages, 1)
        cls, tokens = self.cls_bytes / count, self.token_bytes / count
        return {"cls": round(cls, 1), "tokens": round(tokens, 1), "total": round(cls + tokens, 1)}


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
    started = time.perf_counter()
    try:
        for group in _batched(_checked(documents, chunking, skip_bad, report), WINDOW):
            pending = _pending(collection, group, chunking, report)
            split = [(split_document(document, encoder, chunking), there) for document, there in pending]
            _unmake(collection, split)
            passages = itertools.chain.from_iterable(numbered for numbered, _ in split)
            for window in _batched(passages, WINDOW):
                _write(collection, encoder, window, report)
                report.seconds = time.perf_counter() - started
                if progress is not None:
                    progress(report)
            if not pending and progress is not None:
                progress(report)
    finally:  # also when nothing was new: the run before may have been killed just before this
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


def _write(collection: Collection, encoder: Encoder, window: list[Passage], report: IngestReport) -> None:
    texts = [passage_text(passage.document.title, passage.text) for passage in window]
    embeddings = encoder.encode_documents(texts, attention="attention" in collection.reduction.needs)
    collection.count(embeddings)
    points = _points(collection, window, embeddings, report)
    collection.store.upsert(collection.name, points)
    collection.store_counts()
    report.passages += len(window)
    report.documents += sum(passage.number == 0 for passage in window)
    report.truncated += sum(embedding.truncated > 0 for embedding in embeddings)
    report.tokens_lost += sum(embedding.truncated for embedding in embeddings)
    report.cls_bytes += len(window) * collection.cls_bytes


def _points(
    collection: Collection, window: list[Passage], embeddings: list[Embedding], report: IngestReport
) -> list[Point]:
    payloads = [payload_of(passage) for passage in window]
    vectors: list[dict[str, Float32]] = [{CLS: embedding.cls} for embedding in embeddings]
    if collection.recipe.layout != "dense":
        report.tokens_before += sum(map(len, embeddings))
        rows = _stored_rows(collection, embeddings)
        report.tokens_after += sum(map(len, rows))
        report.token_bytes += sum(map(len, rows)) * collection.token_bytes
        for payload, vector, codes in zip(payloads, vectors, rows, strict=True):
            payload["rows"] = len(codes)
            if collection.recipe.layout == "codes":
                payload["codes"] = base64.b64encode(codes.tobytes()).decode("ascii")
            else:
                vector[TOKENS] = codes.astype(np.float32)
    return [
        Point(point_id(passage.document.id, passage.number), vector, payload)
        for passage, vector, payload in zip(window, vectors, payloads, strict=True)
    ]


def _stored_rows(collection: Collection, embeddings: list[Embedding]) -> list[Any]:
    """The reduced and encoded token rows of each passage."""
    reduced = [collection.reduction(embedding) for embedding in embeddings]
    tokens = np.concatenate([embedding.tokens for embedding in reduced])
    codec = collection.codec
    if codec is None or not codec.fitted:
        codec = collection.fit_codec(tokens)
        logger.info("fitted codec %s of %r on %d vectors", codec.spec, collection.name, len(tokens))
    ends = np.cumsum([len(embedding) for embedding in reduced])
    return np.split(codec.encode(tokens), ends[:-1])


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
