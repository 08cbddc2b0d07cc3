"""A collection that follows its name: a migration may lead it to another version at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from connector.collection.collection import Collection
from connector.core.errors import CollectionError, StoreError
from connector.encoders import Encoder, Model, load_encoder
from connector.scoring import maxsim

T = TypeVar("T")


_SERVER_SECONDS = 1.0
"""How long a server is not asked again where a name leads; the version that it led to stays for longer."""


class CollectionHandle:
    """A collection as it is now, and the encoders of its versions.

    Args:
        collection: as it is when this is made.
        model: where its encoder is; None for the model that the collection names.
        device: for encoders that are loaded.
    """

    def __init__(self, collection: Collection, model: Model | None, device: str | None) -> None:
        self._collection = collection
        self._model = model
        # What the model is for; a migration may bring another encoder.
        self._meant = collection.metadata.encoder
        self._device = device
        self._encoders: dict[str, Encoder] = {}
        self._loading = threading.Lock()
        self._asked = time.monotonic()

    @property
    def seen(self) -> Collection:
        """The collection as it was last seen."""
        return self._collection

    @property
    def collection(self) -> Collection:
        """The collection, seen again where that costs nothing, and else once a second."""
        fresh = self._collection.store.capabilities.aliases
        if not fresh or time.monotonic() - self._asked > _SERVER_SECONDS:
            self.refresh()
        return self._collection

    def refresh(self) -> Collection:
        """The collection, seen again."""
        self._collection = self._collection.current()
        self._asked = time.monotonic()
        return self._collection

    def encoder_of(self, collection: Collection) -> Encoder:
        """The encoder that made a version, loaded when first asked for.

        Raises:
            ModelError: it cannot be loaded.
            EncoderMismatch: the model is not the one that made the version.
        """
        with self._loading:
            maker = collection.metadata.encoder
            if maker not in self._encoders:
                given = self._model if maker == self._meant else None
                encoder = load_encoder(collection.metadata.model if given is None else given, self._device)
                collection.check_encoder(encoder)
                self._encoders[maker] = encoder
                maxsim.warm()
            return self._encoders[maker]

    def close(self) -> None:
        """Let the encoders go; a model whose last user this was is freed."""
        self._model = None
        self._encoders.clear()

    def read(self, call: Callable[[Collection], T]) -> T:
        """Call with the collection; once more if it fails because its name leads elsewhere now."""
        collection = self.collection
        try:
            return call(collection)
        except (CollectionError, StoreError):
            now = self.refresh()
            if now is collection:
                raise
            return call(now)


class OpenCollection(Protocol):
    """What migrations need of a `Connector`."""

    @property
    def name(self) -> str:
        """What users call the collection."""
        ...

    @property
    def collection(self) -> Collection:
        """The collection as it is now."""
        ...

    def refresh(self) -> None:
        """Look again which version the name leads to."""
        ...

    def encoder_of(self, collection: Collection) -> Encoder:
        """The encoder of a version."""
        ...
