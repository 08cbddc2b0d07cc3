"""Reduction: the laws that every step keeps, and each step on one short passage worked out by hand."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from connector import Embedding, Encoder
from connector.compression.heads import head_folder
from connector.compression.reduction import (
    PASSAGE_METHODS,
    QUERY_METHODS,
    Budget,
    Frequencies,
    QueryWeights,
    Setting,
    own_rows,
    parse_query_reduction,
    parse_reduction,
    query_weights,
    reduce,
)
from connector.compression.reduction.base import TokenPooling, assign
from connector.compression.reduction.pruning import removal_errors, voronoi
from connector.compression.reduction.words import LANGUAGES, fold
from connector.compression.saliency import Saliency
from connector.core.errors import InputError, RecipeError
from connector.core.types import ROW_FIELDS, Float32
from tests.conftest import TEXTS

WORDS = ["The", "otter", "holds", "hands", "with", "its", "mate", ",", "ashore", "!"]

PASSAGE_STEPS = [
    "first-3",
    "first-25%",
    "idf-3",
    "idf-50%",
    "attention-3",
    "attention-25%",
    "saliency-3",
    "saliency-25%",
    "stopwords-en",
    "punctuation",
    "special",
    "contextual-stopwords",
    "whole-words",
    "ward-3",
    "ward-to-4",
    "kmeans-3",
    "kmeans-to-25%",
    "sequential-3",
    "sequential-to-1",
    "voronoi-3",
    "voronoi-25%",
]
"""Every method but unused-K, which refuses a passage that has no such tokens."""

CHAINS = ["punctuation+ward-2", "whole-words+contextual-stopwords", "stopwords-en+idf-50%+kmeans-to-2"]

QUERY_STEPS = ["icf-2", "icf-50%", "saliency-3", "saliency-50%"]


def passage(n: int, width: int, seed: int, special: bool = True) -> Embedding:
    """A random passage of n rows: words of one or two pieces, some of them twice, between [CLS] and [SEP]."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(n, width))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    words = np.sort(rng.integers(0, max(n, 1), size=n)).astype(np.int32)
    if special:
        words[[0, -1]] = -1
    kinds = rng.integers(0, len(WORDS), size=n + 1)
    text, offsets = "", np.zeros((n, 2), np.int32)
    for word in np.unique(words[words >= 0]):
        rows = np.flatnonzero(words == word)
        surface = WORDS[kinds[word]]
        bounds = np.linspace(0, len(surface), len(rows) + 1).astype(int) + len(text)
        offsets[rows] = np.stack([bounds[:-1], bounds[1:]], axis=1)
        text += surface + " "
    return Embedding(
        cls=tokens[0].astype(np.float32),
        tokens=tokens.astype(np.float32),
        token_ids=np.where(words < 0, 101, 1000 + kinds[words]).astype(np.int32),
        offsets=offsets,
        word_ids=words,
        text=text or "!",
        attention=rng.random(n).astype(np.float32),
        saliency=np.maximum(rng.normal(size=n), 0).astype(np.float32),
    )


def counted(*passages: Embedding) -> Setting:
    frequencies = Frequencies()
    frequencies.add(passages or [passage(20, 4, 0)])
    return Setting(bytes_per_token=8, frequencies=frequencies)


passages = st.builds(
    passage, st.integers(1, 40), st.integers(2, 8), st.integers(0, 2**32), special=st.booleans()
)
each_step = pytest.mark.parametrize("spec", PASSAGE_STEPS)


def test_every_method_is_tried() -> None:
    tried = {
        method.name for method in PASSAGE_METHODS for spec in PASSAGE_STEPS if spec.startswith(method.name)
    }
    assert tried == {method.name for method in PASSAGE_METHODS} - {"unused"}
    assert all(any(spec.startswith(method.name) for spec in QUERY_STEPS) for method in QUERY_METHODS)


def test_the_page_of_reductions_names_every_step_and_language() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reductions.md").read_text(encoding="utf-8")
    for method in (*PASSAGE_METHODS, *QUERY_METHODS):
        assert f"`{method.form}`" in text
    assert f"Languages: {', '.join(LANGUAGES)}." in text


def test_every_named_list_of_stop_words_is_there() -> None:
    for language in LANGUAGES:
        parse_reduction(f"stopwords-{language}")


# Laws


