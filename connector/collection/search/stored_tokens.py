"""What is stored of passages' tokens, read back, and the codec that made it."""

from __future__ import annotations

import binascii
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connector.collection.collection import Collection
from connector.collection.pipeline import StoredTokens
from connector.compression.codecs import Codec
from connector.core.errors import CollectionError
from connector.core.types import Float32
from connector.stores import Record
from connector.stores.schema import TOKENS


def keys_of(collection: Collection) -> tuple[list[str], list[str]]:
    """The payload keys and the vectors that `stored` wants of each record."""
    recipe = collection.recipe
    if recipe.layout == "multivector":
        return [], [TOKENS]
    return ["codes", "saliency"] if recipe.saliency else ["codes"], []


def stored(collection: Collection, records: Sequence[Record]) -> StoredTokens:
    """What is stored of these passages' tokens; at least one passage.

    Raises:
        CollectionError: they are not of this collection any more.
    """
    try:
        if collection.recipe.layout == "codes":
            return _from_payload(collection, records)
        vectors = [record.vectors[TOKENS] for record in records]
    except KeyError:
        raise collection.replaced() from None
    lengths = np.array([len(it) for it in vectors])
    rows = np.concatenate(vectors)
    return StoredTokens(rows, lengths, None) if not collection.recipe.saliency else _unfolded(rows, lengths)


def _from_payload(collection: Collection, records: Sequence[Record]) -> StoredTokens:
    blobs = [_bytes_of(record) for record in records]
    lengths = np.array([len(blob) for blob in blobs]) // codec_of(collection).stored_row_bytes
    rows, saliency = codec_of(collection).stored(b"".join(blobs)), None
    if collection.recipe.saliency:
        kept = b"".join(binascii.a2b_base64(record.payload["saliency"]) for record in records)
        saliency = np.frombuffer(kept, np.uint8)
    return StoredTokens(rows, lengths, saliency)


def _bytes_of(record: Record) -> bytes:
    """The codes of a passage, which searches of one batch share, and read once."""
    codes = record.payload["codes"]
    if isinstance(codes, str):
        codes = record.payload["codes"] = binascii.a2b_base64(codes)
    blob: bytes = codes
    return blob


def _unfolded(rows: Float32, lengths: NDArray[np.int64]) -> StoredTokens:
    """Unit rows and their saliency again."""
    norms = np.linalg.norm(rows, axis=1)
    saliency = np.rint(np.minimum(norms, 1) * 255).astype(np.uint8)
    return StoredTokens(rows / np.maximum(norms, 1e-6)[:, None], lengths, saliency)


def codec_of(collection: Collection) -> Codec:
    """The codec of a collection that stores tokens.

    Raises:
        CollectionError: it stores none.
    """
    if collection.codec is None:
        raise CollectionError(f"collection {collection.name!r} stores no tokens")
    return collection.codec
