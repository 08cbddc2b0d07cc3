"""Revisions of a folder, applied to a collection and taken back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connector.collection.collection import Collection
from connector.collection.documents.indexes import add_own
from connector.collection.handle import OpenCollection
from connector.collection.metadata import CollectionMetadata
from connector.core.errors import MigrationError
from connector.encoders import Encoder, load_encoder
from connector.migrations.context import Context, steps_of
from connector.migrations.rebuild import rebuild
from connector.migrations.revisions import BASE, Direction, Ledger, Revision, load_revisions, pending_keys
from connector.migrations.steps import Estimate, Planned, Progress, Step, Work
from connector.migrations.verify import keep_canaries
from connector.stores import Lease

MIN_OVERLAP = 0.5
"""Least mean overlap of the first ten hits of canary queries, by default."""


@dataclass(frozen=True, slots=True)
class PlannedRevision:
    """What would be done for one revision."""

    revision: Revision
    direction: Direction
    steps: tuple[Planned, ...]


class Migrations:
    """The revisions of a folder and a collection.

    Args:
        connector: the collection; it may be searched and written in the meantime.
        folder: the revisions.
        min_overlap: a new version is refused if the first ten hits of canary queries overlap by less with
            those of the old one, in the mean; 0 to 1.
        report: is told how far a step has come.
        say: is told what a person should know.

    Raises:
        MigrationError: the folder holds no usable revisions.
    """

    def __init__(
        self,
        connector: OpenCollection,
        folder: str | Path,
        *,
        min_overlap: float = MIN_OVERLAP,
        report: Progress = lambda *_: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if not 0 <= min_overlap <= 1:
            raise MigrationError(f"min_overlap is {min_overlap}; give a share from 0 to 1")
        self.revisions = load_revisions(Path(folder))
        self._connector = connector
        self._name = connector.name
        connector.collection.check_own("no revision changes them; detach it, and attach it again")
        self._store = connector.collection.store
        self._min_overlap = min_overlap
        self._report = report
        self._say = say
        self._encoders: dict[str, Encoder] = {}

    # Reading

    @property
    def collection(self) -> Collection:
        """The collection as it is now."""
        return Collection(self._store, self._name)

    @property
    def ledger(self) -> Ledger:
        """What was applied so far."""
        return Ledger.of(self.collection.metadata)

    def pending(self) -> list[Revision]:
        """The revisions that are not applied.

        Raises:
            MigrationError: the folder and the ledger do not go together.
        """
        return self.revisions[self.ledger.check(self.revisions) :]

    def plan(self, to: str | None = None) -> list[PlannedRevision]:
        """What it takes to get to a revision, by `upgrade` or `downgrade`; nothing is written.

        Args:
            to: a revision, or "base"; None for the last one.
        """
        collection, ledger = self.collection, self.ledger
        down = to is not None and self._number(to) < ledger.check(self.revisions)
        direction: Direction = "downgrade" if down else "upgrade"
        estimate = Estimate(collection, self._connector.encoder_of, back=down)
        before, done = collection.metadata, ledger.done
        planned: list[PlannedRevision] = []
        for revision in self._way(direction, to):
            steps = []
            for step in self._steps(revision, direction, before, done)[len(done) :]:
                steps.append(step.plan(before, estimate))
                before = steps[-1].after
            planned.append(PlannedRevision(revision, direction, tuple(steps)))
            done = []  # of the revision that was cut off, which is the first one
        return planned

    # Writing

    def upgrade(self, to: str | None = None, canaries: Sequence[str] = ()) -> list[Revision]:
        """Apply revisions.

        Args:
            to: the last one to apply; None for all.
            canaries: queries to try new versions by, kept with the collection; else some are made of texts.

        Returns:
            Those that were applied.

        Raises:
            MigrationError: a step fails; what was done before it stays, and running it again goes on there.
            StoreLocked: another migration of the collection runs.
        """
        return self._run("upgrade", to, canaries)

    def downgrade(self, to: str) -> list[Revision]:
        """Take revisions back, the last one first.

        Args:
            to: the revision to go back to, which stays applied; "base" takes all back.

        Returns:
            Those that were taken back.

        Raises:
            MigrationError: one of them has no way back (then none is taken back), or a step fails.
            StoreLocked: another migration of the collection runs.
        """
        return self._run("downgrade", to, ())

    def stamp(self, to: str) -> list[str]:
        """Note that the revisions up to this one are applied, and no later one, without running any step.

        Args:
            to: a revision; "base" for none.

        Returns:
            The revisions that were applied and are noted as not applied now; `upgrade` would run them again.
        """
        with self._store.lease(self._name):
            collection, ledger = self.collection, self.ledger
            revisions = self.revisions[: self._number(to)]
            said = ledger.stamped_keys(collection.metadata, revisions)
            # Nobody goes on with what was cut off.
            collection.write_metadata(**said, frozen=None, rebuild=None)
            noted = {revision.revision for revision in revisions}
            return [id_ for id_ in ledger.applied if id_ not in noted]

    def _run(self, direction: Direction, to: str | None, canaries: Sequence[str]) -> list[Revision]:
        with self._store.lease(self._name) as lease:
            self._index_own()
            way = self._way(direction, to)
            for revision in way:
                revision.function(direction)  # raises before the first one is run
            if way:
                self._steps(way[0], direction, self.collection.metadata, self.ledger.done)
            if canaries:
                keep_canaries(self.collection, canaries)
            try:
                for revision in way:
                    self._apply(revision, direction, lease)
            finally:
                self._connector.refresh()
            return way

    def _index_own(self) -> None:
        """What a collection of an earlier version lacks, without which a strict server refuses the steps."""
        collection = self.collection
        if lacks := self._store.refused(collection.physical, collection.schema.filtered):
            self._say(f"index {', '.join(lacks)}, which the library filters by")
            add_own(collection)

    def _apply(self, revision: Revision, direction: Direction, lease: Lease) -> None:
        collection, ledger = self.collection, self.ledger
        steps, done = self._steps(revision, direction, collection.metadata, ledger.done), ledger.done
        collection.write_metadata(**pending_keys(revision, direction, done))
        self._say(f"{direction} {revision.revision}  {revision.summary}".rstrip())
        for number, step in enumerate(steps[len(done) :], len(done) + 1):
            work = Work(
                store=self._store,
                name=self._name,
                step=str(step),
                id=f"{revision.revision}.{number}.{ledger.count}.{revision.checksum[:8]}",
                direction=direction,
                finish=pending_keys(revision, direction, steps[:number]),
                lease=lease,
                encoder_of=self._encoder_of,
                load=self._load,
                min_overlap=self._min_overlap,
                report=self._report,
                say=self._say,
            )
            self._say(f"  {step}")
            try:
                self._check_room(step)
                _run(step, work)
            except MigrationError as error:
                stay = f"The {number - 1} steps before it are done and stay. " if number > 1 else ""
                raise MigrationError(
                    f"{error}. {stay}Correct the revision and run the command again, or give it up with "
                    f"{ledger.giving_up}"
                ) from error
            lease.check()
            self.collection.write_metadata(**work.finish)
        collection = self.collection
        undone, metadata = direction == "downgrade", collection.metadata
        keys = ledger.undone_keys(revision) if undone else ledger.applied_keys(metadata, revision)
        collection.write_metadata(**keys)

    def _check_room(self, step: Step) -> None:
        """Raises MigrationError if the disk of a folder has less room than the step is estimated to take."""
        if not Path(self._store.location).is_dir():
            return
        collection = self.collection
        planned = step.plan(collection.metadata, Estimate(collection, self._connector.encoder_of))
        free = shutil.disk_usage(self._store.location).free
        if planned.bytes is not None and planned.bytes > free:
            raise MigrationError(
                f"{step} needs about {planned.bytes / 1e6:,.1f} MB and {self._store.location} has "
                f"{free / 1e6:,.1f} MB; make room, such as with connector migrate gc"
            )

    def _steps(
        self, revision: Revision, direction: Direction, before: CollectionMetadata, done: Sequence[str]
    ) -> list[Step]:
        """The steps of a revision.

        Raises:
            MigrationError: its first ones are others than those that are done.
        """
        context = Context(self._name, before, len(done))
        steps_of(revision, direction, context)
        begun = [str(step) for step in context.steps[: len(done)]]
        if begun != list(done):
            raise MigrationError(
                f"the first steps of {revision.path.name} are done and were {', '.join(done)}; restore them, "
                f"or give it up with {self.ledger.giving_up}: what is done stays"
            )
        return context.steps

    def _way(self, direction: Direction, to: str | None) -> list[Revision]:
        """The revisions to apply, or to take back, in this order."""
        ledger = self.ledger
        at, pending, head = ledger.check(self.revisions), ledger.pending, ledger.head or "no revision"
        last = len(self.revisions) if direction == "upgrade" else 0
        number = last if to is None else self._number(to)
        if direction == "upgrade" and number < at:
            raise MigrationError(f"revision {to!r} is applied already, and the last is {head}; use downgrade")
        if direction == "downgrade" and number > at:
            raise MigrationError(f"revision {to!r} is not applied; the collection is at {head}")
        way = self.revisions[at:number] or self.revisions[number:at][::-1]
        wanted = (way[0].revision, direction) if way else None
        if pending is not None and (pending.revision, pending.direction) != wanted:
            raise ledger.cut_off()
        return way

    def _number(self, id_: str) -> int:
        if id_ == BASE:
            return 0
        ids = [revision.revision for revision in self.revisions]
        if id_ not in ids:
            raise MigrationError(f"there is no revision {id_!r}; there are {', '.join(ids) or 'none'}")
        return ids.index(id_) + 1

    def _encoder_of(self, collection: Collection) -> Encoder:
        return self._encoders.get(collection.metadata.encoder) or self._connector.encoder_of(collection)

    def _load(self, model: str) -> Encoder:
        encoder = load_encoder(model)
        self._encoders[encoder.fingerprint] = encoder
        return encoder


def _run(step: Step, work: Work) -> None:
    """Do a step; what a run that was cut off has done already is not done again."""
    source = work.collection
    after = step.check(source.metadata)
    if step.rebuilds(work.store.capabilities):
        rebuild(work, source, after, step.encoder(work, source, after))
    else:
        step.apply(work, source, after)
