"""`connector recipes`, `connector reductions` and `connector codecs`: what there is to choose from."""

from __future__ import annotations

from connector.cli import options
from connector.cli.commands import main
from connector.cli.render import output
from connector.cli.results import Methods, methods_json, methods_lines, recipe_lines


@main.command("recipes")
@options.json
def recipes_command(as_json: bool) -> None:
    """List the recipes: which tokens are kept, how they are compressed, who scores them."""
    from connector.collection.recipe import RECIPES

    recipes = [*RECIPES.values()]
    output(as_json, {"recipes": [recipe.model_dump() for recipe in recipes]}, recipe_lines(recipes))


@main.command("reductions")
@options.json
def reductions_command(as_json: bool) -> None:
    """List the steps of reductions: which tokens are kept or merged.

    K is a count (32), a share (25%) or, for most, bytes a passage (512B). A SIZE is a factor (4), or what to
    pool to: to-32, to-25%, to-512B. Steps are joined with "+", and done from left to right, as in
    punctuation+ward-4.
    """
    from connector.compression.reduction import PASSAGE_METHODS, QUERY_METHODS

    _show(
        as_json,
        {"reduction": PASSAGE_METHODS, "query_reduction": QUERY_METHODS},
        "K: a count (32), a share (25%), or bytes a passage (512B; not for unused-K and icf-K).",
        "SIZE: a factor (4), or what to pool to (to-32, to-25%, to-512B).",
        'Steps are joined with "+": --reduction punctuation+ward-4',
    )


@main.command("codecs")
@options.json
def codecs_command(as_json: bool) -> None:
    """List the parts of codecs: how token vectors are compressed.

    A codec ends in one of the quantizers, and may have projections before it, joined with "+" as in
    pca-128+residual-1.
    """
    from connector.compression.codecs import PROJECTIONS, QUANTIZERS

    note = 'Parts are joined with "+", a quantizer last: --codec pca-128+residual-1'
    _show(as_json, {"projections": PROJECTIONS, "quantizers": QUANTIZERS}, note)


def _show(as_json: bool, methods: Methods, *notes: str) -> None:
    output(as_json, methods_json(methods), methods_lines(methods, *notes))
