"""Recipes: the named ones hold, contradictory ones are refused, and each has a schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from connector.errors import RecipeError
from connector.recipes import RECIPES, Recipe, get_recipe, load_recipe
from connector.schema import CollectionSchema, VectorSchema

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"layout": "dense", "codec": "float16"}, "dense.*float16"),
    ({"layout": "dense", "reduction": "ward-4"}, "ward-4"),
    ({"layout": "multivector"}, "multivector.*None"),
    ({"layout": "codes"}, "codes.*None"),
    ({"layout": "multivector", "codec": "binary"}, "binary.*use layout codes"),
    ({"layout": "multivector", "codec": "pca-64+binary"}, "pca-64.binary.*use layout codes"),
    ({"layout": "multivector", "codec": "int3"}, "int3.*float32, float16 or binary"),
    ({"layout": "codes", "codec": "int3"}, "int3.*float32, float16 or binary"),
    ({"layout": "codes", "codec": "svd-8+binary"}, "svd-8.*pca-D"),
    ({"layout": "codes", "codec": "binary", "reduction": "svd-4"}, "svd-4.*ward-SIZE"),
    ({"layout": "codes", "codec": "binary", "reduction": "ward-1"}, "factor is 1"),
    ({"layout": "sparse", "codec": "float16"}, "layout"),
    ({"layout": "codes", "codec": "binary", "cls": "int8"}, "cls"),
    ({"layout": "codes", "codec": "binary", "colour": "blue"}, "colour"),
]


@every_recipe
def test_a_named_recipe_says_what_it_is_and_where_it_is_from(recipe: Recipe) -> None:
    assert RECIPES[recipe.name] is get_recipe(recipe.name) is recipe
    assert recipe.summary
    assert recipe.source


@every_recipe
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert load_recipe(recipe.model_dump_json()) == recipe
    assert load_recipe(json.dumps(recipe.model_dump())) == recipe


@every_recipe
def test_a_recipe_makes_its_parts_anew(recipe: Recipe) -> None:
    assert recipe.make_reduction().spec == (recipe.reduction or "")
    assert recipe.make_query_reduction().spec == (recipe.query_reduction or "")
    if recipe.codec is None:
        with pytest.raises(RecipeError, match=f"recipe {recipe.name} stores no tokens"):
            recipe.make_codec()
    else:
        assert recipe.make_codec().spec == recipe.codec
        assert recipe.make_codec() is not recipe.make_codec()
        assert not recipe.make_codec().fitted


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RECIPES["default"].codec = "float32"


@pytest.mark.parametrize(("fields", "message"), CONTRADICTIONS)
def test_a_contradictory_recipe_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Recipe(name="mine", **fields)
    with pytest.raises(RecipeError, match=f"(?s)not a valid recipe.*{message}"):
        load_recipe(json.dumps({"name": "mine", **fields}))


@pytest.mark.parametrize("data", ["", "{", "[]", "null", '{"layout": "dense"}'])
def test_json_that_is_no_recipe_is_refused(data: str) -> None:
    with pytest.raises(RecipeError, match="not a valid recipe"):
        load_recipe(data)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="'defualt' is not known") as error:
        get_recipe("defualt")
    for name in RECIPES:
        assert name in str(error.value)


CLS = VectorSchema("cls", 384, "float32")
SCHEMAS = {
    "dense": (CLS,),
    "colbert": (CLS, VectorSchema("tokens", 384, "float16", multivector=True)),
    "default": (CLS, VectorSchema("tokens", 192, "float16", multivector=True)),
    "compact": (VectorSchema("cls", 384, "turbo4"),),
}


@every_recipe
def test_the_schema_of_a_recipe(recipe: Recipe) -> None:
    assert CollectionSchema.of(recipe, 384, 384).vectors == SCHEMAS[recipe.name]


def test_the_widths_of_a_schema_are_those_of_the_encoder_and_the_codec() -> None:
    recipe = Recipe(name="mine", layout="multivector", codec="pca-64+float32")
    assert CollectionSchema.of(recipe, 768, 128).vectors == (
        VectorSchema("cls", 768, "float32"),
        VectorSchema("tokens", 64, "float32", multivector=True),
    )
    assert CollectionSchema.of(recipe, 768, 48).vectors[1].size == 48


@pytest.mark.parametrize(
    ("datatype", "size", "expected"),
    [("float32", 384, 1536), ("float16", 384, 768), ("float16", 1, 2), ("turbo4", 384, 196)],
)
def test_bytes_of_a_row(datatype: Any, size: int, expected: int) -> None:
    assert VectorSchema("cls", size, datatype).bytes_per_row == expected
