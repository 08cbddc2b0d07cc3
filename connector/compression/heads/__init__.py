"""Trained heads that come with this library, each in a folder with its model card.

A head's folder holds the layers "linear-128", … that codecs take, "saliency", and "head.json", which says for
which encoder they were trained. `connector train saliency` makes such folders.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

__all__ = ["OWN", "head_folder", "shipped_for"]

OWN = "own"
"""As a recipe's head: the one that comes with this library for the collection's model."""


_HERE = Path(__file__).parent


def head_folder(head: str) -> str:
    """The folder of a head: one that comes with this library by its name, else the given folder."""
    return str(_HERE / head) if head in _shipped() else head


def shipped_for(fingerprint: str) -> str | None:
    """The name of the head that comes for the encoder with this fingerprint."""
    return next((name for name, encoders in _shipped().items() if fingerprint in encoders), None)


@cache
def _shipped() -> dict[str, list[str]]:
    """Name to the fingerprints of its encoder: that of now, and those that it had before."""
    described = {
        it.parent.name: json.loads(it.read_text(encoding="utf-8")) for it in sorted(_HERE.glob("*/head.json"))
    }
    return {name: [it["encoder"], *it.get("formerly", ())] for name, it in described.items()}
