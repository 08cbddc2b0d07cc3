"""Documents as they stand in a store: how far each one is there, and how they go.

A document's passages are written last to first, so that passage 0, which carries the hash of the whole
document, is there only when all others are. While a document of several passages is written or removed, a
mark stands in place of its passage 0: it has no vector, so no search finds it; no hash, so nobody takes the
document for finished; and the largest number of passages that may be there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qdrant_client import models

from connector.collection.collection import Collection
from connector.collection.documents.passages import Passage, joined, payload_of
from connector.core.errors import CollectionError, InputError
from connector.core.io import batched
from connector.core.types import Document
from connector.stores import Point, Record
from connector.stores.filters import matches_all, on_metadata

logger = logging.getLogger(__name__)


_WINDOW = 256


_TRIES = 50
"""How often a document is worked on that changes each time."""


_STATE = ["hash", "passages", "revised"]


_TEXT = (
    *("id", "passage", "text", "title", "metadata", "revised", "hash"),
    *("start", "gap", "full_title"),
)


_RELABELLED = ("metadata", "hash", "start", "gap")


@dataclass(frozen=True, slots=True)
class State:
    """How far a document is there.

    Args:
        hash: of its content; None while it is not finished.
        passages: how many it has; while it is not finished, how many there may be at most.
        revised: the last step of a migration that changed its metadata.
    """

    hash: str | None
    passages: int
    revised: str | None = None

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> State:
        """What passage 0, or the mark in its place, says."""
        return cls(payload.get("hash"), int(payload.get("passages", 1)), payload.get("revised"))


def states(collection: Collection, ids: Iterable[str]) -> dict[str, State]:
    """The states of those documents that are there, in whatever state."""
    first = {collection.point_id(id_, 0): id_ for id_ in ids}
    found = collection.store.retrieve(collection.physical, list(first), _STATE)
    return {first[key]: State.of(record.payload) for key, record in found.items()}


def scan(collection: Collection, filter: models.Filter | None = None) -> Iterator[tuple[str, State]]:
    """Every document, finished or not, in the order of their points.

    Args:
        collection: which.
        filter: on payload keys.
    """
    whole = models.IsEmptyCondition(is_empty=models.PayloadField(key="passages"))
    documents = models.Filter(must=None if filter is None else [filter], must_not=[whole])
    for record in collection.store.scroll(collection.physical, ["id", *_STATE], filter=documents):
        yield record.payload["id"], State.of(record.payload)


def until_still(
    collection: Collection, ids: Iterable[str], work: Callable[[set[str], dict[str, State]], None]
) -> None:
    """Work on documents, and once more on those that changed in the meantime, until none did.

    Args:
        collection: which.
        ids: of the documents.
        work: is given the ids of those that it is for, and the states of those that are there.

    Raises:
        CollectionError: a document never stays the same for long enough.
    """
    waiting = set(ids)
    for _ in range(_TRIES):
        before = states(collection, waiting)
        work(waiting, before)
        after = states(collection, waiting)
        waiting = {id_ for id_ in waiting if after.get(id_) != before.get(id_)}
        if not waiting:
            return
    raise CollectionError(
        f"document {min(waiting)!r} of {collection.name!r} changes all the time; stop its writer"
    )


def matching(collection: Collection, ids: Iterable[str] | None, filter: models.Filter | None) -> list[str]:
    """The ids of those documents that are there and have one of these ids, or match a filter.

    Raises:
        InputError: not exactly one of the two is given, or the filter cannot be used, or asks for nothing.
    """
    if (ids is None) == (filter is None):
        raise InputError("give either ids or a filter of the documents")
    if ids is not None:
        return [id_ for some in batched(checked_ids(ids), _WINDOW) for id_ in states(collection, some)]
    condition = on_metadata(filter)
    if condition is None or matches_all(condition):
        asked = "" if filter is None else filter.model_dump_json(exclude_none=True, by_alias=True)
        raise InputError(
            f"filter {asked:.200} asks for nothing and would match every document; give a condition, or drop "
            "the collection instead"
        )
    return [id_ for id_, _ in scan(collection, condition)]


def checked_ids(ids: Iterable[str]) -> list[str]:
    """The ids as a list.

    Raises:
        InputError: they are not texts, or one text.
    """
    wanted = [] if isinstance(ids, str) else list(ids)
    if isinstance(ids, str) or not all(isinstance(id_, str) for id_ in wanted):
        raise InputError(f"ids is {ids!r:.80}; give a list of texts")
    return wanted


def documents_of(collection: Collection, ids: Sequence[str]) -> list[Document]:
    """Those of the documents that are there and finished, in the order of the ids, each once.

    Their texts are as they were given, but for documents that a version split which stored no places of
    passages; the log says how many those are.
    """
    found: dict[str, Document] = {}
    guessed = 0
    for some in batched(list(dict.fromkeys(ids)), _WINDOW):
        for id_, pairs in read(collection, states(collection, some)).items():
            passages = [passage for passage, _ in reversed(pairs)]
            found[id_] = replace(passages[0].document, text=joined(passages))
            guessed += any(it.start is None for it in passages)
    if guessed:
        logger.warning(
            "%d documents of %r were split by an earlier version, which did not store where passages begin: "
            "their texts are passages joined by line breaks, with overlaps twice; delete and ingest them for "
            "their texts as they were given",
            *(guessed, collection.name),
        )
    return [found[id_] for id_ in dict.fromkeys(ids) if id_ in found]


def read(
    collection: Collection, found: Mapping[str, State], keys: Sequence[str] = (), vectors: Sequence[str] = ()
) -> dict[str, list[tuple[Passage, Record]]]:
    """The passages of finished documents, the first one last, with what is stored of each.

    A document that is being changed in the meantime is missing from what is returned.

    Args:
        collection: which.
        found: the documents and their states.
        keys, vectors: what to read of each passage beside its text.
    """
    numbered = {
        collection.point_id(id_, number): (id_, number)
        for id_, state in found.items()
        if state.hash is not None
        for number in range(state.passages)
    }
    records = collection.store.retrieve(
        collection.physical, list(numbered), list({*_TEXT, *keys}), list(vectors)
    )
    documents: dict[str, list[tuple[Passage, Record]]] = {}
    for key, (id_, _) in reversed(numbered.items()):
        record = records.get(key)
        if record is not None and "text" in record.payload:
            documents.setdefault(id_, []).append((_passage(record.payload, found[id_]), record))
    return {
        id_: them
        for id_, them in documents.items()
        if len(them) == found[id_].passages and them[-1][1].payload.get("hash") == found[id_].hash
    }


def _passage(payload: Mapping[str, Any], state: State) -> Passage:
    document = Document(
        id=payload["id"],
        text=payload["text"],
        title=payload.get("full_title", payload.get("title")),
        metadata=payload.get("metadata") or {},
    )
    return Passage(
        *(document, payload["passage"], state.passages, document.text, payload.get("title")),
        hash=state.hash or "",
        revised=payload.get("revised"),
        start=payload.get("start") if state.passages > 1 else 0,
        gap=payload.get("gap", ""),
    )


def mark(collection: Collection, sizes: Mapping[str, int]) -> None:
    """Mark documents as unfinished.

    Args:
        collection: which.
        sizes: how many passages of each document there may be at most.
    """
    if sizes:
        marks = [
            Point(collection.point_id(id_, 0), {}, {"id": id_, "passages": it}) for id_, it in sizes.items()
        ]
        collection.store.upsert(collection.physical, marks)


def relabel(collection: Collection, passages: Sequence[Passage]) -> None:
    """Give stored passages another metadata, and their places; the first one of a document, with the hash,
    comes last."""
    points = []
    for passage in passages:
        changed = {key: it for key, it in payload_of(passage).items() if key in _RELABELLED}
        points.append(Point(collection.point_id(passage.document.id, passage.number), {}, changed))
    collection.store.amend(collection.physical, points)


def unmake(collection: Collection, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Mark those documents as unfinished that have several passages, then delete their old ones.

    Args:
        collection: which.
        sizes: of each document, how many passages may be there, and how many will come.
    """
    mark(collection, {id_: max(both) for id_, both in sizes.items() if max(both) > 1})
    old = [
        collection.point_id(id_, number) for id_, (there, _) in sizes.items() for number in range(1, there)
    ]
    if old:
        collection.store.delete(collection.physical, old)


def remove(collection: Collection, sizes: Mapping[str, int]) -> None:
    """Delete documents; a run that was killed leaves marks, which running it again removes.

    Args:
        collection: which.
        sizes: how many passages of each document there may be at most.
    """
    unmake(collection, {id_: (size, 0) for id_, size in sizes.items()})
    if sizes:
        collection.store.delete(collection.physical, [collection.point_id(id_, 0) for id_ in sizes])
