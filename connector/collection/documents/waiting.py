"""What is encoded and cannot be written yet, kept with the collection: a killed run encodes it but once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from safetensors.numpy import save

from connector.collection.collection import Collection
from connector.core.errors import StoreError
from connector.core.io import load_arrays
from connector.core.types import Embedding
from connector.encoders.cache import from_arrays, to_arrays

_BYTES = 16 * 2**20
"""Of the vectors in an artifact, which is a third larger in a request, of which a server takes 32 MB."""


class KeptEmbeddings:
    """Embeddings of passages that wait for their codec, by their texts, in artifacts of the collection.

    As the collection has one encoder and one reduction, a text's embedding is never stale. Its description
    counts the artifacts, so none is looked for where none is; one that cannot be read holds nothing.

    Args:
        collection: the passages'.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._found: dict[str, Embedding] | None = None

    def take(self, texts: Sequence[str]) -> dict[str, Embedding]:
        """Those of these texts that an earlier run has kept; each is given once."""
        if self._found is None:
            self._found = dict(self._read())
        return {text: self._found.pop(text) for text in texts if text in self._found}

    def keep(self, embeddings: Mapping[str, Embedding]) -> None:
        """Keep embeddings, by their texts; not those that are too large for a request."""
        for texts in _parts(embeddings):
            arrays = to_arrays([embeddings[text] for text in texts])
            arrays["texts"] = np.frombuffer(json.dumps(texts).encode(), np.uint8)
            count = self._count
            self._collection.store.put_artifact(self._collection.physical, _key(count), save(arrays))
            self._collection.write_metadata(waiting=count + 1)

    def drop(self) -> None:
        """Forget all, as nothing waits any more."""
        if self._count:
            for number in range(self._count):
                self._collection.store.drop_artifact(self._collection.physical, _key(number))
            self._collection.write_metadata(waiting=None)
        self._found = {}

    @property
    def _count(self) -> int:
        return self._collection.metadata.waiting or 0

    def _read(self) -> Iterator[tuple[str, Embedding]]:
        for number in range(self._count):
            with contextlib.suppress(StoreError, ValueError):  # another run has dropped it
                arrays = load_arrays(
                    self._collection.store.get_artifact(self._collection.physical, _key(number))
                )
                texts = json.loads(arrays.pop("texts").tobytes())
                yield from zip(texts, from_arrays(arrays, texts), strict=True)


def _key(number: int) -> str:
    return f"waiting-{number:05}.safetensors"


def _parts(embeddings: Mapping[str, Embedding]) -> Iterator[list[str]]:
    """The texts, as many together as an artifact holds."""
    part, size = list[str](), 0
    for text, embedding in embeddings.items():
        own = embedding.tokens.nbytes
        if part and size + own > _BYTES:
            yield part
            part, size = [], 0
        if own <= _BYTES:
            part.append(text)
            size += own
    if part:
        yield part
