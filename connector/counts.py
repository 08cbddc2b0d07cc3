"""How often the passages of a collection have each token, for the reductions that ask for that."""

from __future__ import annotations

from collections.abc import Sequence

from connector.compression.reduction import Frequencies
from connector.core.types import Embedding
from connector.stores import Store

FREQUENCIES_FILE = "frequencies.safetensors"
_SAID = "frequencies"


class Counts:
    """Token frequencies of one version of a collection.

    Args:
        store, physical: the version.

    Attributes:
        counted: what ingest counts and prunes by.
        asked: what queries are reduced by; searches read while an ingest writes, so they have their own.
        needed: whether anything asks for them; if not, nothing is counted or stored.
    """

    def __init__(self, store: Store, physical: str) -> None:
        self._store = store
        self._physical = physical
        self.counted = Frequencies()
        self.asked = Frequencies()
        self.needed = False

    def add(self, embeddings: Sequence[Embedding], more: bool) -> None:
        """Count passages; one writer at a time.

        Args:
            embeddings: of the passages, not reduced.
            more: whether the passages counted before wait to be stored, too. Else what was counted and not
                stored is forgotten, as passages that are never written do not count.
        """
        if self.needed:
            if not more:
                self._read(self.counted, self._store.info(self._physical).get(_SAID))
            self.counted.add(embeddings)

    def store(self) -> None:
        """Store what was counted."""
        if self.needed:
            self._store.put_artifact(self._physical, FREQUENCIES_FILE, self.counted.save())
            self._store.set_info(self._physical, {_SAID: str(self.counted.passages)})

    def refresh(self) -> None:
        """Read what queries are reduced by, if passages were counted since."""
        said = self._store.info(self._physical).get(_SAID)
        if said != str(self.asked.passages):
            self._read(self.asked, said)

    def copy_to(self, other: Counts) -> None:
        """Give another version what is stored, if it is needed there."""
        said = self._store.info(self._physical).get(_SAID)
        if other.needed and said:
            data = self._store.get_artifact(self._physical, FREQUENCIES_FILE)
            self._store.put_artifact(other._physical, FREQUENCIES_FILE, data)
            self._store.set_info(other._physical, {_SAID: said})

    def _read(self, into: Frequencies, said: str | None) -> None:
        empty = Frequencies().save
        into.load(self._store.get_artifact(self._physical, FREQUENCIES_FILE) if said else empty())
