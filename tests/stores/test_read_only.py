"""A folder that may not be written: Edge cannot open it, and one error says what to do instead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
