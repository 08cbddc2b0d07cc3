"""Steps that make another version of a collection, while it goes on being searched and written.

The new version is made under a name of its own, gets its codec, and is announced; from then on writers carry
to it what they write (`connector.collection.versions.dual_write`). Documents are copied as far as they
differ, so that a run that was cut off goes on where it was; then both are compared, and the name is
switched. Whatever happens before the switch, the old version is as it was.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from connector.collection.collection import CANARIES_FILE, Collection
from connector.collection.documents.counts import mend
from connector.collection.documents.document_state import read, unmake
from connector.collection.documents.writer import IngestReport, Writer
from connector.collection.metadata import (
    SCORING,
    UNCOUNTED,
    CollectionMetadata,
    new_metadata,
    uncounted,
)
from connector.collection.pipeline import WINDOW
from connector.collection.recipe import Recipe, get_recipe
from connector.collection.versions import transcode
from connector.collection.versions.aliases import next_version, versions
from connector.collection.versions.catalog import kept, matches
from connector.collection.versions.dual_write import carry
from connector.core.errors import MigrationError, RecipeError
from connector.core.io import batched
from connector.encoders import Encoder
from connector.migrations.steps import Estimate, Outlook, Step, Work, with_recipe
from connector.migrations.verify import differing, verify
from connector.stores import Record

_AGAIN = ", again"
"""Of a version that is there from before, and not to be dropped if the run is given up."""


_WORKING = ("building", "rebuild", "frozen", "filling")


_OF_CONTENT = ("codec", *SCORING, "frequencies", "canaries", "imported", "waiting", *_WORKING)
"""What a new version does not have from the one that it is made of."""


def rebuild(work: Work, source: Collection, after: CollectionMetadata, encoder: Encoder | None) -> None:
    """Make another version and switch to it.

    Args:
        work: what runs.
        source: the collection as it is now.
        after: what the new version says of itself: recipe, graph, indexes.
        encoder: encodes every text again; None makes the version of what is stored.

    Raises:
        MigrationError: the new version does not hold what it should; the name leads to the old one still.
    """
    target = _begun(work, source, after, encoder) or _made(work, after, encoder)
    _fit(work, source, target)
    source.write_metadata(rebuild=target.physical)
    _copy(work, source, target)
    mend(target, work.encoder_of)
    work.store.finish(target.physical)
    work.progress("verifying")
    verification = verify(source, target, work.encoder_of)
    work.say(verification.summary())
    if problems := verification.problems(work.min_overlap):
        raise MigrationError(
            f"{target.physical} is not what it should be: {'; '.join(problems)}. {source.name!r} leads to "
            f"{source.physical} as before; look at both with connector search --collection, then run the "
            "command again, with --min-overlap if the hits may differ more"
        )
    work.lease.check()
    now, made = source.read_metadata(), target.read_metadata()
    values: dict[str, Any] = {**now.ledger, **dict.fromkeys(_WORKING)}
    if made.route == "stored" and target.recipe.layout != "dense":  # tokens are scored as they were
        values |= {key: getattr(now, key) for key in SCORING}
    target.write_metadata(**values | dict(work.finish))
    work.store.switch(work.name, target.physical)
    source.write_metadata(rebuild=None)


def _begun(
    work: Work, source: Collection, after: CollectionMetadata, encoder: Encoder | None
) -> Collection | None:
    """The version that a run which was cut off has begun, or that is there from before."""
    announced, store = source.read_metadata().rebuild, work.store
    fingerprint = source.metadata.encoder if encoder is None else encoder.fingerprint
    step = work.id.rpartition(".")[0]  # whatever its file says
    others = [it for it in reversed(versions(store, work.name)) if it != source.physical]
    for physical in others:
        metadata = CollectionMetadata.read(physical, store.info(physical))
        building = metadata.building or ""
        if building in (work.id, work.id + _AGAIN):
            return Collection(store, physical)
        if physical == announced and metadata.encoder == fingerprint and matches(metadata, after):
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
    before = kept(source, after, fingerprint) if work.direction == "downgrade" else None
    if before is None:
        return None
    work.say(f"{before} is there from before, and is brought up to date")
    target = Collection(store, before)
    # Before what another run goes on by.
    target.write_metadata(indexes={**target.metadata.indexes, **after.indexes})
    target.write_metadata(building=work.id + _AGAIN)
    return target


def _made(work: Work, after: CollectionMetadata, encoder: Encoder | None) -> Collection:
    making = {"building": work.id, "route": "stored" if encoder is None else "encode"}
    if encoder is None:
        fresh = {"uid": uuid.uuid4().hex, **dict.fromkeys(_OF_CONTENT)}
        metadata = after.model_copy(update=fresh | making)
    else:
        taken_over = {"copies": after.copies, "indexes": after.indexes, "hnsw": after.hnsw, **after.ledger}
        metadata = new_metadata(after.recipe, encoder, **taken_over, **making)
    return Collection.make(work.store, next_version(work.store, work.name), metadata)


def _fit(work: Work, source: Collection, target: Collection) -> None:
    """Everything beside points: codec and what it needs, words, indexes, canaries. Repeating is harmless."""
    store = work.store
    if canaries := source.read_metadata().canaries:
        store.put_artifact(target.physical, CANARIES_FILE, store.get_artifact(source.physical, CANARIES_FILE))
        target.write_metadata(canaries=canaries)
    for key, kind in target.metadata.indexes.items():
        store.create_index(target.physical, key, kind)
    if target.metadata.average_words == UNCOUNTED:  # before writers carry single passages there
        target.count_words(work.texts(source))
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


def _found(recipe: str | Recipe | None, old: Recipe) -> Recipe:
    return get_recipe(recipe) if isinstance(recipe, str) else recipe or old


class _Rebuilding(Step):
    """A step that makes another version on every engine."""

    route = "rebuild"

    def apply(self, work: Work, collection: Collection, after: CollectionMetadata) -> None:
        rebuild(work, collection, after, self.encoder(work, collection, after))


@dataclass(frozen=True)
class Reindex(_Rebuilding):
    """Encode every text again, into another version.

    Args:
        recipe: of the new version; None keeps the recipe.
        model: its encoder, a model id or folder; None keeps the encoder.
    """

    recipe: str | Recipe | None = None
    model: str | None = None

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        recipe, model = _found(self.recipe, before.recipe), self.model or before.model
        return before.model_copy(
            update={"recipe": recipe, "model": model, "average_words": uncounted(recipe)}
        )

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:
        notes = [f"encodes {estimate.points:,} passages with {after.model}"]
        if estimate.collection.adapted:
            notes.append("the adapted scoring is not taken over; run connector adapt again")
        return estimate.points, estimate.rebuilt(after), notes

    def encoder(self, work: Work, source: Collection, after: CollectionMetadata) -> Encoder:  # noqa: ARG002
        return work.encoder_of(source) if self.model is None else work.load(self.model)


@dataclass(frozen=True)
class Recode(_Rebuilding):
    """Make another version of the vectors that are stored, without encoding.

    Args:
        codec: of the new version; the layout follows it, as Qdrant cannot score every codec.
        recipe: instead, a recipe that has the same reduction and a codec with the same projections.
    """

    codec: str | None = None
    recipe: str | Recipe | None = None

    def check(self, before: CollectionMetadata) -> CollectionMetadata:
        after = with_recipe(before, self._recipe(before.recipe))
        if (why := transcode.why_not(before.recipe, after.recipe)) is not None:
            raise MigrationError(f"{self} cannot be made of what is stored: {why}; use reindex")
        return after

    def _recipe(self, old: Recipe) -> Recipe:
        if (self.codec is None) == (self.recipe is None):
            raise MigrationError("recode takes either a codec or a recipe")
        if self.codec is None:
            wanted = _found(self.recipe, old)
            return wanted if wanted.head != "own" else _headed(wanted, old)
        if old.layout == "dense":
            raise MigrationError(f"recipe {old.name} stores no tokens to recode; use reindex")
        head = None if "linear-" in self.codec or old.salient else "none"
        try:
            return old.varied(codec=self.codec, head=head)
        except RecipeError:  # Qdrant cannot score it
            return old.varied(codec=self.codec, head=head, layout="codes")

    def outlook(self, after: CollectionMetadata, estimate: Estimate) -> Outlook:
        return estimate.points, estimate.rebuilt(after), ["of the stored vectors, without the encoder"]


def _headed(wanted: Recipe, old: Recipe) -> Recipe:
    """The recipe with the head that the tokens were projected by."""
    codec = wanted.codec or ""
    if old.head is None:  # as `Recipe.for_model` does for a model without a head
        return wanted.model_copy(update={"head": None, "codec": codec.replace("linear-", "pca-") or None})
    return wanted.model_copy(update={"head": old.head})
