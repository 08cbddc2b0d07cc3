"""BM25: its weights by hand, its languages, and texts without words."""

from __future__ import annotations

import numpy as np
import pytest

from connector.core.errors import RecipeError
from connector.scoring.bm25 import BM25


def weight(frequency: int, words: int, average: float = 256) -> float:
    """f · (k + 1) / (f + k · (1 − b + b · n / n̄)) for k = 1.2, b = 0.75 and an average n̄."""
    return frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * words / average))


def weights_of(text: str, language: str = "english") -> dict[int, float]:
    vector = BM25(language).passage(text)
    assert vector.indices.dtype == np.uint32
    assert vector.values.dtype == np.float32
    assert len(vector) == len(vector.indices) == len(vector.values) == len(set(vector.indices.tolist()))
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


def number(word: str, language: str = "english") -> int:
    (found,) = BM25(language).query(word).indices.tolist()
    return int(found)


def test_a_passage_by_hand() -> None:
    """Six words that are no stop words, of them cats and CAT alike."""
    found = weights_of("The cats sat; a CAT is running, 42 sitting.")
    expected = {"cat": 2, "sat": 1, "run": 1, "42": 1, "sit": 1}
    assert found == pytest.approx({number(it): weight(times, 6) for it, times in expected.items()}, rel=1e-6)


@pytest.mark.parametrize(("times", "others"), [(1, 0), (2, 0), (5, 20), (1, 400), (100, 300)])
def test_the_weight_of_a_word_follows_the_formula(times: int, others: int) -> None:
    text = " ".join(["otter"] * times + [f"w{other}" for other in range(others)])
    found = weights_of(text)
    assert len(found) == 1 + others
    assert found[number("otter")] == pytest.approx(weight(times, times + others), rel=1e-5)


def test_a_passage_of_average_length_by_hand() -> None:
    """Three words, of them two alike: 2 · 2.2 / (2 + 1.2) and 1 · 2.2 / (1 + 1.2)."""
    vector = BM25("english", 3.0).passage("The otter, an otter sleeps.")
    found = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    assert found == pytest.approx({number("otter"): 1.375, number("sleep"): 1.0}, rel=1e-6)


@pytest.mark.parametrize("average", [0.5, 6.0, 72.25, 256.0, 4000.0])
def test_a_word_weighs_less_the_longer_its_passage_is_than_the_average(average: float) -> None:
    model = BM25("english", average)
    assert model.passage("otters").values.tolist() == pytest.approx([weight(1, 1, average)], rel=1e-5)
    assert model.passage("otters " * 9).values.tolist() == pytest.approx([weight(9, 9, average)], rel=1e-5)
    assert model.query("otters otters").values.tolist() == [2]


def test_words_are_counted_as_they_are_weighed() -> None:
    """Repeated ones, too, and without stop words."""
    model = BM25("english")
    assert model.mean_length(["The cats sat; a CAT is running, 42 sitting."]) == 6
    assert model.mean_length(["otters", "", "the of", "an otter and two otters sleep"]) == 5 / 4
    assert model.mean_length(["otter " * 30_000 + "river " * 7]) == 30_007
    assert model.mean_length(["the of", "?!"]) == model.mean_length([]) == 0


def test_a_query_counts_its_words() -> None:
    query = BM25("english").query("Where does the otter, the river otter, sleep? Otters sleep.")
    counts = dict(zip(query.indices.tolist(), query.values.tolist(), strict=True))
    assert counts == {number("otter"): 3, number("river"): 1, number("sleep"): 2}
    assert (query.indices.dtype.name, query.values.dtype.name) == ("uint32", "float32")


def test_words_of_queries_and_passages_are_the_same() -> None:
    model = BM25("english")
    text = "Volcanic ash from the eruption grounded aeroplanes."
    assert sorted(model.query(text).indices.tolist()) == sorted(model.passage(text).indices.tolist())


@pytest.mark.parametrize("text", ["", "   ", "the of and", "?! …"])
def test_texts_without_words_are_empty(text: str) -> None:
    for vector in (BM25("english").passage(text), BM25("english").query(text)):
        assert len(vector) == 0
        assert (vector.indices.dtype.name, vector.values.dtype.name) == ("uint32", "float32")


@pytest.mark.parametrize(("language", "code"), [("english", "en"), ("german", "de"), ("french", "fr")])
def test_a_language_has_two_names(language: str, code: str) -> None:
    text = "running Häuser chevaux der the les"
    assert weights_of(text, language) == weights_of(text, code)


def test_each_language_has_its_own_stems_and_stop_words() -> None:
    assert number("Häuser", "german") == number("Haus", "german")
    assert len(BM25("german").passage("der die das")) == 0
    assert len(BM25("english").passage("der die das")) > 0


@pytest.mark.parametrize("language", ["klingon", "", "none", "English", "en-US"])
def test_an_unknown_language_is_refused(language: str) -> None:
    with pytest.raises(RecipeError, match=r"lexical: .*give one such as english, german or french") as error:
        BM25(language)
    assert f'"{language}"' in str(error.value)
