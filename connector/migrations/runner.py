"""Revisions of a folder, applied to a collection and taken back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connector.collection.collection import Collection
from connector.collection.handle import OpenCollection
from connector.core.errors import MigrationError
from connector.encoders import Encoder, load_encoder
from connector.migrations.context import Context, steps_of
from connector.migrations.estimate import Sampled
from connector.migrations.ledger import Direction, Ledger, applied_keys, pending_keys, undone_keys
from connector.migrations.revisions import BASE, Revision, load_revisions
from connector.migrations.steps import Planned, Progress, Shape, Step, Work
from connector.migrations.verify import Version, keep_canaries, versions_of
from connector.stores import Lease
from connector.stores.schema import CLS

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
        connector: the collection; it may be searched and written meanwhile.
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
        report: Callable[[Progress], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if not 0 <= min_overlap <= 1:
            raise MigrationError(f"min_overlap is {min_overlap}; give a share from 0 to 1")
        self.revisions = load_revisions(Path(folder))
        self._connector = connector
        self._name = connector.name
        connector.collection.check_own("no revision changes them; detach it, and attach it anew")
        self._store = connector.collection.store
        self._min_overlap = min_overlap
        self._report = report
        self._say = say
        self._encoders: dict[str, Encoder] = {}

    # Reading

    @property
    def ledger(self) -> Ledger:
        """What was applied so far."""
        return Ledger(self._collection.said())

    def pending(self) -> list[Revision]:
        """The revisions that are not applied.

        Raises:
            MigrationError: the folder and the ledger do not go together.
        """
        return self.revisions[self.ledger.check(self.revisions) :]

    def plan(self, to: str | None = None, direction: Direction = "upgrade") -> list[PlannedRevision]:
        """What `upgrade` or `downgrade` would do; nothing is written.

        Args:
            to: as for them.
            direction: which of the two.
        """
        collection = self._collection
        measure = Sampled(collection, self._connector.encoder_of, back=direction == "downgrade")
        shape = _shape(collection)
        planned: list[PlannedRevision] = []
        for revision in self._way(direction, to):
            done = self.ledger.check_pending(revision, direction) if not planned else []
            steps = []
            for step in self._steps(revision, direction, shape, done)[len(done) :]:
                steps.append(step.plan(shape, collection, measure))
                shape = steps[-1].after
            planned.append(PlannedRevision(revision, direction, tuple(steps)))
        return planned

    def plan_to(self, to: str | None = None) -> list[PlannedRevision]:
        """What it takes to get to a revision, upwards or downwards; nothing is written."""
        down = to is not None and self._number(to) < self.ledger.check(self.revisions)
        return self.plan(to, "downgrade" if down else "upgrade")

    def versions(self) -> list[Version]:
        """All versions of the collection, oldest first."""
        return list(versions_of(self._collection))

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
            collection, number = self._collection, self._number(to)
            said = {"migration": "" if number == 0 else to, "migration.pending": ""}
            said |= {"frozen": "", "rebuild": ""}  # nobody goes on with what was cut off
            said |= {f"migration.{id_}": "" for id_ in Ledger(collection.said()).applied}
            for revision in self.revisions[:number]:
                said |= applied_keys(collection, revision, stamped=True)
            before = Ledger(collection.said()).applied
            collection.say(**said)
            kept = {revision.revision for revision in self.revisions[:number]}
            return [id_ for id_ in before if id_ not in kept]

    def _run(self, direction: Direction, to: str | None, canaries: Sequence[str]) -> list[Revision]:
        with self._store.lease(self._name) as lease:
            way = self._way(direction, to)
            for number, revision in enumerate(way):  # all of them, before the first one is run
                done = self.ledger.check_pending(revision, direction) if number == 0 else []
                if revision.downgrade is None and direction == "downgrade":
                    steps_of(revision, direction, Context(self._name, _shape(self._collection)))
                if number == 0:
                    self._steps(revision, direction, _shape(self._collection), done)
            if canaries:
                keep_canaries(self._collection, canaries)
            try:
                for revision in way:
                    self._apply(revision, direction, lease)
            finally:
                self._connector.refresh()
            return way

    def _apply(self, revision: Revision, direction: Direction, lease: Lease) -> None:
        collection = self._collection
        ledger = Ledger(collection.said())
        done = ledger.check_pending(revision, direction)
        steps = self._steps(revision, direction, _shape(collection), done)
        collection.say(**pending_keys(revision, direction, done))
        self._say(f"{direction} {revision.revision}  {revision.summary}".rstrip())
        for number, step in enumerate(steps[len(done) :], len(done) + 1):
            finish = pending_keys(revision, direction, [str(it) for it in steps[:number]])
            work = Work(
                store=self._store,
                name=self._name,
                encoder_of=self._encoder_of,
                load=self._load,
                lease=lease,
                id=f"{revision.revision}.{number}.{ledger.count}.{revision.checksum[:8]}",
                direction=direction,
                finish=finish,
                min_overlap=self._min_overlap,
                report=self._report,
                say=self._say,
            )
            self._say(f"  {step}")
            try:
                self._check_room(step)
                step.run(work)
            except MigrationError as error:
                raise MigrationError(f"{error}. {_left(ledger, number - 1)}") from error
            self._collection.say(**finish)
        collection = self._collection
        keys = applied_keys if direction == "upgrade" else undone_keys
        collection.say(**keys(collection, revision))

    def _check_room(self, step: Step) -> None:
        """Raises MigrationError if the disk of a folder has less room than the step is estimated to take."""
        if not Path(self._store.location).is_dir():
            return
        collection = self._collection
        planned = step.plan(_shape(collection), collection, Sampled(collection, self._connector.encoder_of))
        free = shutil.disk_usage(self._store.location).free
        if planned.bytes is not None and planned.bytes > free:
            raise MigrationError(
                f"{step} needs about {planned.bytes / 1e6:,.1f} MB and {self._store.location} has "
                f"{free / 1e6:,.1f} MB; make room, such as with connector migrate gc"
            )

    def _steps(
        self, revision: Revision, direction: Direction, shape: Shape, done: Sequence[str]
    ) -> list[Step]:
        """The steps of a revision.

        Raises:
            MigrationError: its first ones are others than those that are done.
        """
        context = Context(self._name, shape, len(done))
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
        at = self.ledger.check(self.revisions)
        if direction == "downgrade":
            number = self._number(BASE if to is None else to)
            if number > at:
                raise MigrationError(f"revision {to!r} is not applied; the collection is at {self._at(at)}")
            way = self.revisions[number:at][::-1]
        else:
            number = len(self.revisions) if to is None else self._number(to)
            if number < at:
                raise MigrationError(
                    f"revision {to!r} is applied already, the collection is at {self._at(at)}; use downgrade"
                )
            way = self.revisions[at:number]
        pending = self.ledger.pending
        if pending is not None and (not way or way[0].revision != pending.revision):
            raise self.ledger.cut_off()
        return way

    def _at(self, number: int) -> str:
        return repr(self.revisions[number - 1].revision) if number else "no revision"

    def _number(self, id_: str) -> int:
        if id_ == BASE:
            return 0
        ids = [revision.revision for revision in self.revisions]
        if id_ not in ids:
            raise MigrationError(f"there is no revision {id_!r}; there are {', '.join(ids) or 'none'}")
        return ids.index(id_) + 1

    @property
    def _collection(self) -> Collection:
        return Collection(self._store, self._name)

    def _encoder_of(self, collection: Collection) -> Encoder:
        return self._encoders.get(collection.encoder) or self._connector.encoder_of(collection)

    def _load(self, model: str) -> Encoder:
        encoder = load_encoder(model)
        self._encoders[encoder.fingerprint] = encoder
        return encoder


def _left(ledger: Ledger, done: int) -> str:
    """What a step that failed leaves, and what can be done."""
    stays = f"The {done} steps before it are done and stay. " if done else ""
    return f"{stays}Correct the revision and run the command again, or give it up with {ledger.giving_up}"


def _shape(collection: Collection) -> Shape:
    return Shape(collection.recipe, collection.model, collection.schema.vector(CLS).hnsw, collection.indexes)
