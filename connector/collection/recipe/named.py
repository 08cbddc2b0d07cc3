"""The named recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from connector.collection.recipe.recipe import Recipe, load_recipe
from connector.compression.heads import OWN
from connector.core.errors import RecipeError

_SIGNS = (
    "Clavié, Chaffin and Adams, Token Pooling, 2024; Charikar, STOC 2002; Bruch, Gai and Ingber, TOIS 2023"
)


_ASKED: dict[str, Any] = {
    "query_rows": "auto",
    "query_weights": "idf",
    "lexical": "english",
    "fusion": "minmax:tokens=1,bm25=1,cls=1",
    "feedback": "codes=5",
}
"""How queries ask and candidates are scored. `benchmarks/ranking.py` chose the numbers, on all collections;
what it reports was chosen without the collection that it is judged on."""


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="dense",
            summary="one CLS vector a passage, no tokens: the baseline",
            source="Reimers and Gurevych, Sentence-BERT, EMNLP 2019",
            layout="dense",
        ),
        Recipe(
            name="hybrid",
            summary="words and one CLS vector a passage, fused, with feedback; no tokens",
            source="Bruch, Gai and Ingber, An Analysis of Fusion Functions, TOIS 2023; Rocchio, 1971",
            layout="dense",
            cls="turbo4",
            lexical="english",
            fusion="minmax:bm25=0.75,cls=1",
            feedback="cls=5",
        ),
        Recipe(
            name="tiny",
            summary="tokens pooled by 4, 96 centred signs each, fused with words and CLS: 3 bytes a token",
            source=_SIGNS,
            layout="codes",
            reduction="special+ward-4",
            codec="center+pca-96+binary",
            cls="turbo4",
            **{**_ASKED, "feedback": "cls=3"},
        ),
        Recipe(
            name="default",
            summary="tokens pooled by 4, 256 centred signs each, fused with words and CLS: 8 bytes a token",
            source=_SIGNS,
            layout="codes",
            reduction="special+ward-4",
            codec="center+pca-256+binary",
            cls="turbo4",
            **_ASKED,
        ),
        Recipe(
            name="colbert",
            summary="every token at full width, centred, fused with words and CLS: the most bytes",
            source="Khattab and Zaharia, ColBERT, SIGIR 2020",
            layout="multivector",
            codec="center+float16",
            **{**_ASKED, "fusion": "minmax:tokens=1,bm25=0.25,cls=0.5", "feedback": "cls=5"},
        ),
        Recipe(
            name="aligner",
            summary="the more salient half of the tokens, 128 trained dimensions, one bit each, weighed",
            source="Qian et al., Multi-Vector Retrieval as Sparse Alignment, 2022",
            layout="codes",
            reduction="saliency-50%",
            codec="linear-128+binary",
            head=OWN,
            alignment="top-1",
            saliency=True,
            cls="turbo4",
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name, or in this file, as `connector tune --save` writes one.

    Args:
        name: a known name, or a `.json` file.

    Raises:
        RecipeError: no recipe has this name, the known ones are named; or the file holds none.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".json"):
        known = ", ".join(RECIPES)
        raise RecipeError(f"recipe {name!r} is not known; the known ones: {known}, or give a .json file")
    try:
        return load_recipe(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"recipe {name} cannot be read: {error}; give one that connector tune saved"
        ) from None
    except RecipeError as error:
        raise RecipeError(f"{name}: {error}") from None