@each_step
@given(whole=passages)
@settings(max_examples=30, deadline=None)
def test_a_step_keeps_rows_in_order_with_all_that_belongs_to_them(spec: str, whole: Embedding) -> None:
    (step,) = parse_reduction(spec, counted(whole)).steps
    labels = assign(whole, step)
    reduced = reduce(whole, step)
    assert 1 <= len(reduced) <= len(whole)
    assert list(dict.fromkeys(labels[labels >= 0].tolist())) == list(range(len(reduced)))
    first = [labels.tolist().index(label) for label in range(len(reduced))]
    assert first == sorted(first)
    for field in ("token_ids", "offsets", "word_ids"):
        assert np.array_equal(getattr(reduced, field), getattr(whole, field)[first])
    assert np.array_equal(reduced.cls, whole.cls)
    assert reduced.text == whole.text
    if isinstance(step, TokenPooling):
        assert (labels >= 0).all()
    else:
        assert len(set(labels[labels >= 0].tolist())) == np.sum(labels >= 0)
        assert np.array_equal(reduced.tokens, whole.tokens[first])
        assert reduced.attention is not None
        assert whole.attention is not None
        assert np.array_equal(reduced.attention, whole.attention[first])


@pytest.mark.parametrize("spec", [*PASSAGE_STEPS, *CHAINS])
@given(whole=passages)
@settings(max_examples=20, deadline=None)
def test_what_is_left_are_unit_vectors_and_never_none(spec: str, whole: Embedding) -> None:
    reduced = parse_reduction(spec, counted(whole))(whole)
    assert len(reduced) >= 1
    assert np.allclose(np.linalg.norm(reduced.tokens, axis=1), 1, atol=1e-5)
    for field in ROW_FIELDS:
        assert len(getattr(reduced, field)) == len(reduced)


@pytest.mark.parametrize("spec", [*PASSAGE_STEPS, *CHAINS])
def test_a_passage_of_one_token_stays(spec: str) -> None:
    for special in (True, False):
        whole = passage(1, 4, 0, special)
        assert np.array_equal(parse_reduction(spec, counted(whole))(whole).tokens, whole.tokens)


@pytest.mark.parametrize("spec", [*PASSAGE_STEPS, *CHAINS])
def test_a_passage_of_8192_tokens_is_reduced(spec: str) -> None:
    whole = passage(8192, 8, 0)
    assert 1 <= len(parse_reduction(spec, counted(whole))(whole)) <= 8192


@pytest.mark.parametrize("spec", ["stopwords-en", "punctuation", "contextual-stopwords"])
def test_a_passage_of_which_nothing_is_wanted_keeps_its_first_row(spec: str) -> None:
    rows = np.arange(3)
    whole = Embedding(
        cls=np.ones(2, np.float32),
        tokens=np.eye(3, dtype=np.float32),
        token_ids=rows.astype(np.int32),
        offsets=np.array([[0, 1], [1, 2], [2, 3]], np.int32),
        word_ids=rows.astype(np.int32),
        text="aai" if spec == "stopwords-en" else "?.!",
        saliency=np.zeros(3, np.float32),
    )
    assert np.array_equal(parse_reduction(spec)(whole).tokens, whole.tokens[:1])


@pytest.mark.parametrize(
    "spec", [*[it for it in PASSAGE_STEPS if "contextual" not in it], CHAINS[0], CHAINS[2]]
)
def test_batch_and_padding_change_nothing(spec: str, encoder: Encoder) -> None:
    alone = [encoder.encode_documents([text], attention=True)[0] for text in TEXTS[:4]]
    batched = encoder.encode_documents([*TEXTS[:4], " ".join(TEXTS)], attention=True)[:4]
    weigh = Saliency(head_folder("all-MiniLM-L6-v2"))
    alone, batched = weigh(alone, "document"), weigh(batched, "document")
    reduction = parse_reduction(spec, counted(*alone))
    for left, right in zip(alone, batched, strict=True):
        assert np.array_equal(reduction(left).token_ids, reduction(right).token_ids)
        assert np.allclose(reduction(left).tokens, reduction(right).tokens, atol=1e-4)


# One short passage by hand

