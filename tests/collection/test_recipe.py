"""Recipes: the named ones hold, contradictory ones are refused, and each has a schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sentence_transformers.base.modules import Dense

from connector import Encoder
from connector.collection.metadata import schema_for
from connector.collection.recipe import RECIPES, Recipe, get_recipe, load_recipe
from connector.compression.codecs.scalar_quantization import stored_bytes
from connector.core.errors import RecipeError
from connector.stores.schema import CollectionSchema, Quantization, VectorSchema

CLS = VectorSchema("cls", 384, "float32")

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=str)

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"layout": "dense", "codec": "float16"}, "dense.*float16"),
    ({"layout": "dense", "reduction": "ward-4"}, "ward-4"),
    ({"layout": "multivector"}, "multivector.*None"),
    ({"layout": "codes"}, "codes.*None"),
    ({"layout": "multivector", "codec": "binary"}, "binary.*use layout codes"),
    ({"layout": "multivector", "codec": "pca-64+binary"}, "pca-64.binary.*use layout codes"),
    ({"layout": "multivector", "codec": "int3"}, "int3.*known endings: float32, float16, .*pq-M"),
    ({"layout": "codes", "codec": "int3"}, "int3.*known endings: float32, float16, .*pq-M"),
    ({"layout": "codes", "codec": "svd-8+binary"}, "svd-8.*pca-D"),
    ({"layout": "codes", "codec": "binary", "reduction": "svd-4"}, "svd-4.*ward-SIZE"),
    (
        {"layout": "codes", "codec": "binary", "reduction": "ward-1"},
        "'1' is not a size; give a factor from 2",
    ),
    ({"layout": "sparse", "codec": "float16"}, "layout"),
    ({"layout": "codes", "codec": "binary", "cls": "int8"}, "cls"),
    ({"layout": "multivector", "codec": "int8"}, "int8.*use layout codes"),
    ({"layout": "multivector", "codec": "hamming"}, "hamming.*use layout codes"),
    ({"layout": "multivector", "codec": "residual-2"}, "residual-2.*use layout codes"),
    ({"layout": "multivector", "codec": "pca-64+pq-16"}, "pq-16.*use layout codes"),
    ({"layout": "codes", "codec": "turbo4"}, "only Qdrant can make turbo4; use layout multivector"),
    ({"layout": "codes", "codec": "pca-64+turbo8"}, "only Qdrant can make pca-64.turbo8; use layout"),
    ({"layout": "codes", "codec": "residual-3"}, "residual-3 is not known; give 1, 2 or 4"),
    ({"layout": "codes", "codec": "pq-x"}, "'x' is not a number"),
    (
        {"layout": "codes", "codec": "binary", "quantization": "scalar"},
        "layout codes; use that of recipe colbert",
    ),
    ({"layout": "dense", "quantization": "turbo-1"}, "layout dense; use that of recipe colbert"),
    ({"layout": "multivector", "codec": "float16", "quantization": "int8"}, "quantization"),
    ({"layout": "multivector", "codec": "float16", "oversampling": 0.5}, "oversampling"),
    ({"layout": "dense", "lexical": "klingon"}, "klingon.*give one such as english"),
    ({"layout": "codes", "codec": "binary", "colour": "blue"}, "colour"),
]


@every_recipe
def test_a_named_recipe_says_what_it_is_and_where_it_is_from(recipe: Recipe) -> None:
    assert RECIPES[recipe.name] is get_recipe(recipe.name) is recipe
    assert recipe.summary
    assert recipe.source or recipe.name in ("compact", "pooled", "floats")  # which tests have brought


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


@pytest.mark.parametrize("quantization", get_args(Quantization))
def test_tokens_of_a_multivector_may_be_quantized(quantization: Any) -> None:
    recipe = Recipe(name="mine", layout="multivector", codec="pca-64+float16", quantization=quantization)
    assert recipe.oversampling == 2
    assert load_recipe(recipe.model_dump_json()) == recipe
    assert schema_for(recipe, 384, 384).vectors == (
        CLS,
        VectorSchema("tokens", 64, "float16", multivector=True, quantization=quantization),
    )


def test_a_recipe_hands_its_head_to_the_codec(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = Dense(32, 16, bias=False, activation_function=torch.nn.Identity())
    layer.save(str(tmp_path))
    recipe = Recipe(name="mine", layout="codes", codec="linear-16+float32", head=str(tmp_path))
    rows = np.random.default_rng(0).normal(size=(10, 32)).astype(np.float32)
    asked = recipe.make_codec().fit(rows).encode_query(rows)
    expected = rows @ layer.linear.weight.detach().numpy().T
    assert np.allclose(asked, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_parts_of_a_recipe_that_decide_what_is_searched_make_it_another() -> None:
    recipe = Recipe(name="mine", layout="multivector", codec="float16")
    assert recipe.same_as(recipe.model_copy(update={"name": "other", "summary": "words", "source": "words"}))
    for field, value in {
        "cls": "turbo8",
        "quantization": "binary",
        "oversampling": 3.0,
        "lexical": "english",
        "head": "folder",
    }.items():
        assert not recipe.same_as(recipe.model_copy(update={field: value}))


@pytest.mark.parametrize("data", ["", "{", "[]", "null", '{"layout": "dense"}'])
def test_json_that_is_no_recipe_is_refused(data: str) -> None:
    with pytest.raises(RecipeError, match="not a valid recipe"):
        load_recipe(data)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="'defualt' is not known") as error:
        get_recipe("defualt")
    for name in RECIPES:
        assert name in str(error.value)


SCHEMAS = {
    "dense": (CLS,),
    "colbert": (CLS, VectorSchema("tokens", 384, "float16", multivector=True)),
    "floats": (CLS, VectorSchema("tokens", 384, "float16", multivector=True)),
    "pooled": (CLS, VectorSchema("tokens", 128, "float16", multivector=True)),
    **dict.fromkeys(
        ("hybrid", "tiny", "default", "compact", "aligner"), (VectorSchema("cls", 384, "turbo4"),)
    ),
}


@every_recipe
def test_the_schema_of_a_recipe(recipe: Recipe) -> None:
    assert schema_for(recipe, 384, 384).vectors == SCHEMAS[recipe.name]


def test_the_widths_of_a_schema_are_those_of_the_encoder_and_the_codec() -> None:
    recipe = Recipe(name="mine", layout="multivector", codec="pca-64+float32")
    assert schema_for(recipe, 768, 128).vectors == (
        VectorSchema("cls", 768, "float32"),
        VectorSchema("tokens", 64, "float32", multivector=True),
    )
    assert schema_for(recipe, 768, 48).vectors[1].size == 48


@pytest.mark.parametrize("datatype", ["turbo8", "turbo4"])
def test_tokens_and_cls_may_be_of_qdrants_own_types(datatype: Any) -> None:
    recipe = Recipe(name="mine", layout="multivector", codec=f"pca-64+{datatype}", cls=datatype)
    assert schema_for(recipe, 768, 128) == CollectionSchema(
        (VectorSchema("cls", 768, datatype), VectorSchema("tokens", 64, datatype, multivector=True))
    )


@pytest.mark.parametrize(
    ("layout", "codec"), [("dense", None), ("codes", "int8"), ("multivector", "float32")]
)
def test_an_index_of_words_is_a_sparse_vector(layout: Any, codec: str | None) -> None:
    fields: dict[str, Any] = {"name": "mine", "layout": layout, "codec": codec}
    assert schema_for(Recipe(**fields), 384, 384).sparse == ()
    assert schema_for(Recipe(**fields, lexical="german"), 384, 384).sparse == ("lexical",)


@pytest.mark.parametrize(
    ("datatype", "size", "expected"),
    [
        ("float32", 384, 1536),
        ("float16", 384, 768),
        ("float16", 1, 2),
        ("turbo8", 384, 388),
        ("turbo4", 384, 196),
    ],
)
def test_bytes_of_a_row(datatype: Any, size: int, expected: int) -> None:
    assert stored_bytes(datatype, size) == expected


def test_a_recipe_takes_the_head_that_comes_for_the_model(encoder: Encoder) -> None:
    compact = RECIPES["compact"].for_model(encoder.fingerprint)
    assert (compact.head, compact.codec) == ("all-MiniLM-L6-v2", "linear-128+binary")
    other = RECIPES["compact"].for_model("0" * 16)
    assert (other.head, other.codec) == (None, "pca-128+binary")
    varied = RECIPES["compact"].varied(codec="opq-48").for_model(encoder.fingerprint)
    assert (varied.head, varied.codec) == (None, "opq-48")
    with pytest.raises(RecipeError, match="connector train saliency"):
        RECIPES["aligner"].for_model("0" * 16)
    mine = RECIPES["compact"].varied(head="folder")
    assert mine.for_model(encoder.fingerprint) is mine


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"codec": "linear-16+binary"}, "takes its layer from a head"),
        ({"codec": "pca-16+binary", "head": "folder"}, "only codecs with linear-D and saliency"),
        ({"codec": "pca-16+binary", "alignment": "best"}, "alignment 'best'"),
        ({"codec": "turbo4", "layout": "multivector", "saliency": True}, "loses the vectors' lengths"),
        ({"codec": None, "layout": "dense", "alignment": "top-1"}, "nothing for alignment top-1"),
        ({"codec": None, "layout": "dense", "saliency": True}, "nothing for saliency True"),
    ],
)
def test_heads_and_alignments_that_do_not_fit_are_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**{"name": "mine", "layout": "codes", **parts})
