"""What a collection holds and takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

from connector.collection.collection import Collection
from connector.collection.documents.writer import WORD_BYTES
from connector.stores.filters import off_key
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
        vectors: the types of Qdrant's that its dense vectors are stored in, by their names.
        indexes: the metadata keys that are indexed, and the kinds of their values.
        keys: names on a server that an API key limited to some needs: to read all but the last, to write all.
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
    vectors: dict[str, str]
    indexes: dict[str, str]
    keys: list[str]


_STATS_SAMPLE = 10_000
"""Passages whose sizes are averaged; point ids are hashes, so the first ones are a random sample."""


def stats_of(collection: Collection) -> Stats:
    """Count and measure a collection."""
    store, sums = collection.store, Counter[str]()
    points = store.scroll(collection.physical, ["passage", "rows", "words"])
    sample = list(islice((it.payload for it in points if "passage" in it.payload), _STATS_SAMPLE))
    for payload in sample:
        sums.update({key: int(payload.get(key) or 0) for key in ("rows", "words")})
    many = max(len(sample), 1)
    sizes = {
        "cls": collection.vector_bytes[CLS],
        "tokens": sums["rows"] / many * collection.metadata.token_bytes,
    }
    optional = {"lexical": sums["words"] / many * WORD_BYTES, "fde": collection.vector_bytes.get(FDE, 0)}
    sizes |= {name: size for name, size in optional.items() if size}
    sizes["total"] = sum(sizes.values())
    disk, rest = store.disk_bytes(collection.physical), store.disk_bytes(collection.physical, log=False)
    return Stats(
        collection=collection.name,
        documents=collection.documents(),
        passages=collection.passages(),
        model=collection.metadata.model,
        recipe=collection.recipe.name,
        layout=collection.recipe.layout,
        scored_by=collection.strategy.name,
        bytes_per_passage={name: round(size, 1) for name, size in sizes.items()},
        at_rest_bytes=disk,
        log_bytes=None if disk is None or rest is None else max(disk - rest, 0),
        vectors={it.name: it.datatype for it in collection.schema.vectors},
        indexes={off_key(key): kind for key, kind in collection.metadata.indexes.items()},
        keys=[collection.name, collection.physical, *store.shared] if store.shared else [],
    )
