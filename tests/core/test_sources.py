"""Every kind of source gives the same documents, and names what it cannot read."""

from __future__ import annotations

import csv
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


def written(folder: Path, *names: str) -> Path:
    """A folder with a text in each of these files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"Text of {name}.")
    return folder


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    folder = written(tmp_path / "docs", "real/a.md", "real/deep/b.md", "z.txt")
    written(tmp_path / "outside", "c.md", "more/d.txt")
    (folder / "0 first").symlink_to(folder / "real")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "linked again").symlink_to(tmp_path / "outside")
    (folder / "real" / "into").symlink_to(tmp_path / "outside" / "more")
    assert [it.id for it in Source(folder)] == [
        "linked/c.md",
        "linked/more/d.txt",
        "real/a.md",
        "real/deep/b.md",
        "z.txt",
    ]


def test_loops_of_links_end(tmp_path: Path) -> None:
    folder = written(tmp_path / "docs", "a/b/x.md")
    (folder / "a" / "b" / "up").symlink_to(folder / "a")
    (folder / "a" / "root").symlink_to(folder)
    (tmp_path / "beside").mkdir()
    (folder / "beside").symlink_to(tmp_path / "beside")
    (tmp_path / "beside" / "back").symlink_to(folder)
    assert [it.id for it in Source(folder)] == ["a/b/x.md"]


@pytest.mark.parametrize("link", ["gone.md", "folder of old", "v1.2", "corpus.jsonl", "self"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, link: str) -> None:
    written(tmp_path, "a.md")
    (tmp_path / link).symlink_to(tmp_path / link if link == "self" else tmp_path / "not there")
    with pytest.raises(DocumentError, match=rf"{link} cannot be read \("):
        list(Source(tmp_path))
    source = Source(tmp_path, skip_bad=True)
    assert [it.id for it in source] == ["a.md"]
    assert len(source.bad) == 1


AS_NOBODY = """
import json, os, sys
from connector.core.errors import ConnectorError
from connector.core.sources import Source
"".encode("utf-8-sig")  # which a user without rights may not be able to import
if os.geteuid() == 0:  # whom no permissions bind
    try:
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
    except OSError:
        sys.exit(77)
source, found = Source(sys.argv[1], skip_bad=True), []
try:
    found = [it.id for it in source]
except ConnectorError as error:
    source.bad.append(f"{type(error).__name__}: {error}")
print(json.dumps([found, source.bad]))
"""


def read_as_nobody(folder: Path) -> tuple[list[str], list[str]]:
    """The ids that a user without rights finds in a folder, and what is bad."""
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(folder)], stdout=subprocess.PIPE, check=False)
    if done.returncode == 77:
        pytest.skip("this process may not become a user without rights")
    found, bad = json.loads(done.stdout)
    return found, bad


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that another user may read, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("mode", [0o700, 0o701, 0o704])
def test_a_folder_that_may_not_be_read_is_named(reachable: Path, mode: int) -> None:
    folder = written(reachable, "a.md", "secret/b.md", "secret/deep/c.txt", "z.md")
    (folder / "secret" / "link").symlink_to(folder)
    (folder / "secret").chmod(mode)
    try:
        found, bad = read_as_nobody(folder)
    finally:
        (folder / "secret").chmod(0o755)
    assert found == ["a.md", "z.md"]
    assert bad
    assert all(it.startswith("secret") and "(Permission denied)" in it for it in bad)


def test_a_file_that_may_not_be_read_is_named(reachable: Path) -> None:
    folder = written(reachable, "a.md", "secret.md")
    (folder / "secret.md").chmod(0)
    found, bad = read_as_nobody(folder)
    assert found == ["a.md"]
    assert bad == [
        "secret.md cannot be read (Permission denied); allow it, move it away, or pass over it (--skip-bad)"
    ]


def test_a_source_that_may_not_be_read_has_no_documents(reachable: Path) -> None:
    folder = written(reachable / "docs", "a.md")
    folder.chmod(0o100)
    try:
        found, bad = read_as_nobody(folder)
    finally:
        folder.chmod(0o755)
    assert not found
    assert [it.partition(":")[0] for it in bad] == ["SourceError"]
