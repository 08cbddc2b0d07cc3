"""Codecs: token vectors as few bytes, and queries that are scored against them."""

from connector.compression.codecs.codec import PROJECTIONS, QUANTIZERS, Codec, parse_codec

__all__ = ["PROJECTIONS", "QUANTIZERS", "Codec", "parse_codec"]
