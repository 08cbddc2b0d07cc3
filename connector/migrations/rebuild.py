"""Another version of a collection, made while the collection goes on being searched and written.

The new version is made under a name of its own, gets its codec, and is announced; from then on writers carry
to it what they write (`connector.collection.versions.dual_write`). Documents are copied as far as they
differ, so that a run that was cut off goes on where it was; then both are compared, and the name is
switched. Whatever happens before the switch, the old version is as it was.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from connector.collection.aliases import next_version, versions
from connector.collection.collection import CANARIES_FILE, Collection
from connector.collection.documents.document_state import read, scan, states, unmake
from connector.collection.documents.writer import IngestReport, Writer
from connector.collection.metadata import schema_of
from connector.collection.pipeline import WINDOW
from connector.collection.recipe import Recipe
from connector.collection.versions import transcode
from connector.collection.versions.dual_write import carry
from connector.core.errors import CollectionNotFound, MigrationError
from connector.core.io import batched
from connector.encoders import Encoder
from connector.migrations.ledger import keys_of
from connector.migrations.steps import Progress, Work
from connector.migrations.verify import verify
from connector.stores import Record
from connector.stores.schema import Hnsw

_AGAIN = ", again"
"""Of a version that is there from before, and not to be dropped if the run is given up."""


_ADAPTED = ("alignment", "adapted_weight")


_WORKING = ("building", "rebuild", "frozen", "filling")


def rebuild(
    work: Work,
    step: str,
    recipe: Recipe,
    *,
    encoder: Encoder | None = None,
    hnsw: Hnsw | None = None,
) -> None:
    """Make another version and switch to it.

    Args:
        work: what runs.
        step: as a person knows it.
        recipe: of the new version.
        encoder: encodes every text again; None makes the version of what is stored.
        hnsw: the graph of its CLS vectors.

    Raises:
        MigrationError: the new version does not hold what it should; the name leads to the old one still.
    """
    source = work.collection
    target = _begun(work, source, recipe, encoder, hnsw) or _made(work, source, recipe, encoder, hnsw)
    _fit(work, source, target)
    source.say(rebuild=target.physical)
    _copy(work, step, source, target)
    work.store.finish(target.physical)
    work.report(Progress(step, "verifying", 0, 0))
    verification = verify(source, target, work.encoder_of, stored=target.said().get("route") == "stored")
    work.say(verification.summary())
    problems = verification.problems(work.min_overlap)
    if problems:
        raise MigrationError(
            f"{target.physical} is not what it should be: {'; '.join(problems)}. {source.name!r} leads to "
            f"{source.physical} as before; look at both with connector search --collection, then run the "
            "command again, with --min-overlap if the hits may differ more"
        )
    work.lease.check()
    said = source.said()
    adapted = {key: said.get(key, "") for key in _ADAPTED} if _follows(target) else {}
    target.say(**{**keys_of(said), **adapted, **dict.fromkeys(_WORKING, ""), **work.finish})
    work.store.switch(work.name, target.physical)
    source.say(rebuild="")


def _follows(target: Collection) -> bool:
    """Whether tokens are scored as they were in the version that it was made of."""
    return target.said().get("route") == "stored" and target.recipe.layout != "dense"


def _begun(
    work: Work, source: Collection, recipe: Recipe, encoder: Encoder | None, hnsw: Hnsw | None
) -> Collection | None:
    """The version that a run which was cut off has begun, or that is there from before."""
    announced = source.said().get("rebuild")
    others = [it for it in versions(work.store, work.name) if it != source.physical]
    step = work.id.rpartition(".")[0]  # whatever its file says
    for physical in reversed(others):
        said = work.store.info(physical)
        building = said.get("building", "")
        if building in (work.id, work.id + _AGAIN):
            return Collection(work.store, physical)
        if physical == announced and not building and _same(said, source, recipe, encoder, hnsw):
            target = Collection(work.store, physical)  # it was whole, and about to be switched to
            target.say(building=work.id + _AGAIN)
            return target
        # Of a run that nobody will finish, as this one holds the lease.
        if physical == announced or building.startswith(f"{step}."):
            source.say(rebuild="")
            if building.endswith(_AGAIN):
                Collection(work.store, physical).say(building="")
            elif building:
                work.store.drop(physical)
    if work.direction == "upgrade":
        return None
    for physical in reversed(others):
        whole = _said(work, physical)
        if whole is not None and _same(whole, source, recipe, encoder, hnsw):
            work.say(f"{physical} is there from before, and is brought up to date")
            target = Collection(work.store, physical)
            target.say_indexes({**target.indexes, **source.indexes})  # before what another run goes on by
            target.say(building=work.id + _AGAIN)
            return target
    return None


def _said(work: Work, physical: str) -> dict[str, str] | None:
    try:
        said = work.store.info(physical)
    except CollectionNotFound:
        return None
    return None if said.get("building") or "recipe" not in said else said


def _same(
    said: Mapping[str, str], source: Collection, recipe: Recipe, encoder: Encoder | None, hnsw: Hnsw | None
) -> bool:
    fingerprint = source.encoder if encoder is None else encoder.fingerprint
    kept = "" if hnsw is None else hnsw.model_dump_json()
    return (
        said["encoder"] == fingerprint
        and Recipe.model_validate_json(said["recipe"]).same_as(recipe)
        and said.get("hnsw", "") == kept
    )


def _made(
    work: Work, source: Collection, recipe: Recipe, encoder: Encoder | None, hnsw: Hnsw | None
) -> Collection:
    said = source.said()
    more = {key: said[key] for key in ("copies", "indexes") if said.get(key)} | keys_of(said)
    more |= {"building": work.id, "route": "stored" if encoder is None else "encode"}
    if hnsw is not None:
        more["hnsw"] = hnsw.model_dump_json()
    physical = next_version(work.store, work.name)
    if encoder is None:
        own = ("format", "library", "model", "encoder", "cls_width", "token_width", "cls_weight")
        kept = {key: said[key] for key in own if key in said}
        info = {**kept, "recipe": recipe.model_dump_json(), "uid": uuid.uuid4().hex, **more}
        work.store.create(physical, schema_of(info), info)
        target = Collection(work.store, physical)
    else:
        target = Collection.make(work.store, physical, recipe, encoder, more)
    return target


def _fit(work: Work, source: Collection, target: Collection) -> None:
    """Everything beside points: the codec, what it needs, indexes, canaries. Repeating it is harmless."""
    store = work.store
    if canaries := source.said().get("canaries"):
        store.put_artifact(target.physical, CANARIES_FILE, store.get_artifact(source.physical, CANARIES_FILE))
        target.say(canaries=canaries)
    for key, kind in target.indexes.items():
        store.create_index(target.physical, key, kind)
    codec = target.codec
    if codec is None or codec.fitted:
        return
    if target.said().get("route") == "stored":
        _fit_on_stored(source, target, codec.sample)
    else:
        writer = Writer(target, work.encoder_of, IngestReport())
        for window in batched(scan(source), WINDOW):
            work.lease.check()
            found = read(source, dict(window))
            unmake(target, {id_: (0, len(them)) for id_, them in found.items()})
            for passages in batched((it for them in found.values() for it in them), WINDOW):
                writer.add([passage for passage, _ in passages])
            if target.codec is not None and target.codec.fitted:
                return
        writer.flush()


def _fit_on_stored(source: Collection, target: Collection, wanted: int) -> None:
    keys, vectors = transcode.wanted(source)
    records: list[Record] = []
    rows = 0
    for window in batched(scan(source), WINDOW):
        for them in read(source, dict(window), [*keys, "rows"], vectors).values():
            records += [record for _, record in them]
            rows += sum(record.payload["rows"] for _, record in them)
        if rows >= wanted:
            break
    # Before the codec, by which another run sees that this is done.
    source.frequencies.copy_to(target.frequencies)
    if records:
        codec = transcode.fitted(source, target, records)
        if codec is not None:
            target.take_codec(codec)
    else:  # nothing is stored, so nothing can be made of it
        target.say(route="encode")


def _copy(work: Work, step: str, source: Collection, target: Collection) -> None:
    """Carry what differs, then what is too many."""
    total, done = source.documents(), 0
    for window in batched(scan(source), WINDOW):
        there = states(target, [id_ for id_, _ in window])
        stale = [id_ for id_, state in window if there.get(id_) != state]
        for some in batched(stale, 64):
            work.lease.check()
            carry(source, target, some, work.encoder_of)
            work.report(Progress(step, "copying", done, max(total, done)))
        done += len(window)
        work.report(Progress(step, "copying", done, max(total, done)))
    for window in batched(scan(target), WINDOW):
        there = states(source, [id_ for id_, _ in window])
        carry(source, target, [id_ for id_, _ in window if id_ not in there], work.encoder_of)
