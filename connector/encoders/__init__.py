"""Encoders: text to embeddings."""

from connector.encoders.base import Encoder
from connector.encoders.loading import DEFAULT_MODEL, load_encoder

__all__ = ["DEFAULT_MODEL", "Encoder", "load_encoder"]
