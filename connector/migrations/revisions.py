"""A folder of revisions, numbered Python files that say what they change, and which of them were applied.

What was applied to a collection stands in its metadata, as flat keys:

migration             id of the last applied revision; empty if there is none
migration.<id>        of an applied revision, as JSON: checksum of its file, recipe and encoder after it,
                      version of this library, time; empty when it was taken back
migration.pending     of a revision that is being applied or taken back, as JSON: its id, direction,
                      checksum and how many of its steps are done; empty if there is none
migration.count       how many revisions were ever applied or taken back
"""

from __future__ import annotations

import datetime
import hashlib
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.metadata import version
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError

from connector.collection.metadata import LEDGER, CollectionMetadata
from connector.core.errors import MigrationError, one_line

_NUMBERED = re.compile(r"\d+(_\w+)?\.py")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


BASE = "base"
"""What `downgrade` takes for the state before the first revision."""


Direction = Literal["upgrade", "downgrade"]


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a collection.

    Args:
        revision: its id.
        down_revision: the id of the one before; None of the first one.
        path: its file.
        checksum: SHA-256 of the file, line ends counted alike.
        summary: the first line of the file's docstring.
        upgrade: says the steps to a `Context`.
        downgrade: says the steps back; None if there is no way back.
        irreversible: why there is none.
    """

    revision: str
    down_revision: str | None
    path: Path
    checksum: str
    summary: str
    upgrade: Callable[[Any], None]
    downgrade: Callable[[Any], None] | None
    irreversible: str | None

    def function(self, direction: Direction) -> Callable[[Any], None]:
        """What says the steps in a direction.

        Raises:
            MigrationError: there is no way back.
        """
        found = self.upgrade if direction == "upgrade" else self.downgrade
        if found is None:
            why = f"revision {self.revision!r} cannot be taken back: {self.irreversible}"
            raise MigrationError(f"{why}; restore an export that was made before it")
        return found


def load_revisions(folder: Path) -> list[Revision]:
    """The revisions of a folder, the first one first. Their files are executed.

    Args:
        folder: holds `0001_what_it_does.py`, `0002_….py`; files that begin with "_" are passed over.

    Raises:
        MigrationError: a file is not a revision, or they are no chain.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.name[0] != "_")
    except OSError as error:
        why = f"{folder} cannot be read ({error.strerror})"
        raise MigrationError(f"{why}; give a folder of revisions") from error
    for path in paths:
        if not _NUMBERED.fullmatch(path.name):
            raise MigrationError(
                f"{path} is not a numbered revision; call it 0001_{path.name}, or _{path.name} if it is none"
            )
    return _chain(folder, [_revision(path) for path in paths])


def _chain(folder: Path, revisions: Sequence[Revision]) -> list[Revision]:
    after: dict[str | None, Revision] = {}
    for key, both in (("revision", "are both revision"), ("down_revision", "both come after")):
        after = {}
        for it in revisions:
            id_ = getattr(it, key)
            if (other := after.setdefault(id_, it)) is not it:
                names = f"{it.path.name} and {other.path.name}"
                raise MigrationError(f"{names} {both} {id_!r}; change the {key} of one")
    chain: list[Revision] = []
    while (following := after.pop(chain[-1].revision if chain else None, None)) is not None:
        chain.append(following)
    for lost in after.values():
        wrong = f"{lost.path.name} comes after {lost.down_revision!r}, to which no revision in {folder} leads"
        raise MigrationError(one_line(f"{wrong} from the first one; correct its down_revision"))
    return chain


class _Loader(SourceFileLoader):
    """Runs the bytes whose checksum was taken, and leaves no compiled file behind."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  (one module a loader)
        code: CodeType = self.source_to_code(self._source, self.path)
        return code


def _revision(path: Path) -> Revision:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise MigrationError(f"{path} cannot be read ({error.strerror}); allow reading it") from error
    module = ModuleType(f"connector_revision_{path.stem}")
    module.__file__ = str(path)
    try:
        _Loader(module.__name__, path, source).exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file does
        raise failure(f"{path.name} cannot be run", error, path) from error
    names = vars(module)
    revision, down, irreversible = (names.get(it) for it in ("revision", "down_revision", "irreversible"))
    for name in ("revision", "down_revision", "irreversible"):
        if not isinstance(value := names.get(name), str | None):
            raise MigrationError(one_line(f"{path.name} has {name} = {value!r:.80}; give a text"))
    upgrade: Any = names.get("upgrade")
    downgrade: Any = names.get("downgrade")
    problem = ""
    if "revision" not in names:
        problem = "has no revision; write revision = …"
    elif not _REVISION.fullmatch(revision or ""):
        problem = f"has revision {revision!r}; give up to 64 letters, digits, '_' and '-'"
    elif revision in (BASE, "pending", "count", down):
        problem = f"has revision {revision!r}; choose another one"
    elif not callable(upgrade):
        problem = "has no upgrade(ctx); define it"
    elif callable(downgrade) == bool(irreversible):
        problem = 'must have one of downgrade(ctx) and irreversible = "why there is no way back"'
    if problem:
        raise MigrationError(one_line(f"{path.name} {problem}"))
    checksum = hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    return Revision(str(revision), down, path, checksum, summary, upgrade, downgrade, irreversible)


def failure(what: str, error: BaseException, path: Path) -> MigrationError:
    """What to raise when the file of a revision fails: where in the file, and by which error."""
    lines = [
        line for it, line in traceback.walk_tb(error.__traceback__) if it.f_code.co_filename == str(path)
    ]
    text = str(error)
    if isinstance(error, SyntaxError):
        lines, text = [error.lineno or 0], error.msg
    where = f", line {lines[-1]}" if lines and lines[-1] else ""
    return MigrationError(f"{what}{where}: {one_line(f'{type(error).__name__}: {text}', 300)}; correct it")


class Applied(BaseModel):
    """A revision that was applied.

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


