"""Sources that are packed, piped in, or folders of Hugging Face datasets."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from connector import Document
from connector.core.errors import SourceError
from connector.core.sources import Source
from connector.core.sources.files import opened
from tests.core.test_sources import EXPECTED, write_jsonl

DATASETS = Path(__file__).parent / "datasets"
"""What `save_to_disk` of datasets 5.2.0 wrote of three records, in two shards, and of two splits of them."""

SAVED = [
    Document(id="a", text="Otters, and rivers.", title="One", metadata={"year": 2001}),
    Document(id="b", text="Bees dance.", metadata={"year": 2002}),
    Document(id="c", text="Ice melts.", metadata={"year": None}),
]

CSV = 'id\ttitle\ttext\tyear\na\tOne\tOtters, and rivers.\t2001\nb\t\t"Bees ""dance"".\nThen fly."\t2002\n'


@pytest.fixture(params=[".gz", ".zst"])
def packed(request: pytest.FixtureRequest) -> Callable[[Path, bytes], Path]:
    """What packs bytes into a file of this name and the ending."""
    if request.param == ".zst" and sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd", reason="packed by zstd; pip install '.[zstd]'")

    def pack(path: Path, data: bytes) -> Path:
        path = path.with_name(path.name + request.param)
        with opened(path, "wb") as file:
            file.write(data)
        return path

    return pack


Pack = Callable[[Path, bytes], Path]


def plain(tmp_path: Path) -> bytes:
    write_jsonl(tmp_path / "plain")
    return (tmp_path / "plain").read_bytes()


def test_packed_files_are_as_they_were_before(packed: Pack, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.jsonl", plain(tmp_path))
    assert path.read_bytes() != plain(tmp_path)
    assert list(Source(path)) == EXPECTED
    assert list(Source(packed(tmp_path / "X.NDJSON", plain(tmp_path)))) == EXPECTED
    tabbed = list(Source(packed(tmp_path / "x.tsv", CSV.encode())))
    assert [(it.id, it.title, it.text) for it in tabbed] == [(it.id, it.title, it.text) for it in EXPECTED]
    commas = packed(tmp_path / "x.csv", CSV.replace(", and", " and").replace("\t", ",").encode())
    assert next(iter(Source(commas))).text == "Otters and rivers."


def test_places_are_named_after_the_packed_file(packed: Pack, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.jsonl", b'{"text": "one"}\n')
    assert next(iter(Source(path))).id == f"{path.name} line 1"


def test_a_beir_folder_may_be_packed(packed: Pack, tmp_path: Path) -> None:
    packed(tmp_path / "corpus.jsonl", plain(tmp_path))
    assert list(Source(tmp_path)) == EXPECTED


def test_files_packed_in_parts_are_read_to_the_end(packed: Pack, tmp_path: Path) -> None:
    path = packed(tmp_path / "x.jsonl", plain(tmp_path) + b"\n")
    more = packed(tmp_path / "y.jsonl", b'{"id": "c", "text": "more"}\n')
    path.write_bytes(path.read_bytes() + more.read_bytes())
    assert [it.id for it in Source(path)] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_file_is_one_error(damage: str, packed: Pack, tmp_path: Path) -> None:
    data = "".join(f'{{"id": "{n}", "text": "Number {n * 7919}"}}\n' for n in range(5000)).encode()
    path = packed(tmp_path / "x.jsonl", data)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:-3],
            "flipped": whole[:middle]
            + bytes(it ^ 0xFF for it in whole[middle : middle + 8])
            + whole[middle + 8 :],
            "other": b"no packed file, though its name says so",
        }[damage]
    )
    with pytest.raises(SourceError, match=rf"x\.jsonl\{path.suffix} is damaged, no whole {path.suffix} file"):
        list(Source(path, skip_bad=True))  # what is flipped may be no JSON before it is no file


def test_what_holds_many_files_is_to_be_unpacked(tmp_path: Path) -> None:
    for name in ("x.tar.gz", "x.zip", "x.parquet.gz", "x.txt.gz"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(SourceError, match="unpack it first"):
            Source(tmp_path / name)


def test_a_folder_of_datasets_is_its_rows_in_order() -> None:
    pytest.importorskip("pyarrow")
    assert list(Source(DATASETS / "two")) == SAVED
    assert list(Source(DATASETS / "dict" / "train")) == SAVED


def test_of_several_splits_one_is_to_be_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(SourceError, match=r"2 splits; give the folder of one: .*dict/train, .*dict/test"):
        list(Source(DATASETS / "dict"))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["only"]}')
    (tmp_path / "only").symlink_to(DATASETS / "two")
    assert list(Source(tmp_path)) == SAVED


def test_a_damaged_folder_of_datasets_is_one_error(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for path in (DATASETS / "two").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    second = tmp_path / "data-00001-of-00002.arrow"
    for damaged in (second.read_bytes()[:500], b"no arrow", None):
        second.unlink()
        if damaged is not None:
            second.write_bytes(damaged)
        source = iter(Source(tmp_path))
        with pytest.raises(SourceError, match="not a folder of Hugging Face datasets that can be read"):
            list(source)
        second.touch()
    (tmp_path / "state.json").write_text("[]")
    with pytest.raises(SourceError, match="not a folder of Hugging Face datasets that can be read"):
        list(Source(tmp_path))


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_is_read_as_often_as_one_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    piped(monkeypatch, b'{"id": "a", "text": "one"}\n{"text": "two"}\n')
    source = Source(Path("-"))
    ids = [[it.id for it in source] for _ in range(2)]
    assert ids == [["a", "stdin line 2"]] * 2
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o077 == 0, "nobody else reads it"
    del source
    assert not list(tmp_path.iterdir())


def test_an_empty_pipe_and_a_terminal_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    piped(monkeypatch, b"")
    with pytest.raises(SourceError, match="standard input, and it is empty"):
        Source(Path("-"))
    for nothing in (None, SimpleNamespace(isatty=lambda: True)):
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(SourceError, match="nothing is piped into it"):
            Source(Path("-"))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_refused_with_the_way_to_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(SourceError, match="pipe it into -"):
        Source(tmp_path / "x.jsonl")


def test_gzip_is_that_of_the_command(tmp_path: Path) -> None:
    """Not only what was written here."""
    records = [json.dumps({"id": it.id, "text": it.text}) for it in SAVED]
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress("\n".join(records).encode()))
    assert [it.text for it in Source(tmp_path / "x.jsonl.gz")] == [it.text for it in SAVED]
