"""A folder of revisions: numbered Python files that say what they change and how it is taken back."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from connector.core.errors import MigrationError, one_line

_NUMBERED = re.compile(r"\d+(_\w+)?\.py")


_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


BASE = "base"
"""What `downgrade` takes for the state before the first revision."""


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


def load_revisions(folder: Path) -> list[Revision]:
    """The revisions of a folder, the first one first. Their files are executed.

    Args:
        folder: holds `0001_what_it_does.py`, `0002_….py`; files that begin with "_" are passed over.

    Raises:
        MigrationError: a file is no revision, or they are no chain.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".py" and path.name[0] != "_")
    except OSError as error:
        raise MigrationError(
            f"{folder} cannot be read ({error.strerror}); give a folder of revisions"
        ) from error
    for path in paths:
        if not _NUMBERED.fullmatch(path.name):
            raise MigrationError(
                f"{path} is no numbered revision; call it 0001_{path.name}, or _{path.name} if it is none"
            )
    return _chain(folder, [_revision(path) for path in paths])


def _chain(folder: Path, revisions: Sequence[Revision]) -> list[Revision]:
    by_id: dict[str, Revision] = {}
    after: dict[str | None, Revision] = {}
    for it in revisions:
        if it.revision in by_id:
            raise MigrationError(
                f"{it.path.name} and {by_id[it.revision].path.name} are both revision {it.revision!r}; "
                "rename one"
            )
        if it.down_revision in after:
            raise MigrationError(
                f"{it.path.name} and {after[it.down_revision].path.name} both come after "
                f"{it.down_revision!r}; set the down_revision of one to the other"
            )
        by_id[it.revision] = after[it.down_revision] = it
    chain: list[Revision] = []
    while (it_next := after.pop(chain[-1].revision if chain else None, None)) is not None:
        chain.append(it_next)
    for lost in after.values():
        raise MigrationError(
            one_line(
                f"{lost.path.name} comes after {lost.down_revision!r}, to which no revision in {folder} "
                "leads from the first one; correct its down_revision"
            )
        )
    return chain


class _Loader(SourceFileLoader):
    """Runs the bytes whose checksum was taken, and leaves no compiled file behind."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  (one module a loader)
        code: CodeType = self.source_to_code(self._source, self.path)
        return code


def _revision(path: Path) -> Revision:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise MigrationError(f"{path} cannot be read ({error.strerror}); allow reading it") from error
    module = _module(path, source)
    revision, down = _text(module, path, "revision"), _text(module, path, "down_revision", None)
    upgrade, downgrade = getattr(module, "upgrade", None), getattr(module, "downgrade", None)
    irreversible = _text(module, path, "irreversible", None)
    if not _REVISION.fullmatch(revision or ""):
        raise MigrationError(
            one_line(f"{path.name} has revision {revision!r}; give up to 64 letters, digits, '_' and '-'")
        )
    if revision in (BASE, "pending", "count", down):
        raise MigrationError(f"{path.name} has revision {revision!r}; choose another one")
    if not callable(upgrade):
        raise MigrationError(f"{path.name} has no upgrade(ctx); define it")
    if callable(downgrade) == bool(irreversible):
        raise MigrationError(
            f'{path.name} must have one of downgrade(ctx) and irreversible = "why there is no way back"'
        )
    return Revision(
        revision=str(revision),
        down_revision=down,
        path=path,
        checksum=hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest(),
        summary=(module.__doc__ or "").strip().partition("\n")[0],
        upgrade=upgrade,
        downgrade=downgrade,
        irreversible=irreversible,
    )


def _module(path: Path, source: bytes) -> ModuleType:
    name = f"connector_revision_{path.stem}"
    spec = importlib.util.spec_from_loader(name, _Loader(name, str(path), source))
    if spec is None or spec.loader is None:
        raise MigrationError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file does
        raise MigrationError(
            f"{path.name} cannot be run{line_of(error, path)}: {said_of(error)}; correct it"
        ) from error
    return module


def line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return "" if error.lineno is None else f", line {error.lineno}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line


def said_of(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return one_line(f"{type(error).__name__}: {text}", 300)


_MISSING = object()


def _text(module: ModuleType, path: Path, name: str, default: Any = _MISSING) -> Any:
    value = getattr(module, name, default)
    if value is _MISSING:
        raise MigrationError(f"{path.name} has no {name}; write {name} = …")
    if value is not None and not isinstance(value, str):
        raise MigrationError(one_line(f"{path.name} has {name} = {value!r:.80}; give a text"))
    return value
