"""Change how a collection is stored while it is searched, and back: not one search fails.

python examples/migrate_live.py [FILE]
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from _corpus import corpus, given

from connector import RECIPES, Connector
from connector.migrations import BASE, Migrations

FLOATS = RECIPES["colbert"].varied(reduction="special+ward-4")
"""The vectors of which `default` keeps signs."""

REVISION = '''"""One bit a dimension in place of sixteen."""

from connector import RECIPES

revision = "0001"
down_revision = None


def upgrade(ctx):
    ctx.recode(recipe="default")


def downgrade(ctx):
    ctx.reindex(recipe=RECIPES["colbert"].varied(reduction="special+ward-4"))
'''


class Searching(threading.Thread):
    """Searches until it is stopped, as users do in the meantime."""

    def __init__(self, connector: Connector) -> None:
        super().__init__()
        self.connector = connector
        self.answers: list[str] = []
        self.failed: list[Exception] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.answers.append(self.connector.search("make a copy of a folder", k=1)[0].id)
            except Exception as error:
                self.failed.append(error)

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()

    def __enter__(self) -> Searching:
        self.start()
        return self


def show(connector: Connector) -> None:
    size = connector.stats().bytes_per_passage["total"]
    print(f"{connector.collection.physical}: recipe {connector.recipe.name}, {size:,.0f} bytes a passage")


def main(file: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        revisions = Path(folder, "migrations")
        revisions.mkdir()
        (revisions / "0001_signs.py").write_text(REVISION, encoding="utf-8")
        with Connector.create("docs", path=Path(folder, "qdrant"), recipe=FLOATS) as connector:
            connector.ingest(corpus(file))
            show(connector)
            migrations = Migrations(connector, revisions)
            for step in migrations.plan()[0].steps:
                print(f"  plan: {step.step}, {step.route}")
            with Searching(connector) as searching:
                migrations.upgrade()
                show(connector)
                migrations.downgrade(BASE)
                show(connector)
            print(
                f"{len(searching.answers)} searches in the meantime, {len(searching.failed)} of them failed"
            )
            if searching.failed:
                raise searching.failed[0]


if __name__ == "__main__":
    main(*given(__doc__, "FILE"))
