"""Every error that this library raises on purpose.

    ConnectorError
    ├── InputError             the caller's data or arguments (also a ValueError)
    │   ├── DocumentError      one document or record is unusable
    │   ├── SourceError        a file or folder cannot be read as a source of documents
    │   └── RecipeError        an unknown or contradictory recipe, pooling or codec
    ├── ModelError             an encoder cannot be loaded or does not fit its use
    ├── CollectionError        a collection as a whole
    │   ├── CollectionNotFound
    │   ├── CollectionExists
    │   └── EncoderMismatch    the collection was made by another encoder
    ├── StoreError             Qdrant, in process or on a server
    │   ├── IndexMissing       a server in strict mode takes filters on indexed keys alone
    │   ├── PointsRefused      the engine refuses some points for good; the others are written
    │   ├── StoreLocked        another process holds the folder
    │   └── StoreUnavailable   no server answers
    │       └── AccessDenied   it does not take the API key, or the key lacks a right
    ├── TransferError          an export cannot be written, or read back
    ├── MigrationError         revisions do not fit a collection, or a migration cannot go on
    └── MissingExtra           an optional dependency is not installed (also an ImportError)

Each message names the value that was received and what to do about it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class ConnectorError(Exception):
    """Base of all errors raised by this library."""


class InputError(ConnectorError, ValueError):
    """The caller's data or arguments are unusable."""


class DocumentError(InputError):
    """One document or record is unusable."""


class SourceError(InputError):
    """A file or folder cannot be read as a source of documents."""


class RecipeError(InputError):
    """An unknown or contradictory recipe, pooling or codec."""


class ModelError(ConnectorError):
    """An encoder cannot be loaded, or does not fit its use."""


class CollectionError(ConnectorError):
    """A collection is not in the state that the call needs."""


class CollectionNotFound(CollectionError):
    """No collection has this name."""


class CollectionExists(CollectionError):
    """A collection of this name is there already."""


class EncoderMismatch(CollectionError):
    """The collection was made by another encoder; the message holds both fingerprints."""


class StoreError(ConnectorError):
    """Qdrant refused or failed, in process or on a server."""


class IndexMissing(StoreError):
    """A server in strict mode takes no filter on a key without an index."""


class PointsRefused(StoreError):
    """The engine refuses some points for good, such as ones that are too large; the others are written.

    Args:
        reasons: what it says, by point id.
    """

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        first = next(iter(reasons.values()))
        super().__init__(f"{len(reasons)} points were refused, the first: {first}")


class StoreLocked(StoreError):
    """Another process holds the folder, or another holder the key."""


class StoreUnavailable(StoreError):
    """No server answers at the given address."""


class AccessDenied(StoreUnavailable):
    """A server does not take the API key, or the key lacks a right."""


class TransferError(ConnectorError):
    """An export cannot be written, or read back."""


class MigrationError(ConnectorError):
    """Revisions do not fit a collection, or a migration cannot go on."""


class MissingExtra(ConnectorError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: the import name that is missing.
        extra: the extra of this distribution that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'qdrant-late-interaction[{extra}]'"
        )


def require(module: str, extra: str) -> Any:
    """A module of an optional dependency, such as "pyarrow.parquet", imported when it is asked for.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(module.partition(".")[0], extra) from error


def first_problem(error: ValidationError) -> str:
    """Where the first thing is that pydantic refuses, and why: "codec: Input should be a valid string"."""
    first = error.errors(include_url=False)[0]
    places = [f"{place}: " for place in first["loc"]]
    return "".join([*places, first["msg"].removeprefix("Value error, ")])


def own_words(error: ValidationError) -> ConnectorError | None:
    """The error of this library's that a validator raised, if one did."""
    causes = [problem.get("ctx", {}).get("error") for problem in error.errors(include_url=False)]
    return next((cause for cause in causes if isinstance(cause, ConnectorError)), None)


def one_line(text: str, most: int = 500) -> str:
    """A message that quotes a file, fit for a terminal: nothing unprintable, and its middle cut if long."""
    text = text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)