ROOT = math.sqrt(0.5)
SHORT = Embedding(
    cls=np.array([1, 0], np.float32),
    #        [CLS]  the  un##  ##tied  boat  ,  untied again  [SEP]
    tokens=np.array(
        [[1, 0], [0, 1], [1, 0], [0, 1], [0.6, 0.8], [0, -1], [1, 0], [0, 1], [-1, 0]], np.float32
    ),
    token_ids=np.array([101, 5, 7, 8, 9, 6, 7, 8, 102], np.int32),
    offsets=np.array(
        [[0, 0], [0, 3], [4, 6], [6, 10], [11, 15], [15, 16], [17, 19], [19, 23], [0, 0]], np.int32
    ),
    word_ids=np.array([-1, 0, 1, 1, 2, 3, 4, 4, -1], np.int32),
    text="The untied boat, untied",
    attention=np.array([9, 2, 5, 1, 7, 3, 5, 1, 8], np.float32),
    saliency=np.array([1, 0, 0.5, 0, 2, 0, 0, 0, 0], np.float32),
)


def counts(passages: int, **document: int) -> Frequencies:
    """Of so many passages, with the document frequency of each id; each token occurs twice where it does."""
    df = np.zeros(200, np.int64)
    for name, count in document.items():
        df[int(name.removeprefix("t"))] = count
    return Frequencies(passages, df, 2 * df)


# the: in all 10 passages; the comma in 9; "un" in 4, "tied" in 2, boat in 3
TEN = counts(10, t101=10, t102=10, t5=10, t6=9, t7=4, t8=2, t9=3)


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        ("first-4", [0, 1, 2, 3]),
        ("first-50%", [0, 1, 2, 3]),  # ⌊0.5 · 9⌋ = 4
        ("first-24B", [0, 1, 2]),  # of 8 bytes a token
        ("first-31B", [0, 1, 2]),
        ("first-100", list(range(9))),
        ("first-1%", [0]),
        ("idf-1", [3]),  # "tied": first of two with df 2
        ("idf-3", [3, 4, 7]),
        ("idf-7", [1, 2, 3, 4, 5, 6, 7]),
        ("idf-8", [0, 1, 2, 3, 4, 5, 6, 7]),  # special tokens last, the earlier first
        ("attention-1", [0]),
        ("attention-4", [0, 2, 4, 8]),  # 9, 8, 7, and the first of two 5
        ("stopwords-en", [0, 2, 3, 4, 5, 6, 7, 8]),
        ("punctuation", [0, 1, 2, 3, 4, 6, 7, 8]),
        ("contextual-stopwords", [0, 2, 4]),
        ("punctuation+first-6", [0, 1, 2, 3, 4, 6]),
    ],
)
def test_pruning_by_hand(spec: str, rows: list[int]) -> None:
    reduced = parse_reduction(spec, Setting(8, TEN))(SHORT)
    assert reduced.token_ids.tolist() == SHORT.token_ids[rows].tolist()
    assert np.array_equal(reduced.tokens, SHORT.tokens[rows])
    assert reduced.offsets.tolist() == SHORT.offsets[rows].tolist()


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("whole-words", [0, 1, 2, 2, 3, 4, 2, 2, 5]),
        ("sequential-4", [0, 1, 1, 1, 1, 2, 2, 2, 2]),
        ("sequential-to-5", [0, 1, 1, 2, 2, 3, 3, 4, 4]),
        ("sequential-to-24B", [0, 1, 1, 1, 1, 2, 2, 2, 2]),
        ("sequential-to-1", [0] * 9),
        # 0° (two rows), 90° (three), 53°, 270°, 180°: equal ones are merged first, and then there are five
        ("ward-to-6", [0, 1, 2, 1, 3, 4, 2, 1, 5]),
        # runs of two have centroids at 45°, 72°, 315° and 135°; 0° and 53° join the first, now at 17°,
        # nearer to 53° than the second at 90°
        ("kmeans-to-5", [0, 1, 2, 1, 2, 3, 2, 1, 4]),
    ],
)
def test_pooling_by_hand(spec: str, labels: list[int]) -> None:
    (step,) = parse_reduction(spec, Setting(8)).steps
    assert assign(SHORT, step).tolist() == labels


