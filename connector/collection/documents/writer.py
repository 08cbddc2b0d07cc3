"""Passages to stored points: encoded, reduced, and written when their codec is fitted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from connector.collection.collection import Collection
from connector.collection.documents.document_state import State, mark, states, unmake
from connector.collection.documents.passages import Passage, points_of, text_of
from connector.collection.documents.waiting import KeptEmbeddings
from connector.collection.pipeline import WINDOW, ready
from connector.core.errors import CollectionNotFound, PointsRefused, StoreError
from connector.core.io import batched
from connector.core.types import Embedding
from connector.encoders import Encoder
from connector.stores import Point
from connector.stores.schema import CLS, FDE

WORD_BYTES = 8
"""Of a word in a sparse vector: its number and its weight."""


EncoderOf = Callable[[Collection], Encoder]
"""Gives the encoder that a collection was made by."""


Settle = Callable[[Collection, list[str], Callable[[], None]], None]
"""Called when points are written, with the documents that are whole now and what writes the points again."""


@dataclass(slots=True)
class IngestReport:
    """What one run of `ingest` did.

    Attributes:
        documents: documents written.
        unchanged: documents passed over, because they were there with the same content.
        metadata_updated: documents whose passages are as before: only their metadata was written.
        deleted_missing: documents deleted, because they are not in the source any more.
        passages: passages written; more than documents where texts were split.
        truncated: passages whose end lay beyond the encoder's window.
        tokens_lost: tokens in those ends.
        titles_cut: documents of whose title only the first words are encoded, in a quarter of the encoder's
            window, as it does not fit beside the text.
        tokens_before: token vectors that the encoder made.
        tokens_after: token vectors stored after reduction.
        cls_bytes, token_bytes, lexical_bytes, fde_bytes: stored bytes of the CLS vectors, of the token
            vectors, of the index of words and of fixed dimensional encodings, as far as there are any.
        seconds: wall-clock time.
        bad: for each record that was skipped, where it stood and what was wrong.
        refused: for each document that Qdrant refused, its id and what it said.
    """

    documents: int = 0
    unchanged: int = 0
    metadata_updated: int = 0
    deleted_missing: int = 0
    passages: int = 0
    truncated: int = 0
    tokens_lost: int = 0
    titles_cut: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    cls_bytes: int = 0
    token_bytes: int = 0
    lexical_bytes: int = 0
    fde_bytes: int = 0
    seconds: float = 0.0
    bad: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

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


class Writer:
    """Encodes, reduces and writes passages.

    A codec is fitted before the first passage is written, on as many token vectors as it wants; until they
    have come, reduced passages wait, and what was encoded of them is kept with the collection. Between two
    windows the collection may become another version of itself, which the writer follows.

    Args:
        collection: where to.
        encoder_of: gives its encoder.
        report: is kept up to date.
        settle: called after each write.
    """

    def __init__(
        self,
        collection: Collection,
        encoder_of: EncoderOf,
        report: IngestReport,
        settle: Settle | None = None,
    ) -> None:
        self.collection = collection
        self.report = report
        self._encoder_of = encoder_of
        self.encoder = encoder_of(collection)
        self._settle = settle
        self._kept = KeptEmbeddings(collection)
        self._waiting: list[tuple[Passage, Embedding]] = []  # reduced
        self._begun: list[Passage] = []  # written, of documents that are not acknowledged

    def follow(self) -> bool:
        """Go on with the version that the collection's name leads to now, and say whether it is another."""
        now = self.collection.current()
        if now is self.collection:
            return False
        self._become(now)
        return True

    def _become(self, collection: Collection) -> None:
        passages = self._begun + [passage for passage, _ in self._waiting]
        self._begun, self._waiting = [], []
        self.collection, self.encoder = collection, self._encoder_of(collection)
        self._kept = KeptEmbeddings(collection)
        sizes = {passage.document.id: passage.of for passage in passages}
        there = states(collection, sizes)
        unmake(collection, {id_: (there.get(id_, State(None, 1)).passages, of) for id_, of in sizes.items()})
        for window in batched(passages, WINDOW):
            self.add(window)

    def add(self, window: Sequence[Passage]) -> None:
        """Take a window of passages, and write all that wait unless the codec wants more."""
        window = [passage for passage in window if passage.document.id not in self.report.refused]
        if not window:
            return
        collection, report = self.collection, self.report
        texts = [text_of(passage) for passage in window]
        kept = self._kept.take(texts)
        new = self._embedded([text for text in texts if text not in kept])
        found = kept | new
        embeddings = [found[text] for text in texts]
        collection.frequencies.add(embeddings, more=bool(self._waiting))
        report.truncated += sum(embedding.truncated > 0 for embedding in embeddings)
        report.tokens_lost += sum(embedding.truncated for embedding in embeddings)
        if collection.recipe.layout != "dense":
            report.tokens_before += sum(map(len, embeddings))
        reduced = collection.pipeline.reduce(embeddings)
        self._waiting += zip(window, reduced, strict=True)  # at once, or not at all if it is interrupted
        if ready(collection.codec, [embedding for _, embedding in self._waiting]):
            self.flush()
        else:
            self._kept.keep(new)

    def _embedded(self, texts: list[str]) -> dict[str, Embedding]:
        if not texts:
            return {}
        return dict(zip(texts, self.collection.pipeline.embed(self.encoder, texts), strict=True))

    def flush(self) -> bool:
        """Write what waits, and say whether anything did."""
        if not self._waiting:
            return False
        collection, passages = self.collection, [passage for passage, _ in self._waiting]
        whole = [it.document.id for it in passages if it.number == 0]
        try:
            points = points_of(
                collection, passages, collection.pipeline.code([it for _, it in self._waiting])
            )
            self._write(points, passages)
            self._waiting = []
            self._begun += passages
            collection.frequencies.store()
            if self._settle is not None:
                self._settle(collection, whole, lambda: self._write(points, passages))
            self._kept.drop()
        except (CollectionNotFound, StoreError):
            now = collection.current()
            if now is collection:
                raise
            self._become(now)  # the points were of a version that is gone
            return self.flush() or True
        self._begun = [it for it in self._begun if it.document.id not in set(whole)]
        self._count(points, passages)
        return True

    def _write(self, points: list[Point], passages: list[Passage]) -> None:
        """Write points; documents of which some are refused are named, and left as unfinished."""
        collection = self.collection
        try:
            collection.store.upsert(collection.physical, points)
        except PointsRefused as refusal:
            if collection.current() is not collection:
                raise  # they are of what the collection was before, and not to blame
            spoilt: dict[str, int] = {}
            for point, passage in zip(points, passages, strict=True):
                if point.id in refusal.reasons:
                    id_ = passage.document.id
                    self.report.refused.setdefault(id_, refusal.reasons[point.id])
                    spoilt[id_] = passage.of
            # Of several passages, some are there now; a single one that is refused leaves what was there.
            mark(collection, {id_: size for id_, size in spoilt.items() if size > 1})

    def _count(self, points: list[Point], passages: list[Passage]) -> None:
        collection, report = self.collection, self.report
        taken = [passage.document.id not in report.refused for passage in passages]
        points = list(itertools.compress(points, taken))
        rows = sum(point.payload.get("rows", 0) for point in points)
        sizes = collection.vector_bytes
        report.tokens_after += rows
        report.token_bytes += rows * collection.metadata.token_bytes
        report.lexical_bytes += WORD_BYTES * sum(point.payload.get("words", 0) for point in points)
        report.fde_bytes += sum(FDE in point.vectors for point in points) * sizes.get(FDE, 0)
        report.passages += len(points)
        first = [it for it in itertools.compress(passages, taken) if it.number == 0]
        report.documents += len(first)
        report.titles_cut += sum(it.title != it.document.title for it in first)
        report.cls_bytes += len(points) * sizes[CLS]
