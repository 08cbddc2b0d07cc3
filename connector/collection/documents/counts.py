"""The token frequencies of a collection, made again from its texts: tokenizing them, and encoding nothing.

An ingest counts what it writes. What it replaced, and what was deleted, stays counted; two writers of several
processes may lose some of each other's; and a version that was made of stored vectors has the counts of when
it was begun. So whoever is done with writing looks whether that has become too much.
"""

from __future__ import annotations

from connector.collection.collection import Collection
from connector.collection.documents.writer import EncoderOf
from connector.collection.pipeline import WINDOW
from connector.compression.reduction import Frequencies
from connector.core.io import batched
from connector.core.locks import Locks
from connector.core.types import passage_text
from connector.encoders import Encoder

STALE = 0.2
"""Of the passages that a collection holds, how many may be counted too many or too few."""


writing = Locks()
"""In one process one run at a time writes to a collection, by its place and its name: two that mixed their
passages of a document would spoil it, and counting between them would lose what they count."""


def recount(collection: Collection, encoder: Encoder) -> int:
    """Count the tokens of all passages, in place of what was counted.

    What another process writes meanwhile may be counted or not.

    Args:
        collection: which; one whose recipe asks for no frequencies keeps none.
        encoder: its own, which tokenizes.

    Returns:
        How many passages are counted.
    """
    if not collection.frequencies.needed:
        return 0
    counted = Frequencies()
    with writing[collection.store.location, collection.name]:
        for window in batched(collection.scroll_passages(["text", "title"]), WINDOW):
            texts = [passage_text(it.payload.get("title"), it.payload["text"]) for it in window]
            counted.add_ids(encoder.token_ids(texts))
        collection.frequencies.replace(counted)
    return counted.passages


def mend(collection: Collection, encoder_of: EncoderOf) -> bool:
    """Count again if more than a fifth has changed since, and say whether that was done.

    Where another run writes to the collection, it is left to that one.

    Args:
        collection: which.
        encoder_of: gives its encoder.
    """
    if not collection.frequencies.needed or not _stale(collection):
        return False
    lock = writing[collection.store.location, collection.name]
    if not lock.acquire(blocking=False):
        return False
    try:
        recount(collection, encoder_of(collection))
    finally:
        lock.release()
    return True


def _stale(collection: Collection) -> bool:
    counted = collection.frequencies.counted

    def off(held: int) -> bool:
        return abs(counted - held) > STALE * held

    # All points are counted at once, those that are passages one by one.
    all_points = None if collection.attached else collection.store.count(collection.physical)
    return (all_points is None or off(all_points)) and off(collection.passages())
