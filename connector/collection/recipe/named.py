"""The named recipes."""

from __future__ import annotations

from pathlib import Path

from connector.collection.recipe.recipe import Recipe, load_recipe
from connector.compression.heads import OWN
from connector.core.errors import RecipeError

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
            name="colbert",
            summary="every token at full width: the best quality, the most bytes",
            source="Khattab and Zaharia, ColBERT, SIGIR 2020",
            layout="multivector",
            codec="float16",
        ),
        Recipe(
            name="default",
            summary="tokens pooled by 6, 128 trained dimensions, half precision; Qdrant itself scores MaxSim",
            source="Clavié, Chaffin and Adams, Token Pooling, 2024",
            layout="multivector",
            reduction="ward-6",
            codec="linear-128+float16",
            head=OWN,
        ),
        Recipe(
            name="compact",
            summary="tokens pooled by 6, 128 trained dimensions, one bit each: less than one dense vector",
            source="Clavié, Chaffin and Adams, Token Pooling, 2024; Charikar, STOC 2002",
            layout="codes",
            reduction="ward-6",
            codec="linear-128+binary",
            head=OWN,
            cls="turbo4",
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
