"""Qdrant Edge: the engine in this process."""

from connector.stores.edge.store import EdgeStore

__all__ = ["EdgeStore"]
