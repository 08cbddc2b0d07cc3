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
    return next((name for name, encoder in _shipped().items() if encoder == fingerprint), None)


@cache
def _shipped() -> dict[str, str]:
    """Name to encoder fingerprint."""
    return {
        file.parent.name: json.loads(file.read_text(encoding="utf-8"))["encoder"]
        for file in sorted(_HERE.glob("*/head.json"))
    }
