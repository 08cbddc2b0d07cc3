"""Every kind of source gives the same documents, and names what it cannot read."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path

import pytest

from connector import Document
from connector.core.errors import DocumentError, SourceError
from connector.core.sources import Source

EXPECTED = [
    Document(id="a", text="Otters, and rivers.", title="One", metadata={"year": 2001}),
    Document(id="b", text='Bees "dance".\nThen fly.', title=None, metadata={"year": 2002}),
]


def write_jsonl(path: Path) -> None:
    rows = [{"_id": d.id, "text": d.text, "title": d.title, **d.metadata} for d in EXPECTED]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def test_json_lines(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "x.jsonl")
    assert list(Source(tmp_path / "x.jsonl")) == EXPECTED


def test_beir_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "corpus.jsonl")
    assert list(Source(tmp_path)) == EXPECTED


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "body", "year"])
        writer.writerows([d.id, d.title or "", d.text, d.metadata["year"]] for d in EXPECTED)
    got = list(Source(path))
    assert [(d.id, d.text, d.title) for d in got] == [(d.id, d.text, d.title) for d in EXPECTED]
    assert [d.metadata for d in got] == [{"year": "2001"}, {"year": "2002"}]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    day = datetime.datetime(2020, 1, 2, 3, 4, 5)
    table = pa.table({"id": [1, 2], "text": ["one", "two"], "when": [day, None]})
    parquet.write_table(table, tmp_path / "x.parquet")
    got = list(Source(tmp_path / "x.parquet"))
    assert [(d.id, d.text, d.metadata["when"]) for d in got] == [
        ("1", "one", "2020-01-02T03:04:05"),
        ("2", "two", None),
    ]
    (tmp_path / "y.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"y\.parquet"):
        list(Source(tmp_path / "y.parquet"))


def test_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.MD").write_text("# Bees", encoding="utf-8")
    (tmp_path / "a.txt").write_text("Otters", encoding="utf-8")
    (tmp_path / "c.pdf").write_bytes(b"%PDF")
    assert [(d.id, d.text) for d in Source(tmp_path)] == [("a.txt", "Otters"), ("deep/b.MD", "# Bees")]
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(DocumentError, match=r"a\.txt"):
        list(Source(tmp_path))
    source = Source(tmp_path, skip_bad=True)
    assert [d.id for d in source] == ["deep/b.MD"]
    assert len(source.bad) == 1
    assert [d.id for d in source] == ["deep/b.MD"]
    assert len(source.bad) == 1, "a second reading starts again"


def test_named_fields_and_missing_ids(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"words": "one", "key": 7}\n{"words": "two"}\n', encoding="utf-8")
    got = list(Source(path, text_field="words"))
    assert [(d.id, d.text, d.metadata) for d in got] == [
        ("x.jsonl line 2", "one", {"key": 7}),
        ("x.jsonl line 3", "two", {}),
    ]
    assert next(iter(Source(path, text_field="words", id_field="key"))).id == "7"
    with pytest.raises(DocumentError, match=r"x\.jsonl line 2: no text; its fields are 'words', 'key'"):
        list(Source(path))


def test_metadata_is_merged_and_a_title_stands_in_for_an_empty_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a", "text": "", "title": "T", "x": 1, "metadata": {"y": {"z": [2]}}}\n')
    assert list(Source(path)) == [Document(id="a", text="T", metadata={"x": 1, "y": {"z": [2]}})]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", b"{}", "no known kind"),
        ("x.tar.gz", b"", "unpack it"),
        ("x.csv", b"id,text\na,b,c\n", "more fields than the header"),
        ("y.csv", b"id,text\na,\xff\n", "surrogate"),
    ],
)
def test_unreadable(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((SourceError, DocumentError), match=words):
        list(Source(tmp_path / name))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \.txt or \.md"):
        list(Source(tmp_path))


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,text\na," + "word " * 50_000 + "\n", encoding="utf-8")
    assert len(next(iter(Source(tmp_path / "x.csv"))).text) == 250_000


def test_a_named_field_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": "a", "text": "x"}', encoding="utf-8")
    with pytest.raises(DocumentError, match="no field 'nope'; its fields are 'id', 'text'"):
        list(Source(tmp_path / "x.jsonl", id_field="nope"))


@pytest.mark.parametrize(
    ("content", "words"),
    [('id,text\na,"unclosed\nb,c\n', "not CSV"), ("id,text,text\na,b,c\n", "'text' twice")],
)
def test_csv_loses_nothing_silently(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x.csv").write_text(content, encoding="utf-8")
    with pytest.raises((SourceError, DocumentError), match=words):
        list(Source(tmp_path / "x.csv"))


def test_csv_line_numbers_count_the_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text\none\n\ntwo\n", encoding="utf-8")
    assert [document.id for document in Source(tmp_path / "x.csv")] == ["x.csv line 2", "x.csv line 4"]
