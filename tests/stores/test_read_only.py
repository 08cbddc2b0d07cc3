"""A folder that may not be written: Edge cannot open it, and one error says what to do instead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from connector import Connector, Document, Encoder
from connector.cli import main
from connector.core.errors import StoreError


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mounted read-only, as root may write whatever the permissions say; else without the permission."""
    if os.geteuid():
        inside = [folder, *folder.rglob("*")]
        for path in inside:
            path.chmod(path.stat().st_mode & ~0o222)
        yield
        for path in inside:
            path.chmod(path.stat().st_mode | 0o200)
        return
    try:
        subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def folder(tmp_path: Path, encoder: Encoder, documents: list[Document]) -> Path:
    """With twelve documents in "docs"."""
    with Connector.create("docs", path=tmp_path / "qdrant", model=encoder) as connector:
        connector.ingest(documents)
    return tmp_path / "qdrant"


def test_a_read_only_folder_says_how_it_can_be_searched(folder: Path, tmp_path: Path) -> None:
    place = ["--collection", "docs", "--path", str(folder)]
    commands = [["search", "otters", *place], ["stats", *place], ["export", str(tmp_path / "out"), *place]]
    with read_only(folder):
        for command in commands:
            result = CliRunner().invoke(main, command)
            assert result.exit_code == 1
            assert result.stderr.count("\n") == 1
            assert f"{folder} is read-only" in result.stderr
            assert "copy the folder" in result.stderr
        with pytest.raises(StoreError, match="is read-only"):
            Connector.create("other", path=folder)
        subprocess.run(["cp", "-r", folder, tmp_path / "copy"], check=True)
    subprocess.run(["chmod", "-R", "u+w", tmp_path / "copy"], check=True)
    with Connector.open("docs", path=tmp_path / "copy") as connector:
        assert connector.search("otters")[0].id == "doc 0"
        assert connector.stats().documents == 12


def test_read_only_files_in_a_folder_that_may_be_written_are_named(folder: Path) -> None:
    (shard,) = folder.glob("collections/*/shard")
    wanted = pytest.raises(StoreError, match=f"{shard} is read-only.* copy the folder")
    with read_only(shard), Connector.open("docs", path=folder) as connector, wanted:
        connector.search("otters")


def test_a_folder_is_whole_after_it_was_read_only(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with read_only(folder), pytest.raises(StoreError, match="is read-only"):
        Connector.open("docs", path=folder)
    assert sorted(folder.rglob("*")) == before
    with Connector.open("docs", path=folder) as connector:
        assert connector.delete(["doc 1"]) == 1
        assert connector.search("otters")[0].id == "doc 0"
