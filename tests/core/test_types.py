"""Documents and embeddings are whole once they are made; what is not is refused by name."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.core.errors import ConnectorError, DocumentError, InputError
from connector.core.io import to_json
from connector.core.types import Document, Embedding, Hit, Hits, passage_text, point_id

BAD_DOCUMENTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"id": ""}, ["id", "''", "non-empty"]),
    ({"id": 7}, ["id", "7", "string"]),
    ({"id": None}, ["id", "None", "string"]),
    ({"id": "a\0b"}, ["id", "NUL", "position 1", "remove"]),
    ({"id": "ab\ud800"}, ["id", "surrogate", "position 2", "decode"]),
    ({"text": ""}, ["'x'", "text", "empty", "leave the document out"]),
    ({"text": " \t\n\u00a0"}, ["'x'", "text", "empty"]),
    ({"text": None}, ["'x'", "text", "NoneType", "give its text"]),
    ({"text": b"bytes"}, ["'x'", "text", "bytes", "give its text"]),
    ({"text": "river\0otter"}, ["'x'", "text", "NUL", "position 5", "remove"]),
    ({"text": "otter \udcff"}, ["'x'", "text", "surrogate", "position 6", "decode"]),
    ({"title": 3}, ["'x'", "title", "3", "string or None"]),
    ({"title": "\0"}, ["'x'", "title", "NUL", "remove"]),
    ({"title": "\ud83d"}, ["'x'", "title", "surrogate", "decode"]),
    ({"metadata": [1]}, ["'x'", "metadata", "list", "mapping"]),
    ({"metadata": {"a": math.nan}}, ["'x'", "metadata.a", "nan", "null or a string"]),
    ({"metadata": {"a": [0.0, -math.inf]}}, ["metadata.a[1]", "-inf", "null or a string"]),
    ({"metadata": {"a": {"b": 2**63}}}, ["metadata.a.b", str(2**63), "64 bits", "as a string"]),
    ({"metadata": {"a": -(2**63) - 1}}, ["metadata.a", str(-(2**63) - 1), "as a string"]),
    ({"metadata": {1: "a"}}, ["metadata", "1", "keys must be strings"]),
    ({"metadata": {"a": {None: 1}}}, ["metadata.a", "None", "keys must be strings"]),
    ({"metadata": {"k\0": 1}}, ["metadata: key", "NUL", "remove"]),
    ({"metadata": {"\udc80": 1}}, ["metadata: key", "surrogate", "decode"]),
    ({"metadata": {"a": ["b", "c\0"]}}, ["metadata.a[1]", "NUL", "remove"]),
    ({"metadata": {"a": {1, 2}}}, ["metadata.a", "set", "convert"]),
    ({"metadata": {"a": np.float32("nan")}}, ["metadata.a", "nan", "null or a string"]),
    ({"metadata": {"a": Decimal("NaN")}}, ["metadata.a", "nan", "null or a string"]),
    ({"metadata": {"a": np.uint64(2**63)}}, ["metadata.a", str(2**63), "as a string"]),
    ({"metadata": {"a": np.zeros(2)}}, ["metadata.a", "ndarray", "convert"]),
    ({"metadata": {"a": b"b"}}, ["metadata.a", "bytes", "convert"]),
]


def document(**fields: Any) -> Document:
    return Document(**{"id": "x", "text": "otters swim", **fields})


def embedding(n: int = 3, width: int = 4, **fields: Any) -> Embedding:
    starts = np.arange(n, dtype=np.int32) * 2
    whole: dict[str, Any] = {
        "cls": np.eye(width, dtype=np.float32)[0],
        "tokens": np.eye(max(n, width), width, dtype=np.float32)[:n],
        "token_ids": np.arange(100, 100 + n, dtype=np.int32),
        "offsets": np.stack([starts, starts + 1], axis=1),
        "word_ids": np.arange(n, dtype=np.int32),
    }
    return Embedding(**{**whole, **fields})


@pytest.mark.parametrize(("fields", "words"), BAD_DOCUMENTS, ids=lambda value: ascii(value)[:40])
def test_a_bad_document_is_refused_by_name_and_remedy(fields: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DocumentError) as error:
        document(**fields)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("bad_id", ["corpus/17\0", "corpus/17\ud800"])
def test_a_bad_character_in_an_id_is_refused_with_the_id(bad_id: str) -> None:
    with pytest.raises(DocumentError, match="corpus/17"):
        document(id=bad_id)


def test_messages_can_be_printed_even_when_the_value_cannot() -> None:
    with pytest.raises(DocumentError) as error:
        document(text="\ud800")
    str(error.value).encode("utf-8")


def test_document_errors_are_input_errors_and_value_errors() -> None:
    assert issubclass(DocumentError, InputError)
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, ConnectorError)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"a": None, "b": True, "c": 1.5, "d": "é 東京 😀", "e": [], "f": {}},
        {"low": -(2**63), "high": 2**63 - 1},
        {"": "an empty key"},
        {"deep": [[{"a": [1, {"b": []}]}]]},
    ],
)
def test_any_json_is_taken_as_metadata(metadata: dict[str, Any]) -> None:
    assert document(metadata=metadata).metadata == metadata


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime.datetime(2024, 5, 6, 7, 8, 9), "2024-05-06T07:08:09"),
        (datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC), "2024-05-06T07:08:09Z"),
        (datetime.date(2024, 5, 6), "2024-05-06"),
        (datetime.time(7, 8), "07:08:00"),
        (np.datetime64("2024-05-06T07:08:09.123456789"), "2024-05-06T07:08:09.123456"),
        (np.datetime64("2024-05-06"), "2024-05-06T00:00:00"),
        (np.datetime64("NaT"), None),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("2"), 2),
        (Decimal("1.5"), 1.5),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("é"), "é"),
        ((1, 2), [1, 2]),
    ],
)
def test_metadata_is_stored_as_qdrant_takes_it(value: Any, stored: Any) -> None:
    kept = document(metadata={"a": [{"b": value}]}).metadata
    assert kept == {"a": [{"b": stored}]}
    assert type(kept["a"][0]["b"]) is type(stored)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3))
@settings(max_examples=50, deadline=None)
def test_metadata_is_either_kept_by_json_or_refused(metadata: dict[str, Any]) -> None:
    try:
        document(metadata=metadata)
    except DocumentError:
        return
    assert json.loads(to_json(metadata).encode("utf-8")) == metadata


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip))
@settings(max_examples=50, deadline=None)
def test_any_other_text_is_an_id_a_text_and_a_title(text: str) -> None:
    made = document(id=text, text=text, title=text)
    assert (made.id, made.text, made.title) == (text, text, text)


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        document().text = "other"


def test_the_title_stands_before_the_text() -> None:
    assert passage_text("Otters", "swim") == "Otters swim"
    assert passage_text(None, "swim") == passage_text("", "swim") == passage_text("  ", "swim") == "swim"


def test_point_ids_are_stable_uuids_that_differ() -> None:
    assert point_id("doc", 0) == "55d950df-af74-5b46-8a84-c0a7d5662e22"
    ids = {point_id(name, passage) for name in ("doc", "doc\x01", "doc1", "") for passage in (0, 1, 10)}
    assert len(ids) == 12
    assert {uuid.UUID(point).version for point in ids} == {5}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cls": np.ones((1, 4), np.float32)}, ["cls", "(1, 4)", "one-dimensional"]),
        ({"cls": np.array([1, np.nan, 0, 0], np.float32)}, ["cls", "not finite", "weights"]),
        ({"tokens": np.ones(4, np.float32)}, ["tokens", "(4,)", "at least one row"]),
        ({"tokens": np.empty((0, 4), np.float32)}, ["tokens", "(0, 4)", "at least one row"]),
        ({"tokens": np.ones((1, 3, 4), np.float32)}, ["tokens", "(1, 3, 4)"]),
        ({"token_ids": np.zeros(2, np.int32)}, ["token_ids", "(2,)", "3 tokens", "must be (3,)"]),
        ({"offsets": np.zeros((3, 3), np.int32)}, ["offsets", "(3, 3)", "must be (3, 2)"]),
        ({"offsets": np.zeros(3, np.int32)}, ["offsets", "(3,)", "must be (3, 2)"]),
        ({"word_ids": np.zeros((3, 1), np.int32)}, ["word_ids", "(3, 1)", "must be (3,)"]),
    ],
)
def test_a_bad_embedding_is_refused_by_name(fields: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        embedding(**fields)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 2])
def test_the_first_row_that_is_not_finite_is_named(row: int, value: float) -> None:
    tokens = np.eye(4, dtype=np.float32)[:3]
    tokens[row:, 1] = value
    with pytest.raises(InputError, match=rf"token vector {row} is not finite"):
        embedding(tokens=tokens)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=10))
@settings(max_examples=50, deadline=None)
def test_select_keeps_the_fields_of_a_row_together(rows: list[int]) -> None:
    whole = embedding(7, truncated=2)
    part = whole.select(np.array(rows))
    assert len(part) == len(rows)
    for place, row in enumerate(rows):
        for field in ("tokens", "token_ids", "offsets", "word_ids"):
            assert np.array_equal(getattr(part, field)[place], getattr(whole, field)[row])
    assert np.array_equal(part.cls, whole.cls)
    assert part.truncated == whole.truncated


def test_select_with_other_vectors_keeps_the_rest() -> None:
    vectors = np.full((2, 4), 0.5, np.float32)
    part = embedding().select(np.array([2, 0]), vectors)
    assert np.array_equal(part.tokens, vectors)
    assert part.token_ids.tolist() == [102, 100]


def test_select_refuses_no_rows_and_vectors_of_another_number() -> None:
    with pytest.raises(InputError, match="at least one row"):
        embedding().select(np.array([], np.intp))
    with pytest.raises(InputError, match="token_ids"):
        embedding().select(np.array([0, 1]), np.ones((3, 4), np.float32))


def test_hits_are_a_list_with_times() -> None:
    hit = Hit(id="x", score=1.0, text="t", title=None, metadata={}, passage=0, parts={"cls": 1.0})
    hits = Hits([hit], {"total": 1.5})
    assert list(hits) == [hit]
    assert hits.ms["total"] == 1.5


def test_json_is_canonical() -> None:
    assert to_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'
    with pytest.raises(ValueError, match="JSON"):
        to_json(math.nan)


def test_metadata_too_deep_for_the_engines_log_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(130):
        deep = {"a": deep}
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for metadata in (deep, {"x": cyclic}):
        with pytest.raises(DocumentError, match="deeper than 64 levels; flatten"):
            Document(id="a", text="b", metadata=metadata)
