"""How often each token occurs in a collection, as it stores that."""

from __future__ import annotations

from collections.abc import Sequence

from connector.compression.reduction import Frequencies
from connector.core.types import Embedding
from connector.stores import Store

FREQUENCIES_FILE = "frequencies.safetensors"


class StoredFrequencies:
    """Token frequencies of one version of a collection.

    Args:
        store, physical: the version.
        needed: whether anything asks for them; if not, nothing is counted or stored.

    Attributes:
        needed: as given.
        for_passages: what ingest counts, and reduces passages by.
        for_queries: what queries are reduced by; searches read these while an ingest counts the others.
        seen: how many passages they counted when the collection was last seen; None before any.
    """

    def __init__(self, store: Store, physical: str, needed: bool) -> None:
        self._store = store
        self._physical = physical
        self.needed = needed
        self.for_passages = Frequencies()
        self.for_queries = Frequencies()
        self.seen = self._passages if needed else None
        self._read_for: str | None = None

    def add(self, embeddings: Sequence[Embedding], more: bool) -> None:
        """Count passages; one writer at a time.

        Args:
            embeddings: of the passages, not reduced.
            more: whether the passages counted before wait to be stored, too. Else what was counted and not
                stored is forgotten, as passages that are never written do not count.
        """
        if self.needed:
            if not more:
                self._read(self.for_passages)
            self.for_passages.add(embeddings)

    def store(self) -> None:
        """Store what was counted."""
        if self.needed:
            self._store.put_artifact(self._physical, FREQUENCIES_FILE, self.for_passages.save())
            passages = str(self.for_passages.passages)
            self._store.set_info(self._physical, {"frequencies": passages})
            self.seen = passages

    def stored(self) -> Frequencies:
        """What is stored now."""
        return self._read(Frequencies()) if self.needed else Frequencies()

    def refresh(self) -> None:
        """Read what queries are reduced by, if the collection was seen to have counted passages since."""
        seen = self.seen
        if seen != self._read_for:
            self._read(self.for_queries)
            self._read_for = seen

    def replace(self, counted: Frequencies) -> None:
        """Store what was counted of all passages in place of everything that was counted before."""
        self.for_passages.load(counted.save())
        self.store()
        self.for_queries.load(counted.save())

    def copy_to(self, other: StoredFrequencies) -> None:
        """Give another version what is stored, if it is needed there."""
        passages = self._passages
        if other.needed and passages:
            data = self._store.get_artifact(self._physical, FREQUENCIES_FILE)
            self._store.put_artifact(other._physical, FREQUENCIES_FILE, data)
            self._store.set_info(other._physical, {"frequencies": passages})
            other.seen = passages

    @property
    def counted(self) -> int:
        """How many passages are counted, as it is stored."""
        return int(self._passages or 0)

    @property
    def _passages(self) -> str | None:
        """How many passages the stored ones count."""
        return self._store.info(self._physical).get("frequencies")

    def _read(self, into: Frequencies) -> Frequencies:
        empty = Frequencies().save
        into.load(self._store.get_artifact(self._physical, FREQUENCIES_FILE) if self._passages else empty())
        return into
