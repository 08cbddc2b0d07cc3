"""Point ids: a UUIDv5 of a document's id and the passage's number."""

from __future__ import annotations

import uuid

_POINT_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "qdrant-late-interaction")


def point_id(document_id: str, passage: int) -> str:
    """The UUIDv5 under which passage number `passage` of a document is stored."""
    return str(uuid.uuid5(_POINT_NAMESPACE, f"{document_id}\0{passage}"))
