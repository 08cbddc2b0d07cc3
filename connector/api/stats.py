"""What a collection holds and takes."""

from __future__ import annotations

from dataclasses import dataclass

from connector.collection.collection import Collection, scored_by
from connector.collection.documents.writer import WORD_BYTES
from connector.stores import Store
from connector.stores.schema import CLS, FDE


@dataclass(frozen=True, slots=True)
class Stats:
    """What a collection holds.

    Attributes:
        collection: its name.
        documents: how many documents.
        passages: how many passages; more than documents where texts were split.
        model: the encoder's name.
        recipe: the recipe's name.
        layout: "dense", "multivector" or "codes".
        scored_by: how tokens are scored: "MaxSim", or an alignment such as "top-2", with what weighs in; None
            if none are stored.
        bytes_per_passage: mean bytes of a passage's vectors: "cls", "tokens", where there are any "lexical"
            (the index of words) and "fde", "total".
        at_rest_bytes: what the collection's folder takes on disk, texts, payload, indexes and write-ahead
            log included; None where it cannot be seen.
        log_bytes: the write-ahead log's part of that; it does not grow with the collection.
    """

    collection: str
    documents: int
    passages: int
    model: str
    recipe: str
    layout: str
    scored_by: str | None
    bytes_per_passage: dict[str, float]
    at_rest_bytes: int | None
    log_bytes: int | None


_STATS_SAMPLE = 10_000
"""Passages whose sizes are averaged; point ids are hashes, so the first ones are a random sample."""


def stats_of(collection: Collection) -> Stats:
    """Count and measure a collection."""
    store = collection.store
    means = _means(store, collection.physical, ["rows", "words"])
    sizes = {
        "cls": collection.vector_bytes[CLS],
        "tokens": means["rows"] * collection.token_bytes,
        "lexical": means["words"] * WORD_BYTES,
        "fde": collection.vector_bytes.get(FDE, 0),
    }
    sizes = {name: size for name, size in sizes.items() if size or name in ("cls", "tokens")}
    disk, rest = store.disk_bytes(collection.physical), store.disk_bytes(collection.physical, log=False)
    return Stats(
        collection=collection.name,
        documents=collection.documents(),
        passages=collection.passages(),
        model=collection.model,
        recipe=collection.recipe.name,
        layout=collection.recipe.layout,
        scored_by=scored_by(collection, collection.alignment, collection.cls_weight),
        bytes_per_passage={
            name: round(size, 1) for name, size in (sizes | {"total": sum(sizes.values())}).items()
        },
        at_rest_bytes=disk,
        log_bytes=None if disk is None or rest is None else max(disk - rest, 0),
    )


def _means(store: Store, name: str, counts: list[str]) -> dict[str, float]:
    """Mean numbers that passages carry, such as that of their stored token rows, over a sample."""
    totals, sampled = dict.fromkeys(counts, 0), 0
    for record in store.scroll(name, ["passage", *counts]):
        if "passage" in record.payload:
            sampled += 1
            for key in counts:
                totals[key] += int(record.payload.get(key) or 0)
        if sampled == _STATS_SAMPLE:
            break
    return {key: total / max(sampled, 1) for key, total in totals.items()}
