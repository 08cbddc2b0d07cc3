"""What is written to a collection while a migration changes it reaches every version that must have it.

A writer writes to the version that it knows, then looks what the collection says of itself. Is another
version being made of it, or has its name been switched to one, then the documents are carried there before
the write is acknowledged. So a migration may copy documents at any time: what was acknowledged before it
announced the version is there to be copied, what is acknowledged later is carried by its writer.

Nobody overwrites newer content by older for good: whoever has carried a document looks at the source again,
and if it changed in the meantime, carries it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from connector.collection.collection import Collection
from connector.collection.documents.document_state import (
    State,
    mark,
    read,
    remove,
    states,
    unmake,
    until_still,
)
from connector.collection.documents.passages import Passage, points_of
from connector.collection.documents.writer import EncoderOf, IngestReport, Writer
from connector.collection.metadata import CollectionMetadata
from connector.collection.pipeline import WINDOW
from connector.collection.versions import transcode
from connector.collection.versions.transcode import fill
from connector.core.errors import CollectionError, CollectionNotFound, StoreError, StoreLocked
from connector.core.io import batched
from connector.core.locks import Locks
from connector.stores.schema import FDE, LEXICAL

logger = logging.getLogger(__name__)


_FROZEN_SECONDS = 600.0
"""How long a writer waits for a migration that changes payloads."""


_POLL_SECONDS = 0.05


_carrying = Locks()
"""In one process, one carries to a version at a time."""


def settle(
    collection: Collection, ids: Sequence[str], encoder_of: EncoderOf, again: Callable[[], None]
) -> None:
    """Called after a write and before it is acknowledged.

    Args:
        collection: what was written to.
        ids: documents that are whole, or gone, now.
        encoder_of: gives a collection's encoder.
        again: repeats the write, which a change of payloads may have undone.

    Raises:
        ConnectorError: the documents cannot be carried to a version that is being made, as its model cannot
            be loaded here.
    """
    store, done, repeated = collection.store, {collection.physical}, False
    while True:
        physical = store.aliases().get(collection.name, collection.name)
        metadata = CollectionMetadata.read(physical, store.info(physical))
        if metadata.frozen:
            _wait_for_payloads(Collection(store, physical))
            done, repeated = {collection.physical}, False  # what was written or carried may be undone
            continue
        if not repeated and any(state.revised is not None for state in states(collection, ids).values()):
            again()  # its payload was changed, perhaps to what was made of an earlier one
            repeated = True
            continue
        now = collection.current()
        if now is not collection and now.physical == collection.physical:
            for vector in _added(collection, now):
                fill(now, ids, encoder_of, vector)
        missing = [it for it in (physical, metadata.rebuild) if it and it not in done]
        if not missing:
            return
        for other in missing:
            done.add(other)
            try:
                carry(collection, Collection(store, other), ids, encoder_of)
            except CollectionNotFound:
                store.info(collection.physical)  # raises if what was written to is gone itself
                logger.info("version %r was given up in the meantime", other)


def _added(collection: Collection, now: Collection) -> list[str]:
    """The vectors that a collection has got since, so that what was written lacks them."""
    before, after = collection.recipe, now.recipe
    return [it for it in (LEXICAL, FDE) if getattr(after, it) is not None and getattr(before, it) is None]


def check_payloads(collection: Collection) -> None:
    """Raises CollectionError if a migration was cut off while it changed payloads."""
    if not collection.read_metadata().frozen:
        return
    try:
        with collection.store.lease(collection.name):
            if frozen := collection.read_metadata().frozen:  # the migration may have ended since
                raise CollectionError(
                    f"step {frozen} of a migration of {collection.name!r} was cut off while it changed "
                    "payloads; finish it first, with connector migrate upgrade"
                )
    except StoreLocked:
        return  # it is running, and writers wait for it


def _wait_for_payloads(collection: Collection) -> None:
    ends = time.monotonic() + _FROZEN_SECONDS
    while frozen := collection.read_metadata().frozen:
        if time.monotonic() > ends:
            raise CollectionError(
                f"step {frozen} of a migration has been changing payloads of {collection.name!r} for "
                f"{_FROZEN_SECONDS:.0f} s; finish it with connector migrate upgrade, then write again"
            )
        time.sleep(_POLL_SECONDS)


def delete(collection: Collection, ids: Iterable[str], encoder_of: EncoderOf) -> int:
    """Delete documents from a collection and from every version that must not have them any more.

    Returns:
        How many of them were there.
    """
    check_payloads(collection)
    deleted: set[str] = set()
    for window in batched(list(dict.fromkeys(ids)), WINDOW):
        while True:
            try:
                deleted.update(_delete(collection, window, encoder_of))
                break
            except (CollectionNotFound, StoreError):
                now = collection.current()
                if now is collection:
                    raise
                collection = now  # the version was dropped after another one took its place
    return len(deleted)


def _delete(collection: Collection, ids: Sequence[str], encoder_of: EncoderOf) -> Iterable[str]:
    found = states(collection, ids)
    remove(collection, _sizes(found))
    settle(collection, ids, encoder_of, lambda: remove(collection, _sizes(found)))
    return found


def _sizes(found: Mapping[str, State]) -> dict[str, int]:
    return {id_: state.passages for id_, state in found.items()}


def carry(source: Collection, target: Collection, ids: Sequence[str], encoder_of: EncoderOf) -> None:
    """Make documents of one version what they are in another one: the same, unfinished, or gone.

    Args:
        source, target: the versions.
        ids: the documents.
        encoder_of: gives a collection's encoder.

    Raises:
        CollectionError: a document never stays the same for long enough.
    """
    most, changed = dict[str, int](), set[str]()

    def carry_stale(waiting: set[str], before: Mapping[str, State]) -> None:
        there = states(target, waiting)
        for id_, state in there.items():
            most[id_] = max(most.get(id_, 0), state.passages)
        stale = {id_ for id_ in waiting if id_ in changed or before.get(id_) != there.get(id_)}
        if stale:
            _carry(source, target, {id_: before.get(id_) for id_ in stale}, most, encoder_of)
        changed.update(stale)

    with _carrying[target.store.location, target.physical]:
        until_still(source, ids, carry_stale)


def _carry(
    source: Collection,
    target: Collection,
    wanted: Mapping[str, State | None],
    most: dict[str, int],
    encoder_of: EncoderOf,
) -> None:
    gone = {id_: most.get(id_, 0) for id_, state in wanted.items() if state is None}
    remove(target, gone)
    unfinished = {id_: state for id_, state in wanted.items() if state is not None and state.hash is None}
    unmake(target, {id_: (max(most.get(id_, 0), 1), 0) for id_ in unfinished})
    mark(target, _sizes(unfinished))
    finished = {id_: state for id_, state in wanted.items() if state is not None and state.hash is not None}
    stored = transcode.follows(source, target)
    found = read(source, finished, *(transcode.wanted(source) if stored else ()))
    unmake(target, {id_: (most.get(id_, 0), len(them)) for id_, them in found.items()})
    most.update({id_: max(most.get(id_, 0), len(them)) for id_, them in found.items()})
    pairs = [pair for them in found.values() for pair in them]
    if not stored and pairs:  # if there are none, no encoder has to be loaded
        _encode(target, [passage for passage, _ in pairs], encoder_of)
        return
    for window in batched(pairs, WINDOW):
        made = transcode.materials(source, target, [record for _, record in window])
        target.store.upsert(target.physical, points_of(target, [passage for passage, _ in window], made))


def _encode(target: Collection, passages: list[Passage], encoder_of: EncoderOf) -> None:
    report = IngestReport()
    writer = Writer(target, encoder_of, report)
    for window in batched(passages, WINDOW):
        writer.add(window)
    writer.flush()
    for id_, reason in report.refused.items():
        raise CollectionError(
            f"document {id_!r} is refused by the version that is being made: {reason}; change or delete it"
        )
