"""Which revisions were applied to a collection: flat keys of its description.

migration             id of the last applied revision; empty if there is none
migration.<id>        of an applied revision, as JSON: checksum of its file, recipe and encoder after it,
                      version of this library, time; empty when it was taken back
migration.pending     of a revision that is being applied or taken back, as JSON: its id, direction,
                      checksum and how many of its steps are done; empty if there is none
migration.count       how many revisions were ever applied or taken back
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connector.collection.collection import Collection
from connector.core.errors import MigrationError
from connector.migrations.revisions import Revision

PREFIX = "migration"


_PENDING = f"{PREFIX}.pending"


_COUNT = f"{PREFIX}.count"


Direction = Literal["upgrade", "downgrade"]


class Applied(BaseModel):
    """One line of the ledger.

    Args:
        checksum: of the revision's file.
        recipe: name of the recipe after it.
        encoder: fingerprint of the encoder after it.
        library: version of this library.
        time: when, in UTC, ISO 8601.
        stamped: whether it was noted by hand, and no step was run.
    """

    model_config = ConfigDict(frozen=True)

    checksum: str
    recipe: str
    encoder: str
    library: str
    time: str
    stamped: bool = False


class Pending(BaseModel):
    """A revision that is on its way.

    Args:
        revision: its id.
        direction: where to.
        checksum: of its file.
        done: its steps that are done, as the revision wrote them.
    """

    model_config = ConfigDict(frozen=True)

    revision: str
    direction: Direction
    checksum: str
    done: list[str] = Field(default_factory=list)


class Ledger:
    """What a description says of revisions.

    Args:
        said: the description.

    Raises:
        MigrationError: it is damaged.
    """

    def __init__(self, said: Mapping[str, str]) -> None:
        own = {PREFIX, _PENDING, _COUNT}
        try:
            self.head = said.get(PREFIX) or None
            pending = said.get(_PENDING)
            self.pending = Pending.model_validate_json(pending) if pending else None
            self.count = int(said.get(_COUNT, "0"))
            self.applied = {
                key.removeprefix(f"{PREFIX}."): Applied.model_validate_json(value)
                for key, value in said.items()
                if key.startswith(f"{PREFIX}.") and key not in own and value
            }
        except (ValidationError, ValueError) as error:
            raise MigrationError(
                f"the ledger of the collection is damaged: {error}; restore an export"
            ) from error

    def changed(self, revision: Revision) -> bool:
        """Whether the file of a revision was changed since it was applied."""
        applied = self.applied.get(revision.revision)
        return applied is not None and applied.checksum != revision.checksum

    def check(self, revisions: Sequence[Revision]) -> int:
        """How many of the revisions are applied.

        Raises:
            MigrationError: an applied revision is missing, or its file is another one now.
        """
        known = {it.revision: it for it in revisions}
        for id_, applied in self.applied.items():
            if id_ not in known:
                raise MigrationError(
                    f"revision {id_!r} was applied on {applied.time} and is not in the folder; restore its "
                    "file"
                )
            if applied.checksum != known[id_].checksum:
                raise MigrationError(
                    f"{known[id_].path.name} was changed since it was applied on {applied.time}; restore it, "
                    "and write what is new as a revision of its own; or, if it does the same, note its new "
                    f"checksum with connector migrate stamp {self.head}"
                )
        numbers = {it.revision: number for number, it in enumerate(revisions, 1)}
        if self.head is not None and self.head not in numbers:
            raise MigrationError(f"the collection is at revision {self.head!r}, which is not in the folder")
        return numbers[self.head] if self.head is not None else 0

    def check_pending(self, revision: Revision, direction: Direction) -> list[str]:
        """Which steps of a revision are done already.

        Raises:
            MigrationError: another revision is on its way.
        """
        if self.pending is None:
            return []
        if (self.pending.revision, self.pending.direction) != (revision.revision, direction):
            raise self.cut_off()
        return self.pending.done

    def cut_off(self) -> MigrationError:
        """What to raise where something else is wanted than to finish what was cut off."""
        pending = self.pending
        if pending is None:
            return MigrationError("nothing was cut off; run the command again")
        return MigrationError(
            f"the {pending.direction} of revision {pending.revision!r} was cut off after {len(pending.done)} "
            f"steps; finish it with connector migrate {pending.direction}, or give it up with "
            f"{self.giving_up}: what is done stays"
        )

    @property
    def giving_up(self) -> str:
        """The command that forgets what was cut off."""
        return f"connector migrate stamp {self.head or 'base'}"


def pending_keys(revision: Revision, direction: Direction, done: Sequence[str]) -> dict[str, str]:
    """What to say when these steps of a revision are done."""
    pending = Pending(
        revision=revision.revision, direction=direction, checksum=revision.checksum, done=list(done)
    )
    return {_PENDING: pending.model_dump_json()}


def applied_keys(collection: Collection, revision: Revision, stamped: bool = False) -> dict[str, str]:
    """What to say when a revision is applied."""
    applied = Applied(
        checksum=revision.checksum,
        recipe=collection.recipe.name,
        encoder=collection.encoder,
        library=version("qdrant-late-interaction"),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        stamped=stamped,
    )
    return {
        PREFIX: revision.revision,
        f"{PREFIX}.{revision.revision}": applied.model_dump_json(),
        **_counted(collection),
    }


def undone_keys(collection: Collection, revision: Revision) -> dict[str, str]:
    """What to say when a revision was taken back."""
    return {
        PREFIX: revision.down_revision or "",
        f"{PREFIX}.{revision.revision}": "",
        **_counted(collection),
    }


def _counted(collection: Collection) -> dict[str, str]:
    return {_PENDING: "", _COUNT: str(Ledger(collection.said()).count + 1)}


def keys_of(said: Mapping[str, str]) -> dict[str, str]:
    """The ledger's keys of a description, for another version of the collection."""
    return {key: value for key, value in said.items() if key == PREFIX or key.startswith(f"{PREFIX}.")}


def as_json(ledger: Ledger) -> dict[str, object]:
    """The ledger for a program."""
    return {
        "head": ledger.head,
        "applied": {id_: it.model_dump() for id_, it in ledger.applied.items()},
        "pending": None if ledger.pending is None else json.loads(ledger.pending.model_dump_json()),
    }
