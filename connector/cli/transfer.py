"""`connector export` and `connector import`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import click

from connector.cli.options import json_option, place, where
from connector.terminal import print_json, steps_bar


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@place
@json_option
def export_command(folder: Path, collection: str, path: str | None, url: str | None, as_json: bool) -> None:
    """Write a collection to FOLDER: documents, metadata, vectors, codes, and what reads them.

    FOLDER appears when it is whole, and an earlier export there is replaced. Nothing may write to the
    collection meanwhile. Needs the extra parquet.
    """
    from connector.collection.backup import export_collection
    from connector.collection.collection import Collection
    from connector.stores import open_store

    with contextlib.closing(open_store(**where(path, url))) as store, steps_bar() as progress:
        report = export_collection(Collection(store, collection), folder, progress)
    _show("Exported", dataclasses.asdict(report), as_json)


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--path", metavar="DIR", help="Folder of an embedded Qdrant.")
@click.option("--url", metavar="URL", help="Address of a Qdrant server; its key from QDRANT_API_KEY.")
@click.option("--as", "name", metavar="NAME", help="Name of the new collection, if not that of the export.")
@json_option
def import_command(folder: Path, path: str | None, url: str | None, name: str | None, as_json: bool) -> None:
    """Make a collection of the export in FOLDER; no model is needed.

    All of FOLDER is checked before anything is written, and the collection appears when it is whole. A run
    that was killed is gone on with by running it again. Needs the extra parquet.
    """
    from connector.collection.backup import import_collection, read_manifest
    from connector.stores import open_store

    started = time.perf_counter()
    with contextlib.closing(open_store(**where(path, url))) as store, steps_bar() as progress:
        manifest = read_manifest(folder)
        collection = import_collection(store, folder, name, progress)
    report = {
        "folder": str(folder),
        "collection": collection.name,
        "documents": manifest.documents,
        "passages": manifest.passages,
        "files": manifest.count,
        "bytes": manifest.size,
        "seconds": time.perf_counter() - started,
    }
    _show("Imported", report, as_json)


def _show(what: str, report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({**report, "seconds": round(report["seconds"], 3)})
        return
    click.echo(
        f"{what} {report['collection']!r}: {report['documents']:,} documents, "
        f"{report['passages']:,} passages, {report['files']:,} files, "
        f"{report['bytes'] / 1e6:,.1f} MB, {report['seconds']:.1f} s"
    )
