"""How many files of the package an ingest, a search and a reindex pass through.

    python benchmarks/touched.py

Forty documents on Qdrant Edge by recipe `default`, then a query, then a migration that encodes them again. A
file counts when a function of it is called; what runs at import does not.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import connector
from connector import Connector, Document, load_encoder
from connector.migrations import Migrations

ROOT = Path(connector.__file__).parent

REVISION = '''"""The tokens again."""
revision = "0001"
down_revision = None


def upgrade(ctx):
    ctx.reindex(recipe="tiny")


def downgrade(ctx):
    ctx.reindex(recipe="default")
'''


@contextmanager
def touched() -> Iterator[set[str]]:
    """The files whose functions are called in the meantime, in any thread."""
    files: set[str] = set()

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name not in ("<module>", "__getattr__"):
            path = Path(frame.f_code.co_filename)
            if ROOT in path.parents:
                files.add(str(path.relative_to(ROOT)))

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def main() -> None:
    encoder = load_encoder()
    documents = [Document(id=str(it), text=f"Passage {it} tells of river number {it}.") for it in range(40)]
    counts = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "migrations"
        folder.mkdir()
        (folder / "0001_again.py").write_text(REVISION)
        place = Path(scratch) / "qdrant"
        with Connector.create("docs", path=place, recipe="default", model=encoder) as docs:
            with touched() as counts["ingest"]:
                docs.ingest(documents)
            with touched() as counts["search"]:
                docs.search("a river")
            migrations = Migrations(docs, folder)
            with touched() as counts["reindex"]:
                migrations.upgrade()
    for what, files in counts.items():
        print(f"{what:<8} {len(files):>3} files")
        if "--files" in sys.argv:
            print("".join(f"    {file}\n" for file in sorted(files)), end="")


if __name__ == "__main__":
    main()
