"""What a collection says of itself: typed here, flat and all text where it is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector import RECIPES, Connector, Document, Encoder
from connector.collection.collection import Collection
from connector.collection.metadata import CollectionMetadata, new_metadata, stored_form
from connector.collection.recipe import recipe as recipe_module
from connector.core.errors import CollectionError
from connector.scoring.alignment import TopK, TopP
from connector.stores.schema import Distribution, Hnsw

FILLED: dict[str, Any] = {
    "codec": "c0dec",
    "cls_weight": 0.1 + 0.2,
    "alignment": TopP(1.5),
    "adapted_weight": 0.25,
    "frequencies": 7,
    "hnsw": Hnsw(m=8),
    "copies": Distribution.model_validate({"shard_number": 3}),
    "indexes": {"metadata.year": "integer", "metadata.name": "keyword"},
    "canaries": 2,
    "route": "stored",
    "attaching": True,
    "migration": "0002",
    "migration.count": "3",
}


def metadata(encoder: Encoder, **more: Any) -> CollectionMetadata:
    return new_metadata(RECIPES["compact"], encoder, **more)


def test_every_value_comes_back_as_it_was(encoder: Encoder) -> None:
    whole = metadata(encoder).model_copy(update=FILLED)
    assert CollectionMetadata.read("c", whole.stored()) == whole


def test_the_stored_form_by_hand() -> None:
    assert stored_form(**FILLED) == {
        "codec": "c0dec",
        "cls_weight": "0.30000000000000004",
        "alignment": "top-1.5%",
        "adapted_weight": "0.25",
        "frequencies": "7",
        "hnsw": '{"m":8,"ef_construct":100}',
        "copies": '{"shards":3,"replicas":null,"acknowledged":null,"on_disk":null,"on_disk_payload":null}',
        "indexes": '{"metadata.name": "keyword", "metadata.year": "integer"}',
        "canaries": "2",
        "route": "stored",
        "attaching": "1",
        "migration": "0002",
        "migration.count": "3",
    }
    assert stored_form(alignment=None, attaching=False) == {"alignment": "", "attaching": ""}


def test_an_empty_text_says_nothing(encoder: Encoder) -> None:
    new = metadata(encoder)
    told = {**new.stored(), "alignment": "", "filling": "", "hnsw": "", "migration": ""}
    assert CollectionMetadata.read("c", told) == new
    assert "alignment" not in new.stored()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "2"}, "'c' has format 2, this version reads 3"),
        ({"uid": ""}, "lacks uid; restore an export"),
        ({"cls_width": "wide"}, "unusable cls_width; restore an export"),
        ({"hnsw": "{"}, "unusable hnsw; restore an export"),
        ({"route": "round"}, "unusable route; restore an export"),
    ],
)
def test_damage_is_named(encoder: Encoder, change: dict[str, str], said: str) -> None:
    with pytest.raises(CollectionError, match=said):
        CollectionMetadata.read("c", metadata(encoder).stored() | change)


def test_what_is_written_is_known_here_and_to_who_opens_it_next(tmp_path: Path, encoder: Encoder) -> None:
    with Connector.create("c", path=tmp_path, recipe="compact", model=encoder) as connector:
        collection = connector.collection
        collection.write_metadata(alignment=TopK(2), indexes={"metadata.n": "integer"})
        assert collection.strategy.alignment == TopK(2)
        again = Collection(collection.store, "c")
        assert again.metadata == collection.metadata == collection.read_metadata()
        collection.write_metadata(alignment=None)
        assert collection.strategy.alignment is None
        assert again.current() is not again


def test_recipe_strings_are_parsed_once_for_all_queries(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES["compact"].model_copy(update={"alignment": "top-2"})
    parsed: list[str] = []
    parse = recipe_module.parse_alignment
    monkeypatch.setattr(recipe_module, "parse_alignment", lambda it: parsed.append(str(it)) or parse(it))
    with Connector.create("c", path=tmp_path, recipe=recipe, model=encoder) as connector:
        connector.ingest([Document(id="1", text="An otter sleeps.")])
        parsed.clear()  # it was checked when the recipe was read
        for query in ("otter", "sleep", "river"):
            assert connector.search(query)
    assert parsed == ["top-2"]
