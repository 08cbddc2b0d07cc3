"""Artifacts with their size and hash before them, so that a damaged one is noticed before it is used."""

from __future__ import annotations

import hashlib
import hmac

from connector.errors import StoreError

_MAGIC = b"artifact"
_HEADER = len(_MAGIC) + 8 + 32


def sealed(data: bytes) -> bytes:
    """What is stored of an artifact: 8 bytes "artifact", its size, its SHA-256, itself."""
    return _MAGIC + len(data).to_bytes(8, "big") + hashlib.sha256(data).digest() + data


def unsealed(stored: bytes, what: str) -> bytes:
    """The artifact again.

    Args:
        stored: from `sealed`.
        what: names it, for messages.

    Raises:
        StoreError: it is not what was stored.
    """
    data, size, digest = stored[_HEADER:], stored[8:16], stored[16:_HEADER]
    if not stored.startswith(_MAGIC) or int.from_bytes(size, "big") != len(data):
        raise StoreError(f"{what} has {len(stored)} bytes and is no artifact of that size; restore an export")
    if not hmac.compare_digest(hashlib.sha256(data).digest(), digest):
        raise StoreError(f"{what} was changed since it was stored (SHA-256); restore an export")
    return data
