"""A Qdrant server or cluster."""

from connector.stores.server.connection import connect
from connector.stores.server.store import ServerStore

__all__ = ["ServerStore", "connect"]