_PENDING = f"{LEDGER}.pending"
_COUNT = f"{LEDGER}.count"


class Ledger(BaseModel):
    """Which revisions were applied to a collection.

    Args:
        head: id of the last applied revision.
        applied: what is known of each applied revision, by its id.
        pending: what is being applied or taken back, or was cut off.
        count: how many revisions were ever applied or taken back.
    """

    model_config = ConfigDict(frozen=True)

    head: str | None
    applied: dict[str, Json[Applied]]
    pending: Json[Pending] | None
    count: int

    @classmethod
    def of(cls, metadata: CollectionMetadata) -> Ledger:
        """What a collection says.

        Raises:
            MigrationError: it is damaged.
        """
        said = metadata.ledger
        head, pending, count = said.pop(LEDGER, None), said.pop(_PENDING, None), said.pop(_COUNT, 0)
        applied = {key.removeprefix(f"{LEDGER}."): value for key, value in said.items()}
        try:
            return cls.model_validate({"head": head, "applied": applied, "pending": pending, "count": count})
        except ValidationError as error:
            raise MigrationError(f"the ledger is damaged: {error}; restore an export") from error

    @property
    def done(self) -> list[str]:
        """The steps that are done of the revision that is on its way."""
        return [] if self.pending is None else self.pending.done

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
                when = f"was applied on {applied.time}"
                raise MigrationError(f"revision {id_!r} {when} and is not in the folder; restore its file")
            if self.changed(known[id_]):
                raise MigrationError(
                    f"{known[id_].path.name} was changed since it was applied on {applied.time}; restore it, "
                    "and write what is new as another revision; if it does the same, note its checksum with "
                    f"connector migrate stamp {self.head}"
                )
        ids = [None, *known]
        if self.head not in ids:
            raise MigrationError(f"the collection is at revision {self.head!r}, which is not in the folder")
        return ids.index(self.head)

    def cut_off(self) -> MigrationError:
        """What to raise where something else is wanted than to finish what was cut off."""
        if self.pending is None:
            return MigrationError("nothing was cut off; run the command again")
        what = f"{self.pending.direction} of revision {self.pending.revision!r}"
        return MigrationError(
            f"the {what} was cut off after {len(self.done)} steps; finish it with connector migrate "
            f"{self.pending.direction}, or give it up with {self.giving_up}: what is done stays"
        )

    @property
    def giving_up(self) -> str:
        """The command that forgets what was cut off."""
        return f"connector migrate stamp {self.head or BASE}"

    def applied_keys(
        self, metadata: CollectionMetadata, revision: Revision, stamped: bool = False
    ) -> dict[str, Any]:
        """What to say when a revision is applied to a collection that says this of itself now."""
        applied = Applied(
            checksum=revision.checksum,
            recipe=metadata.recipe.name,
            encoder=metadata.encoder,
            library=version("qdrant-late-interaction"),
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            stamped=stamped,
        )
        return self._ended(revision.revision, revision, applied)

    def undone_keys(self, revision: Revision) -> dict[str, Any]:
        """What to say when a revision was taken back."""
        return self._ended(revision.down_revision, revision, None)

    def stamped_keys(self, metadata: CollectionMetadata, revisions: Sequence[Revision]) -> dict[str, Any]:
        """What to say when these revisions, and no others, are noted as applied."""
        said = dict.fromkeys([LEDGER, _PENDING, *(f"{LEDGER}.{id_}" for id_ in self.applied)])
        for revision in revisions:
            said |= self.applied_keys(metadata, revision, stamped=True)
        return said

    def _ended(self, head: str | None, revision: Revision, applied: Applied | None) -> dict[str, Any]:
        own = f"{LEDGER}.{revision.revision}"
        return {LEDGER: head, own: applied, _PENDING: None, _COUNT: self.count + 1}


def pending_keys(revision: Revision, direction: Direction, done: Sequence[object]) -> dict[str, Any]:
    """What to say when these steps of a revision are done."""
    pending = Pending(
        revision=revision.revision,
        direction=direction,
        checksum=revision.checksum,
        done=[str(step) for step in done],
    )
    return {_PENDING: pending}