def test_whole_words_by_hand() -> None:
    """ "untied" stands twice: the mean of its four pieces, two at 0° and two at 90°."""
    reduced = parse_reduction("whole-words")(SHORT)
    assert np.allclose(reduced.tokens, [[1, 0], [0, 1], [ROOT, ROOT], [0.6, 0.8], [0, -1], [-1, 0]])
    assert reduced.token_ids.tolist() == [101, 5, 7, 9, 6, 102]
    assert reduced.attention is not None
    assert reduced.saliency is not None
    assert reduced.attention.tolist() == [9, 2, 12, 7, 3, 8]  # 5 + 1 + 5 + 1
    assert reduced.saliency.tolist() == [1, 0, 0.5, 2, 0, 0]


def test_equal_words_are_one_word_whatever_stands_between() -> None:
    """But "un" alone is another word than "untied"."""
    whole = SHORT.select(np.array([0, 2, 4, 6, 7]))
    (step,) = parse_reduction("whole-words").steps
    assert assign(whole, step).tolist() == [0, 1, 2, 3, 3]


def test_voronoi_by_hand() -> None:
    """Queries at 0°, 80°, 90°, 100° and 180°; tokens at 0°, 60° and 90°.

    0° is best served by token 0 (1 against cos 60° = 0.5), 80° by the one at 90° (cos 10° against cos 20°),
    90° and 100° too (1 against cos 30°; cos 10° against cos 40°), 180° by the one at 90° (0 against −0.5).
    """
    at = np.deg2rad
    scores = np.cos(at([[0], [80], [90], [100], [180]]) - at([[0, 60, 90]])).astype(np.float32)
    kept = scores.copy()
    cos = np.cos(at([10, 20, 30, 40]))
    third = (cos[0] - cos[1]) + (1 - cos[2]) + (cos[0] - cos[3]) + 0.5
    assert np.allclose(removal_errors(scores), [0.5, 0, third], atol=1e-6)
    assert np.array_equal(scores, kept)


def slow_voronoi(whole: Embedding, wanted: int, queries: Float32) -> list[int]:
    """By the definition: the mean change of MaxSim when a token is missing, for each token by itself."""
    left = list(range(len(whole)))
    while len(left) > wanted:
        errors = []
        for token in left:
            others = [it for it in left if it != token]
            before = (queries @ whole.tokens[left].T).max(axis=1)
            errors.append(float((before - (queries @ whole.tokens[others].T).max(axis=1)).sum()))
        dropped = max(min(int(0.1 * len(left)), len(left) - wanted), 1)
        for place in sorted(np.argsort(np.array(errors, np.float32), kind="stable")[:dropped], reverse=True):
            del left[place]
    return left


