"""Encoders: text to embeddings."""

from connector.encoders.base import Encoder, Model
from connector.encoders.loading import DEFAULT_MODEL, load_encoder

__all__ = ["DEFAULT_MODEL", "Encoder", "Model", "load_encoder"]
