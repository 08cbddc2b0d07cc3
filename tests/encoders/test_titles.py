"""A title takes its share of the window, and what it leaves bounds the number of chunks."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import Encoder
from connector.core.errors import InputError
from connector.core.types import passage_text
from connector.encoders.chunking import Chunking, whole_spans
from connector.encoders.titles import title_in_front, titled_spans

WINDOW = 254
QUARTER = 63

KNOWN = ["river", "otter", "bread", "moon", "table", "lake", "music", "engine"]
ODD = [
    "unhappylysss",
    "東京",
    "eﬃcient",
    "co\u00adoperate",
    "\u200b",
    "\x07",
    "🦦",
    "n\u0303",
    "x" * 150,
    "!?",
]
SPACE = st.sampled_from([" ", "  ", "\n\n", "\t", "\u2028", "\u3000", "\x1c"])


def texts(most: int) -> st.SearchStrategy[str]:
    """Words of one token and odd ones, with any white space around."""
    word = st.sampled_from(KNOWN * 4 + ODD) | st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4
    )
    pairs = st.lists(st.tuples(word, SPACE), min_size=1, max_size=most)
    return pairs.map(lambda some: "".join(itertools.chain(*some))).filter(str.strip)


def words(number: int) -> str:
    return " ".join(itertools.islice(itertools.cycle(KNOWN), number))


def tokens_of(encoder: Encoder, text: str) -> int:
    return len(encoder.split(text, 1, 0))


@st.composite
def chunkings(draw: st.DrawFn) -> Chunking:
    tokens = draw(st.sampled_from([3, 10, 60, 200, WINDOW]) | st.integers(1, WINDOW))
    return Chunking(tokens, draw(st.integers(0, tokens - 1)))


@given(texts(120), st.integers(0, 400), texts(6), chunkings())
@settings(max_examples=150, deadline=None)
def test_passages_are_bounded_and_hold_every_character_whatever_the_title(
    encoder: Encoder, text: str, length: int, odd: str, chunking: Chunking
) -> None:
    title = f"{odd} {words(length)}"
    kept = title_in_front(encoder, title, text, chunking)
    assert kept is not None
    assert title.startswith(kept)
    spans = titled_spans(encoder, kept, text, chunking)
    most, total, taken = chunking.tokens or 0, tokens_of(encoder, text), tokens_of(encoder, kept)
    if kept != title:
        assert taken <= QUARTER
    apart = min(most - chunking.overlap, WINDOW - taken)
    assert len(spans) <= math.ceil(total / apart) + 1
    covered = {at for start, end in spans for at in range(start, end)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)
    assert all(text[start:end].strip() for start, end in spans)


@given(st.integers(1, 300), st.integers(0, 299), st.integers(1, 300))
def test_chunks_in_less_room_begin_as_far_apart_and_share_half_at_most(
    tokens: int, overlap: int, room: int
) -> None:
    given = Chunking(tokens, min(overlap, tokens - 1))
    made = given.within(room)
    assert made.tokens is not None
    assert made.tokens == min(tokens, room)
    assert made.tokens - made.overlap >= min(tokens - given.overlap, room)
    assert made == given or made.overlap <= room // 2
    assert given.within(tokens) == given


@pytest.mark.parametrize(
    ("title", "tokens", "overlap", "text", "most"),
    [
        (150, 200, 100, 800, 8),
        (180, WINDOW, 64, 950, 6),
        (WINDOW, WINDOW, 64, 700, 5),
        (900, 200, 100, 800, 8),
    ],
)
def test_a_long_title_makes_no_more_passages_than_none(
    encoder: Encoder, title: int, tokens: int, overlap: int, text: int, most: int
) -> None:
    """These were 175, 89, 700 and 800 passages of at most 700 tokens."""
    chunking = Chunking(tokens, overlap)
    kept = title_in_front(encoder, words(title), words(text), chunking)
    spans = titled_spans(encoder, kept, words(text), chunking)
    assert kept == words(QUARTER)
    assert len(spans) <= most
    passages = [passage_text(kept, words(text)[start:end]) for start, end in spans]
    assert all(it.truncated == 0 for it in encoder.encode_documents(passages))


def test_a_title_that_fits_beside_its_text_or_chunk_is_whole(encoder: Encoder) -> None:
    long = words(150)
    assert title_in_front(encoder, None, "bread") is None
    assert title_in_front(encoder, long, words(WINDOW - 150)) == long
    assert title_in_front(encoder, long, words(WINDOW - 149)) == words(QUARTER)
    assert title_in_front(encoder, long, words(900), Chunking(WINDOW - 150)) == long
    assert title_in_front(encoder, long, words(900), Chunking(WINDOW - 149)) == words(QUARTER)
    assert title_in_front(encoder, words(QUARTER), words(900)) == words(QUARTER)


def test_chunks_larger_than_the_window_are_refused_with_a_title_too(encoder: Encoder) -> None:
    for title in (None, "Otters"):
        with pytest.raises(InputError, match=r"255 tokens do not fit .* at most 254"):
            titled_spans(encoder, title, words(300), Chunking(255))


def test_characters_without_a_token_go_to_the_chunk_before() -> None:
    text = " \x07a b\x07  c\n"
    assert whole_spans(text, [(2, 3), (4, 5), (8, 9)]) == [(0, 3), (4, 6), (8, 9)]
    assert whole_spans(text, [(2, 5), (5, 8), (8, 9)]) == [(0, 5), (5, 8), (8, 9)]
    assert whole_spans(text, [(2, 3), (3, 4), (4, 9)]) == [(0, 3), (4, 9)], "one of white space is left out"
    assert whole_spans(text, [(2, 9)]) == [(0, len(text))]