@given(n=st.integers(2, 30), width=st.integers(3, 8), seed=st.integers(0, 2**32), wanted=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_voronoi_equals_the_slow_one(n: int, width: int, seed: int, wanted: int) -> None:
    from connector.compression.reduction.pruning import _queries

    whole = passage(n, width, seed)
    kept = voronoi(whole, Budget(Fraction(wanted))).tolist()
    slow = slow_voronoi(whole, wanted, _queries(width))
    assert len(kept) == len(slow) == min(n, wanted)
    # Errors that are equal but for rounding may change places; what is kept must be as good.
    queries = _queries(width)
    fast_score, slow_score = ((queries @ whole.tokens[rows].T).max(axis=1).sum() for rows in (kept, slow))
    assert kept == slow or fast_score == pytest.approx(slow_score, rel=1e-3)


def test_voronoi_drops_the_copy_of_a_token_first() -> None:
    whole = passage(6, 8, 3)
    twin = whole.select(np.array([0, 1, 2, 3, 4, 5, 2]))
    kept = parse_reduction("voronoi-6")(twin).tokens
    assert len(np.unique(kept, axis=0)) == 6


def test_unused_tokens_are_those_right_before_the_passage() -> None:
    whole = SHORT.select(np.array([0, 8, 0, 8, 1, 2, 3]))
    assert parse_reduction("unused-3")(whole).token_ids.tolist() == [102, 101, 102]
    only = whole.select(np.arange(1, 4))
    assert parse_reduction("unused-3")(only).token_ids.tolist() == [102, 101, 102]
    with pytest.raises(InputError, match=r"4 special tokens.*not \[CLS\] and 4 \[unusedN\]"):
        parse_reduction("unused-4")(whole)


# Frequencies


def slow_frequencies(texts: list[list[int]]) -> tuple[dict[int, int], dict[int, int]]:
    document: dict[int, int] = {}
    collection: dict[int, int] = {}
    for text in texts:
        for token in set(text):
            document[token] = document.get(token, 0) + 1
        for token in text:
            collection[token] = collection.get(token, 0) + 1
    return document, collection


def of_ids(ids: list[int]) -> Embedding:
    n = len(ids)
    return Embedding(
        np.ones(2, np.float32),
        np.ones((n, 2), np.float32),
        np.array(ids, np.int32),
        np.zeros((n, 2), np.int32),
        np.arange(n, dtype=np.int32),
    )


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_frequencies_equal_the_slow_count_however_they_are_added(texts: list[list[int]]) -> None:
    document, collection = slow_frequencies(texts)
    together, apart = Frequencies(), Frequencies()
    together.add([of_ids(text) for text in texts])
    for text in texts:
        apart.add([of_ids(text)])
    for frequencies in (together, apart, Frequencies().load(together.save())):
        assert frequencies.passages == len(texts)
        assert {i: n for i, n in enumerate(frequencies.document.tolist()) if n} == document
        assert {i: n for i, n in enumerate(frequencies.collection.tolist()) if n} == collection


def test_idf_and_icf_by_hand() -> None:
    frequencies = Frequencies()
    frequencies.add([of_ids([1, 2, 2]), of_ids([1, 3]), of_ids([1])])
    ids = np.array([1, 2, 9], np.int32)
    # df 3, 1, 0 of 3 passages; cf 3, 2, 0 of 6 tokens
    assert np.allclose(frequencies.idf(ids), np.log([1 + 0.5 / 3.5, 1 + 2.5 / 1.5, 1 + 3.5 / 0.5]))
    assert np.allclose(frequencies.icf(ids), np.log([7 / 4, 7 / 3, 7 / 1]))


def test_frequencies_that_were_never_counted_are_said_to_be_missing() -> None:
    for reduce_it in (
        parse_reduction("idf-2"),
        parse_query_reduction("icf-2"),
    ):
        with pytest.raises(InputError, match="no token frequencies"):
            reduce_it(SHORT)


@pytest.mark.parametrize("data", [b"", b"{}", Frequencies().save()[:-1], b"x" * 100])
def test_damaged_frequencies_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not saved token frequencies"):
        Frequencies().load(data)


def test_frequencies_are_read_whole_while_they_are_added_to() -> None:
    """A reader never sees a token in more passages than were counted: idf would be negative."""
    frequencies = Frequencies()
    frequencies.add([of_ids([1, 2])])
    least: list[float] = []
    ids = np.array([1, 2], np.int32)

    def read() -> None:
        while len(least) < 5_000:
            least.append(float(frequencies.idf(ids).min()))

    reader = threading.Thread(target=read)
    reader.start()
    while reader.is_alive():
        frequencies.add([of_ids([1, 2])] * 8)
    reader.join()
    assert min(least) >= 0


# Queries


@pytest.mark.parametrize(("spec", "rows"), [("icf-1", [3]), ("icf-3", [3, 4, 7]), ("icf-8", [*range(8)])])
def test_icf_by_hand(spec: str, rows: list[int]) -> None:
    reduced = parse_query_reduction(spec, Setting(frequencies=TEN))(SHORT)
    assert reduced.token_ids.tolist() == SHORT.token_ids[rows].tolist()


@pytest.mark.parametrize(("name", "power"), [("idf", 1.0), ("sqrt-idf", 0.5)])
def test_idf_weights_by_hand(name: QueryWeights, power: float) -> None:
    """idf of df 10, 4, 2, 3, 9, 4, 2 of 10; special tokens weigh 1, the words' mean is 1."""
    weights = query_weights(SHORT, name, TEN)
    idf = np.array([math.log(1 + (10 - df + 0.5) / (df + 0.5)) for df in (10, 4, 2, 3, 9, 4, 2)]) ** power
    assert weights is not None
    assert weights.dtype == np.float32
    assert np.allclose(weights, [1, *(idf / idf.mean()), 1])


def test_own_rows_by_hand() -> None:
    own = own_rows(SHORT)
    assert own.token_ids.tolist() == SHORT.token_ids[1:-1].tolist()
    assert own_rows(own) is own
    special = SHORT.select(np.array([0, len(SHORT) - 1]))
    assert own_rows(special) is special, "a query of nothing else asks with what there is"


@given(whole=passages, name=st.sampled_from(["idf", "sqrt-idf"]))
@settings(max_examples=30, deadline=None)
def test_weights_are_positive_with_mean_one(whole: Embedding, name: QueryWeights) -> None:
    weights = query_weights(whole, name, counted(whole, passage(9, 4, 1)).frequencies)
    if whole.special.all():
        assert weights is None
        return
    assert weights is not None
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1, rel=1e-4)


