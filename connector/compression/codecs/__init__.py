"""Codecs: how token vectors are compressed, stored, and scored again.

A codec is a chain of projections that ends in one quantizer, written as text with "+" between the
parts: "float16", "pca-128+float16", "pca-192+binary", "linear-128+residual-1".
"""

from __future__ import annotations

from connector.compression.codecs.codec import Codec
from connector.compression.codecs.parsing import QUANTIZERS, parse_codec
from connector.compression.codecs.projection import PROJECTIONS

__all__ = ["PROJECTIONS", "QUANTIZERS", "Codec", "parse_codec"]
