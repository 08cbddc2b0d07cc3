"""Texts that no collection holds: scored as a collection would score them, and by MaxSim done slowly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector import Connector, Document, Encoder, Reranker
from connector.collection.recipe import RECIPES
from connector.core.errors import InputError, RecipeError
from tests.conftest import TEXTS

QUERY = "How do bees tell each other where flowers are?"


@pytest.mark.parametrize("recipe", ["floats", "pooled", "compact", "aligner", "compact:exact", "colbert"])
def test_scores_are_those_of_a_collection(
    recipe: str, tmp_path: Path, encoder: Encoder, documents: list[Document]
) -> None:
    base, _, varied = recipe.partition(":")
    chosen = RECIPES[base].varied(codec="binary", reduction="ward-2") if varied else RECIPES[base]
    with Connector.create("docs", path=tmp_path, recipe=chosen, model=encoder) as connector:
        connector.ingest(documents)
        hits = connector.search(QUERY, k=len(documents), rerank="client", feedback="none")
    expected = {hit.id: hit.score for hit in hits}
    scores = Reranker(encoder, chosen).scores(QUERY, TEXTS)
    assert scores.dtype == np.float32
    assert dict(zip((it.id for it in documents), scores.tolist(), strict=True)) == pytest.approx(
        expected, abs=2e-2 if chosen.layout == "multivector" else 1e-4
    )
    assert int(scores.argmax()) == 7


def test_without_a_fusion_it_is_maxsim_over_all_tokens(encoder: Encoder) -> None:
    query = encoder.encode_queries([QUERY])[0].tokens
    slow = [
        sum(max(float(asked @ found) for found in passage.tokens) for asked in query)
        for passage in encoder.encode_documents(TEXTS)
    ]
    assert Reranker(encoder, "floats").scores(QUERY, TEXTS) == pytest.approx(slow, abs=1e-2)


def test_texts_that_hold_nothing_score_nothing(encoder: Encoder) -> None:
    reranker = Reranker(encoder)
    assert reranker.recipe.name == "colbert"
    assert reranker.scores(QUERY, []).shape == (0,)
    assert reranker.scores(QUERY, ["", " \n"]).tolist() == [-1, -1]
    assert reranker.scores(QUERY, ["", TEXTS[7], " "]).tolist() == [-1, 0, -1]  # one alone is scaled to 0
    both = reranker.scores(QUERY, [TEXTS[7], TEXTS[3]])
    bad = reranker.scores(QUERY, [f"\0{TEXTS[7]}\0", "\0", f"{TEXTS[3]} \udc80"])
    assert bad[0] == pytest.approx(both[0], abs=1e-2)
    assert bad[1] == -1
    assert Reranker(encoder, "floats").scores(QUERY, ["", TEXTS[7]])[0] == 0


def test_few_texts_are_told_apart(encoder: Encoder) -> None:
    """Two texts have no mean but that of their topics."""
    texts = [TEXTS[0], TEXTS[7]]
    assert Reranker(encoder).scores("Who dances?", texts).argmax() == 1
    assert Reranker(encoder).scores("Who sleeps in the river?", texts).argmax() == 0


def test_recipes_that_learn_and_wrong_texts_are_refused(encoder: Encoder) -> None:
    learning = RECIPES["compact"].varied(codec="pca-64+binary")
    with pytest.raises(RecipeError, match="learns from the passages"):
        Reranker(encoder, learning)
    with pytest.raises(RecipeError, match="learns from the passages"):
        Reranker(encoder, RECIPES["compact"].varied(reduction="idf-50%"))
    with pytest.raises(RecipeError, match="stores no tokens"):
        Reranker(encoder, "dense")
    with pytest.raises(InputError, match="query is ' '"):
        Reranker(encoder).scores(" ", TEXTS)
    with pytest.raises(InputError, match="list of texts"):
        Reranker(encoder).scores("otters", TEXTS[0])
    for wrong in (None, iter(TEXTS), ["fine", 3]):
        given: Any = wrong
        with pytest.raises(InputError, match="list of texts"):
            Reranker(encoder).scores("otters", given)


@pytest.mark.parametrize("recipe", ["compact", "aligner", "colbert", "default"])
def test_a_batch_ranks_as_one_call_after_another(recipe: str, encoder: Encoder) -> None:
    reranker = Reranker(encoder, RECIPES[recipe].varied(codec="int8") if recipe == "default" else recipe)
    queries = [QUERY, "what makes bread rise", "stone"]
    texts = [TEXTS[:8], [*TEXTS[4:], " ", TEXTS[4]], []]
    found = reranker.rank_batch(queries, texts, top_k=5)
    for query, own, ranked in zip(queries, texts, found, strict=True):
        alone = reranker.rank(query, own, top_k=5)
        assert [it["corpus_id"] for it in ranked] == [it["corpus_id"] for it in alone]
        assert [it["score"] for it in ranked] == pytest.approx([it["score"] for it in alone], abs=1e-4)
    assert reranker.rank_batch([], []) == []


def test_what_is_no_batch_is_refused(encoder: Encoder) -> None:
    reranker = Reranker(encoder)
    with pytest.raises(InputError, match="1 lists of texts for 2 queries"):
        reranker.rank_batch(["a", "b"], [["text"]])
    with pytest.raises(InputError, match="give a list of queries"):
        reranker.rank_batch("a", [["text"]])
    with pytest.raises(InputError, match="give a list of texts"):
        reranker.rank_batch(["a"], ["text"])
    with pytest.raises(InputError, match="query is ' '"):
        reranker.rank_batch([" "], [["text"]])