@given(whole=passages, seed=st.integers(0, 2**32), scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_the_scale_of_weights_changes_no_order(whole: Embedding, seed: int, scale: float) -> None:
    found = [passage(n, whole.tokens.shape[1], seed + n) for n in range(2, 12)]
    weights = query_weights(whole, "idf", counted(*found).frequencies)
    weights = np.ones(len(whole), np.float32) if weights is None else weights

    def scores(weights: np.ndarray) -> np.ndarray:
        best = [(whole.tokens.astype(float) @ it.tokens.T).max(axis=1) for it in found]
        return np.stack(best) @ weights

    assert np.allclose(scores(scale * weights.astype(float)), scale * scores(weights.astype(float)))


def test_all_weigh_alike_where_nothing_is_known() -> None:
    assert query_weights(SHORT, "1", TEN) is None
    assert query_weights(SHORT, "idf", Frequencies()) is None
    special = SHORT.select(np.array([0, len(SHORT) - 1]))
    assert query_weights(special, "idf", TEN) is None
    unknown = replace(SHORT, token_ids=np.full(len(SHORT), 10**6, np.int32))
    weights = query_weights(unknown, "idf", TEN)
    assert weights is not None
    assert np.allclose(weights, 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("icf-512B", "512B is a size in bytes, and queries are not stored"),
        ("ward-4", "'ward-4' is a step for passages"),
        ("idf-3", "'idf-3' is a step for passages"),
        ("idf-weight", "is not a size|is a step for passages"),
        ("nothing", "is not known; the known steps: icf-K, saliency-K"),
    ],
)
def test_what_is_no_step_for_queries_is_refused(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_query_reduction(spec)


# Words


@pytest.mark.parametrize(("word", "folded"), [("The", "the"), ("FÜR", "für"), ("fu\u0308r", "für")])
def test_words_are_compared_without_case_and_composed(word: str, folded: str) -> None:
    assert fold(word) == folded


@pytest.mark.parametrize(("language", "kept"), [("en", ["die"]), ("de", ["are"])])
def test_stop_words_are_those_of_the_language(language: str, kept: list[str]) -> None:
    text = "the die are für"
    spans = np.array([[0, 3], [4, 7], [8, 11], [12, 15]], np.int32)
    rows = np.arange(4, dtype=np.int32)
    whole = Embedding(np.ones(2, np.float32), np.eye(4, dtype=np.float32), rows, spans, rows, text=text)
    left = [text[start:end] for start, end in parse_reduction(f"stopwords-{language}")(whole).offsets]
    assert set(kept) <= set(left)
    assert ("die" in left) == (language == "en")


@pytest.mark.parametrize(("word", "stops"), [("über", True), ("Über", True), ("uber", False)])
def test_case_makes_no_other_word_and_accents_do(word: str, stops: bool) -> None:
    tokens = np.eye(2, dtype=np.float32)
    spans = np.array([[0, 4], [5, 8]], np.int32)
    rows = np.arange(2, dtype=np.int32)
    whole = Embedding(tokens[0], tokens, rows, spans, rows, text=f"{word} Hut")
    left = parse_reduction("stopwords-de")(whole).offsets.tolist()
    assert left == ([[5, 8]] if stops else [[0, 4], [5, 8]])


@pytest.mark.parametrize("spec", ["punctuation", "stopwords-en"])
def test_a_passage_without_a_word_stays(spec: str, encoder: Encoder) -> None:
    for text in ("", " "):
        (whole,) = encoder.encode_documents([text])
        assert len(parse_reduction(spec)(whole)) == len(whole) == 2


def test_a_mark_that_its_tokenizer_joins_to_a_word_goes_alone() -> None:
    tokens = np.eye(2, dtype=np.float32)
    words = np.zeros(2, np.int32)
    for text in ("otters,", "otters ,"):  # some tokenizers count the space before a mark to the mark
        spans = np.array([[0, 6], [6, len(text)]], np.int32)
        whole = Embedding(tokens[0], tokens, np.arange(2, dtype=np.int32), spans, words, text=text)
        assert parse_reduction("punctuation")(whole).offsets.tolist() == [[0, 6]]


@pytest.mark.parametrize("mark", [".", "—", "…", "$", "。", "»"])
def test_punctuation_is_of_every_script(mark: str) -> None:
    rows = np.arange(2, dtype=np.int32)
    spans = np.array([[0, 1], [2, 2 + len(mark)]], np.int32)
    tokens = np.eye(2, dtype=np.float32)
    whole = Embedding(tokens[0], tokens, rows, spans, rows, text=f"a {mark}")
    assert len(parse_reduction("punctuation")(whole)) == 1


def test_words_need_the_text() -> None:
    for spec in ("stopwords-en", "punctuation"):
        with pytest.raises(InputError, match="does not hold its text"):
            parse_reduction(spec)(of_ids([1, 2]))


@pytest.mark.parametrize(
    ("spec", "lack"),
    [("attention-2", "attention=True"), ("contextual-stopwords", "gate"), ("saliency-2", "trained head")],
)
def test_what_an_embedding_lacks_is_said(spec: str, lack: str) -> None:
    with pytest.raises(InputError, match=lack):
        parse_reduction(spec)(of_ids([1, 2]))


# Specs and budgets


@pytest.mark.parametrize("spec", [*PASSAGE_STEPS, *CHAINS, "unused-4", "idf-512B", "first-12.5%"])
def test_a_reduction_is_parsed_from_its_spec(spec: str) -> None:
    assert parse_reduction(spec).spec == spec
    assert len(parse_reduction(spec).steps) == spec.count("+") + 1


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "first",
        "whole-words-3",
        "words",
        "ward",
        "Ward-4",
        "first-3+",
        "+first-3",
        "stopwords",
    ],
)
def test_an_unknown_step_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(RecipeError, match="is not known") as error:
        parse_reduction(spec)
    for method in PASSAGE_METHODS:
        assert method.form in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("first-", "'' is not a size"),
        ("first-0", "'0' is not a size; give a count"),
        ("first--2", "'-2' is not a size"),
        ("first-0.5", "'0.5' is not a size; .* a share"),
        ("first-²", "is not a size"),
        ("first-1e3", "is not a size"),
        ("first- 3", "is not a size"),
        ("idf-weight", "'weight' is not a size"),
        ("icf-3", "'icf-3' is a step for queries"),
        ("first-101%", "101% is more than all rows"),
        ("first-7B", "7B hold no token of 8 bytes"),
        ("ward-x", "is not a size; give a factor"),
        ("ward-1", "'1' is not a size; give a factor from 2"),
        ("ward-to-0", "is not a size"),
        ("ward-²", "is not a size"),
        ("unused-0", "is not a number; give one such as 16, at least 1"),
        ("unused-50%", "is not a number; give one such as 16"),
        ("stopwords-xx", "no stop words for language 'xx'; there are da, de, en"),
    ],
)
def test_a_step_with_an_unusable_size_is_refused(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        parse_reduction(spec, Setting(8))
    assert repr(spec) in str(error.value)


@given(percent=st.integers(1, 100), n=st.integers(1, 10_000))
def test_a_share_is_exact(percent: int, n: int) -> None:
    assert Budget.parse(f"{percent}%", Setting()).rows(n) == max(percent * n // 100, 1)


@given(size=st.integers(8, 10_000), n=st.integers(1, 2_000), each=st.integers(1, 8))
def test_a_budget_in_bytes_is_the_largest_that_fits(size: int, n: int, each: int) -> None:
    rows = Budget.parse(f"{size}B", Setting(each)).rows(n)
    assert rows * each <= size
    assert rows == n or (rows + 1) * each > size


def test_a_budget_in_bytes_needs_to_know_a_token() -> None:
    with pytest.raises(InputError, match="512B needs the bytes of a token"):
        parse_reduction("first-512B")(SHORT)


def test_random_queries_are_uniform_on_the_sphere() -> None:
    """Each coordinate has mean 0 and variance 1/w, within five standard errors."""
    from connector.compression.reduction.pruning import _queries

    queries = _queries(64)
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    assert abs(queries.mean()) < 5 / math.sqrt(queries.size * 64)
    assert norm.cdf(queries.flatten() * 8).std() == pytest.approx(math.sqrt(1 / 12), rel=0.02)
