"""`connector recipes`, `connector reductions` and `connector codecs`: what there is to choose from."""

from __future__ import annotations

from typing import Any

import click

from connector.cli.options import json_option
from connector.cli.render import methods_json, print_json, print_methods, print_recipe
from connector.core.registry import Method


@click.command("recipes")
@json_option
def recipes_command(as_json: bool) -> None:
    """List the recipes: which tokens are kept, how they are compressed, who scores them."""
    from connector.collection.recipe import RECIPES

    if as_json:
        print_json({"recipes": [recipe.model_dump() for recipe in RECIPES.values()]})
        return
    for recipe in RECIPES.values():
        print_recipe(recipe)


@click.command("reductions")
@json_option
def reductions_command(as_json: bool) -> None:
    """List the steps of reductions: which tokens are kept or merged.

    K is a count (32), a share (25%) or, for most, bytes a passage (512B). A SIZE is a factor (4), or what to
    pool to: to-32, to-25%, to-512B. Steps are joined with "+", and done from left to right, as in
    punctuation+ward-4.
    """
    from connector.compression.reduction import PASSAGE_METHODS, QUERY_METHODS

    steps: dict[str, tuple[Method[Any, Any], ...]] = {
        "reduction": PASSAGE_METHODS,
        "query_reduction": QUERY_METHODS,
    }
    if as_json:
        print_json(methods_json(steps))
        return
    for side, methods in steps.items():
        print_methods(f"--{side.replace('_', '-')}", methods)
    click.echo("K: a count (32), a share (25%), or bytes a passage (512B; not for unused-K and icf-K).")
    click.echo("SIZE: a factor (4), or what to pool to (to-32, to-25%, to-512B).")
    click.echo('Steps are joined with "+": --reduction punctuation+ward-4')


@click.command("codecs")
@json_option
def codecs_command(as_json: bool) -> None:
    """List the parts of codecs: how token vectors are compressed.

    A codec ends in one of the quantizers, and may have projections before it, joined with "+" as in
    pca-128+residual-1.
    """
    from connector.compression.codecs import PROJECTIONS, QUANTIZERS

    parts: dict[str, tuple[Method[Any, Any], ...]] = {"projections": PROJECTIONS, "quantizers": QUANTIZERS}
    if as_json:
        print_json(methods_json(parts))
        return
    for kind, methods in parts.items():
        print_methods(kind, methods)
    click.echo('Parts are joined with "+", a quantizer last: --codec pca-128+residual-1')
