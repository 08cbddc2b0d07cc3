"""Recipes that tests use by name: a trained layer, no words, scores that are not scaled.

So each test shows one thing, and what is stored can be transcoded from one to the other.
"""

from __future__ import annotations

from connector.collection.recipe import RECIPES, Recipe
from connector.compression.heads import OWN

COMPACT = Recipe(
    name="compact",
    summary="tokens pooled by 6, 128 trained dimensions, one bit each",
    layout="codes",
    reduction="ward-6",
    codec="linear-128+binary",
    head=OWN,
    cls="turbo4",
)


POOLED = Recipe(
    name="pooled",
    summary="tokens pooled by 6, 128 trained dimensions, half precision",
    layout="multivector",
    reduction="ward-6",
    codec="linear-128+float16",
    head=OWN,
)


FLOATS = Recipe(name="floats", summary="every token as it is", layout="multivector", codec="float16")


def register() -> None:
    """Let the names be known in this process."""
    RECIPES.update({recipe.name: recipe for recipe in (COMPACT, POOLED, FLOATS)})
