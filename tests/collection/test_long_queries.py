"""Queries longer than the model's window: counted, said once, and encoded at the end that is asked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import Connector, Document, Encoder
from connector.cli import main
from connector.core.errors import InputError
from connector.encoders.long_queries import encode_queries
from tests.conftest import TEXTS

CHAT = "We spoke of the weather and what was for lunch. " * 60
QUESTION = "How do bees share where the flowers are?"
LONG = CHAT + QUESTION


@pytest.fixture
def connector(encoder: Encoder, tmp_path: Path) -> Iterator[Connector]:
    with Connector.create("docs", path=tmp_path / "qdrant", model=encoder) as made:
        made.ingest(Document(str(number), text) for number, text in enumerate(TEXTS))
        yield made


def lost(encoder: Encoder, text: str) -> int:
    """Tokens beyond the 254 that a window of 256 holds beside [CLS] and [SEP]."""
    return max(len(encoder.split(text, 1, 0)) - 254, 0)


def test_tokens_beyond_the_window_are_counted(connector: Connector, encoder: Encoder) -> None:
    assert connector.search(QUESTION).truncated == 0
    assert connector.search(LONG).truncated == lost(encoder, LONG) > 400
    found = connector.search_batch([QUESTION, LONG, CHAT])
    assert [hits.truncated for hits in found] == [0, lost(encoder, LONG), lost(encoder, CHAT)]


def test_it_is_said_once(connector: Connector, caplog: pytest.LogCaptureFixture) -> None:
    connector.search(QUESTION)
    connector.search(LONG, long_query="end")
    assert "window" not in caplog.text
    connector.search(LONG)
    connector.search(LONG)
    list(connector.search_batch([LONG, CHAT]))
    assert caplog.text.count("a query is longer than the model's window") == 1
    assert "give long_query" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_the_end_of_a_chat_is_the_question(connector: Connector) -> None:
    at_start, at_end = connector.search(LONG), connector.search(LONG, long_query="end")
    place = [hit.id for hit in at_end].index("7")
    assert place == 0
    assert at_end[0].parts["tokens"].score > next(it for it in at_start if it.id == "7").parts["tokens"].score
    assert at_end.truncated == at_start.truncated
    assert at_end[0].parts["bm25"].score == pytest.approx(  # words are searched in all of the text
        next(it for it in at_start if it.id == "7").parts["bm25"].score, rel=1e-6
    )
    short = connector.search(QUESTION)
    assert connector.search(QUESTION, long_query="end") == short
    assert next(iter(connector.search_batch([LONG], long_query="end"))) == at_end


def test_explanations_are_of_what_was_searched(connector: Connector) -> None:
    hits = connector.search(LONG, long_query="end")
    explanation = connector.explain(LONG, hits[0], long_query="end")
    assert explanation.query == LONG
    words = {pair.query.text for pair in explanation.pairs if pair.kind == "tokens"}
    assert {"bees", "flowers"} <= words
    for pair in explanation.pairs:
        assert LONG[pair.query.start : pair.query.end] in ("", pair.query.text)
    assert sum(pair.part for pair in explanation.pairs) == pytest.approx(hits[0].score, abs=1e-4)


def test_other_ends_are_refused(connector: Connector) -> None:
    with pytest.raises(InputError, match="long_query"):
        connector.search(LONG, long_query="middle")  # type: ignore[arg-type]


def test_commands_count_and_choose(connector: Connector, encoder: Encoder, tmp_path: Path) -> None:
    connector.close()
    where = ["--collection", "docs", "--path", str(tmp_path / "qdrant"), "--json"]
    done = CliRunner().invoke(main, ["search", LONG, *where])
    assert json.loads(done.stdout)["truncated"] == lost(encoder, LONG)
    assert "--long-query end" in done.stderr
    done = CliRunner().invoke(main, ["search", LONG, *where, "--long-query", "end"])
    assert json.loads(done.stdout)["hits"][0]["id"] == "7"
    assert not done.stderr
    assert "truncated" not in json.loads(CliRunner().invoke(main, ["search", QUESTION, *where]).stdout)


PIECES = st.sampled_from(
    ["bees ", "dance", " ", "\n", "東京", "naïve", "—", "😀", "antidisestablishment", "x1, "]
)


@given(st.lists(PIECES, min_size=1, max_size=900).map("".join).filter(str.strip))
@settings(max_examples=25, deadline=None)
def test_the_end_of_any_text_fills_the_window(encoder: Encoder, text: str) -> None:
    (whole,), (end,) = encoder.encode_queries([text]), encode_queries(encoder, [text], at_end=True)
    assert (end.text, end.truncated) == (text, whole.truncated)
    if not whole.truncated:
        assert np.array_equal(end.tokens, whole.tokens)
        return
    own = end.offsets[end.word_ids >= 0]
    assert len(text[own[-1, 1] :].strip()) == 0  # nothing is cut off behind
    assert 220 <= len(end) <= len(whole)  # a word's characters at most are given up
    pieces = [text[start:stop] for start, stop in own.tolist()]
    assert all(piece.strip() for piece in pieces)
