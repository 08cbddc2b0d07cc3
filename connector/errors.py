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
    │   ├── StoreLocked        another process holds the folder
    │   └── StoreUnavailable   no server answers
    └── MissingExtra           an optional dependency is not installed (also an ImportError)

Each message names the value that was received and what to do about it.
"""


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


class StoreLocked(StoreError):
    """Another process holds the folder."""


class StoreUnavailable(StoreError):
    """No server answers at the given address."""


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
