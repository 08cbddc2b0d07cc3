"""A vector that is added to a collection, made for the documents that are there."""

from __future__ import annotations

from collections.abc import Sequence

from connector.collection.collection import Collection
from connector.collection.documents.document_state import read, states
from connector.collection.documents.passages import Passage
from connector.collection.documents.points import text_of
from connector.collection.documents.writer import EncoderOf
from connector.collection.pipeline import WINDOW
from connector.collection.versions import transcode
from connector.core.errors import CollectionError
from connector.core.io import batched
from connector.stores import Point, Record
from connector.stores.schema import FDE, LEXICAL

TRIES = 50
"""How often a document is read again that changes each time."""


def fill(
    collection: Collection, ids: Sequence[str], encoder_of: EncoderOf, vector: str | None = None
) -> None:
    """Give documents the vector that is being added to their collection, or another one.

    Raises:
        CollectionError: a document never stays the same for long enough.
    """
    waiting = list(ids)
    for _ in range(TRIES):
        before = states(collection, waiting)
        found = read(collection, before, *transcode.wanted(collection))
        pairs = [pair for them in found.values() for pair in them]
        for window in batched(pairs, WINDOW):
            points = _filled(collection, vector or collection.metadata.filling, window, encoder_of)
            collection.store.amend(collection.physical, points)
        after = states(collection, before)
        waiting = [id_ for id_ in before if after.get(id_) != before[id_]]  # got what is of an earlier text
        if not waiting:
            return
    raise CollectionError(
        f"document {waiting[0]!r} of {collection.name!r} changes all the time; stop its writer"
    )


def _filled(
    collection: Collection,
    vector: str | None,
    window: Sequence[tuple[Passage, Record]],
    encoder_of: EncoderOf,
) -> list[Point]:
    passages = [passage for passage, _ in window]
    keys = [collection.point_id(passage.document.id, passage.number) for passage in passages]
    if vector == LEXICAL:
        words = [collection.pipeline.words.passage(text_of(passage)) for passage in passages]
        return [Point(key, {LEXICAL: it}, {"words": len(it)}) for key, it in zip(keys, words, strict=True)]
    if vector != FDE:
        return []
    if transcode.why_not(collection.recipe, collection.recipe) is None:
        stored = transcode.materials(collection, collection, [record for _, record in window])
        tokens = [it.projected for it in stored]
    else:
        texts = [text_of(passage) for passage in passages]
        tokens = [it.projected for it in collection.pipeline.make(encoder_of(collection), texts)]
    made = [collection.muvera.passage(it) for it in tokens if it is not None]
    return [Point(key, {FDE: it}, {}) for key, it in zip(keys, made, strict=True)]
