"""Fixed dimensional encodings: their inner products, and candidates found by them on every engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from connector import Connector, Document, Encoder, Recipe
from connector.core.errors import MissingExtra, RecipeError
from connector.core.types import Float32
from connector.scoring.muvera import Muvera
from tests.conftest import INDEXES

ENCODED = Recipe(name="encoded", layout="codes", codec="pca-64+binary", fde="muvera")
QUERY = "the garbage collector of a compiler frees memory of the program"


def unit(rng: np.random.Generator, n: int, width: int = 64) -> Float32:
    rows = rng.normal(size=(n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("width", "size"), [(64, 5120), (16, 5120), (8, 2560)])
def test_an_encoding_has_its_size_whatever_the_tokens(
    width: int, size: int, rng: np.random.Generator
) -> None:
    muvera = Muvera(width)
    assert Muvera.size(width) == size
    for count in (1, 2, 50):
        for encoded in (
            muvera.passage(unit(rng, count, width)),
            muvera.query(unit(rng, count, width)),
        ):
            assert encoded.shape == (size,)
            assert encoded.dtype == np.float32
            assert np.isfinite(encoded).all()


def test_an_encoding_is_the_same_wherever_it_is_made(rng: np.random.Generator) -> None:
    rows = unit(rng, 9)
    assert np.array_equal(Muvera(64).passage(rows), Muvera(64).passage(rows))


def test_of_one_token_each_it_estimates_their_inner_product(rng: np.random.Generator) -> None:
    """A passage's one token fills every partition, so each of 20 repetitions estimates the product."""
    muvera = Muvera(64)
    for cosine in (1.0, 0.7, 0.0, -0.7):
        first, second = unit(rng, 2)
        across = second - (second @ first) * first
        other = cosine * first + np.sqrt(1 - cosine**2) * across / np.linalg.norm(across)
        estimate = muvera.query(first[None]) @ muvera.passage(other[None].astype(np.float32)) / 20
        assert estimate == pytest.approx(cosine, abs=0.25)


def test_a_query_counts_as_long_as_it_weighs(rng: np.random.Generator) -> None:
    muvera, rows = Muvera(64), unit(rng, 5)
    assert np.allclose(muvera.query(3 * rows), 3 * muvera.query(rows), atol=1e-4)


def test_the_passage_that_the_query_is_from_is_estimated_best(rng: np.random.Generator) -> None:
    muvera = Muvera(64)
    passages = [unit(rng, 30) for _ in range(20)]
    encoded = np.stack([muvera.passage(passage) for passage in passages])
    best = [int((encoded @ muvera.query(passage[:6])).argmax()) for passage in passages]
    assert best == list(range(20))


def test_without_the_package_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: Encoder
) -> None:
    monkeypatch.setitem(sys.modules, "fastembed.postprocess", None)
    with pytest.raises(MissingExtra, match=r"fastembed is not installed.*\[muvera\]"):
        Connector.create("docs", path=tmp_path, recipe=ENCODED, model=encoder)
    monkeypatch.undo()
    Connector.create("docs", path=tmp_path, recipe=ENCODED, model=encoder).close()


def test_candidates_come_by_encodings(
    place: dict[str, Any], name: str, encoder: Encoder, documents: list[Document]
) -> None:
    with Connector.create(name, **place, recipe=ENCODED, model=encoder, indexes=INDEXES) as connector:
        report = connector.ingest(documents)
        assert report.bytes_per_passage["fde"] == 5120 / 2 + 4
        found = connector.search(QUERY, 12, candidates_by="muvera", rerank=None)
        assert found[0].id == "doc 8"
        assert {hit.id for hit in found} == {document.id for document in documents}
        assert all({name: it.value for name, it in hit.parts.items()} == {"fde": hit.score} for hit in found)
        reranked = connector.search(QUERY, 12, candidates_by="muvera")
        assert [(hit.id, hit.parts) for hit in reranked] == [
            (hit.id, hit.parts) for hit in connector.search(QUERY, 12)
        ]
        even = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
        hits = connector.search(QUERY, 12, candidates_by="muvera", filter=even)
        assert len(hits) == 6
        assert all(hit.metadata["even"] for hit in hits)
        connector.drop()


def test_a_collection_without_encodings_is_refused(
    tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    with Connector.create("docs", path=tmp_path, recipe="compact", model=encoder) as connector:
        connector.ingest(documents[:2])
        with pytest.raises(RecipeError, match=r"recipe compact stores no encoding.*--fde muvera"):
            connector.search(QUERY, candidates_by="muvera")
