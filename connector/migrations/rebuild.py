"""Another version of a collection, made while the collection goes on being searched and written.

The new version is made under a name of its own, gets its codec, and is announced; from then on writers carry
to it what they write (`connector.collection.versions.dual_write`). Documents are copied as far as they
differ, so that a run that was cut off goes on where it was; then both are compared, and the name is
switched. Whatever happens before the switch, the old version is as it was.
"""

from __future__ import annotations

import uuid
from typing import Any

from connector.collection.aliases import next_version, versions
from connector.collection.collection import CANARIES_FILE, Collection
from connector.collection.documents.document_state import read, unmake
from connector.collection.documents.writer import IngestReport, Writer
from connector.collection.metadata import CollectionMetadata, new_metadata
from connector.collection.pipeline import WINDOW
from connector.collection.versions import transcode
from connector.collection.versions.dual_write import carry
from connector.core.errors import MigrationError
from connector.core.io import batched
from connector.encoders import Encoder
from connector.migrations.steps import Shape, Work
from connector.migrations.verify import differing, verify
from connector.stores import Record

_AGAIN = ", again"
"""Of a version that is there from before, and not to be dropped if the run is given up."""


_WORKING = ("building", "rebuild", "frozen", "filling")


_OF_CONTENT = ("codec", "alignment", "adapted_weight", "frequencies", "canaries", "imported", *_WORKING)
"""What a new version does not have from the one that it is made of."""


def rebuild(work: Work, source: Collection, after: Shape, encoder: Encoder | None = None) -> None:
    """Make another version and switch to it.

    Args:
        work: what runs.
        source: the collection as it is now.
        after: the recipe and the graph of the new version.
        encoder: encodes every text again; None makes the version of what is stored.

    Raises:
        MigrationError: the new version does not hold what it should; the name leads to the old one still.
    """
    target = _begun(work, source, after, encoder) or _made(work, source, after, encoder)
    _fit(work, source, target)
    source.write_metadata(rebuild=target.physical)
    _copy(work, source, target)
    work.store.finish(target.physical)
    work.progress("verifying")
    verification = verify(source, target, work.encoder_of)
    work.say(verification.summary())
    problems = verification.problems(work.min_overlap)
    if problems:
        raise MigrationError(
            f"{target.physical} is not what it should be: {'; '.join(problems)}. {source.name!r} leads to "
            f"{source.physical} as before; look at both with connector search --collection, then run the "
            "command again, with --min-overlap if the hits may differ more"
        )
    work.lease.check()
    now, made = source.read_metadata(), target.read_metadata()
    values: dict[str, Any] = {**now.ledger, **dict.fromkeys(_WORKING)}
    if made.route == "stored" and target.recipe.layout != "dense":  # tokens are scored as they were
        values |= {"alignment": now.alignment, "adapted_weight": now.adapted_weight}
    target.write_metadata(**values | dict(work.finish))
    work.store.switch(work.name, target.physical)
    source.write_metadata(rebuild=None)


def _begun(work: Work, source: Collection, after: Shape, encoder: Encoder | None) -> Collection | None:
    """The version that a run which was cut off has begun, or that is there from before."""
    announced, store = source.read_metadata().rebuild, work.store
    fingerprint = source.encoder if encoder is None else encoder.fingerprint
    step = work.id.rpartition(".")[0]  # whatever its file says
    others = [it for it in reversed(versions(store, work.name)) if it != source.physical]
    for physical in others:
        metadata = CollectionMetadata.read(physical, store.info(physical))
        building = metadata.building or ""
        if building in (work.id, work.id + _AGAIN):
            return Collection(store, physical)
        if physical == announced and metadata.encoder == fingerprint and after.matches(metadata):
            target = Collection(store, physical)  # it was whole, and about to be switched to
            target.write_metadata(building=work.id + _AGAIN)
            return target
        # Of a run that nobody will finish, as this one holds the lease.
        if physical == announced or building.startswith(f"{step}."):
            source.write_metadata(rebuild=None)
            if building.endswith(_AGAIN):
                Collection(store, physical).write_metadata(building=None)
            elif building:
                store.drop(physical)
    kept = after.kept(source, encoder=fingerprint) if work.direction == "downgrade" else None
    if kept is None:
        return None
    work.say(f"{kept} is there from before, and is brought up to date")
    target = Collection(store, kept)
    # Before what another run goes on by.
    target.write_metadata(indexes={**target.metadata.indexes, **source.metadata.indexes})
    target.write_metadata(building=work.id + _AGAIN)
    return target


def _made(work: Work, source: Collection, after: Shape, encoder: Encoder | None) -> Collection:
    now, physical = source.read_metadata(), next_version(work.store, work.name)
    more: dict[str, Any] = {**now.ledger, "copies": now.copies, "indexes": now.indexes, "hnsw": after.hnsw}
    more |= {"building": work.id, "route": "stored" if encoder is None else "encode"}
    if encoder is not None:
        metadata = new_metadata(after.recipe, encoder, **more)
    else:
        fresh = {"recipe": after.recipe, "uid": uuid.uuid4().hex, **dict.fromkeys(_OF_CONTENT)}
        metadata = now.model_copy(update=fresh | more)
    return Collection.make(work.store, physical, metadata)


def _fit(work: Work, source: Collection, target: Collection) -> None:
    """Everything beside points: the codec, what it needs, indexes, canaries. Repeating it is harmless."""
    store = work.store
    if canaries := source.read_metadata().canaries:
        store.put_artifact(target.physical, CANARIES_FILE, store.get_artifact(source.physical, CANARIES_FILE))
        target.write_metadata(canaries=canaries)
    for key, kind in target.metadata.indexes.items():
        store.create_index(target.physical, key, kind)
    codec = target.codec
    if codec is None or codec.fitted:
        return
    if target.read_metadata().route == "stored":
        _fit_on_stored(work, source, target, codec.sample)
        return
    writer = Writer(target, work.encoder_of, IngestReport())
    for window in work.windows(source, "fitting"):
        found = read(source, dict(window))
        unmake(target, {id_: (0, len(them)) for id_, them in found.items()})
        for passages in batched((it for them in found.values() for it in them), WINDOW):
            writer.add([passage for passage, _ in passages])
        if target.codec is not None and target.codec.fitted:
            return
    writer.flush()


def _fit_on_stored(work: Work, source: Collection, target: Collection, wanted: int) -> None:
    keys, vectors = transcode.wanted(source)
    records: list[Record] = []
    rows = 0
    for window in work.windows(source, "fitting"):
        for them in read(source, dict(window), [*keys, "rows"], vectors).values():
            records += [record for _, record in them]
            rows += sum(record.payload["rows"] for _, record in them)
        if rows >= wanted:
            break
    # Before the codec, by which another run sees that this is done.
    source.frequencies.copy_to(target.frequencies)
    if not records:  # nothing is stored, so nothing can be made of it
        target.write_metadata(route="encode")
    elif (codec := transcode.fitted(source, target, records)) is not None:
        target.take_codec(codec)


def _copy(work: Work, source: Collection, target: Collection) -> None:
    """Carry what differs, then what is too many."""
    total, done = source.documents(), 0
    for seen, ids in differing(source, target):
        for some in batched(ids, 64):
            work.lease.check()
            carry(source, target, some, work.encoder_of)
        done += seen
        work.progress("copying", done, total)
