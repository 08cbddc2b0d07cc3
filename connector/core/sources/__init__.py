"""Files, folders and standard input as documents."""

from connector.core.sources.source import Source

__all__ = ["Source"]
