"""`connector export` and `connector import`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli.options import confirm, json_option, place, where
from connector.cli.render import (
    ingest_json,
    print_attachment,
    print_ingest,
    print_json,
    progress_bar,
    steps_bar,
)

if TYPE_CHECKING:
    from connector.collection.documents.writer import IngestReport


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


_collection = click.option("--collection", required=True, metavar="NAME", help="Name of the collection.")


_url = click.option(
    "--url",
    required=True,
    metavar="URL",
    help="Address of a Qdrant server; its key from QDRANT_API_KEY, or a file, QDRANT_API_KEY_FILE.",
)


@click.command("attach")
@_collection
@_url
@click.option(
    "--text-field",
    metavar="KEY",
    help="Payload key of the text, such as body, or doc.body in an object; those of LangChain, LlamaIndex "
    "and Haystack are known.",
)
@click.option(
    "--metadata-field",
    metavar="KEY",
    help="Payload key of an object with the metadata.  [default: as those have it, else all other keys]",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="What is added, see `connector recipes`; or a .json file of `connector tune`.  [default: compact]",
)
@click.option("--model", metavar="ID", help="Model id or folder.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and write nothing.")
@json_option
def attach_command(
    collection: str,
    url: str,
    text_field: str | None,
    metadata_field: str | None,
    recipe: str | None,
    model: str | None,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Add late interaction to another program's collection, beside its vectors.

    The program goes on as before: payload keys and vectors are added to its points, all beginning with
    "late_", and nothing else is changed; `connector detach` takes them away again. Search it then like any
    other collection. Run the command again to find what the program wrote since, or to go on after Ctrl-C.
    """
    from connector.api.attach import DEFAULT_RECIPE, plan
    from connector.api.connector import Connector
    from connector.collection.recipe import get_recipe
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.stores import open_store

    store = open_store(**where(None, url))
    fields = {"text_field": text_field, "metadata_field": metadata_field}
    if plan_only:
        try:
            encoder = load_encoder(model or DEFAULT_MODEL)
            planned = plan(store, collection, encoder, get_recipe(recipe or DEFAULT_RECIPE), **fields)
        finally:
            store.close()
        print_json(dataclasses.asdict(planned)) if as_json else print_attachment(planned)
        return
    report: IngestReport | None = None
    with progress_bar("Attaching") as progress:
        show = progress(store.count(store.aliases().get(collection, collection)))

        def told(now: IngestReport) -> None:
            nonlocal report
            report = now
            show(now)

        Connector.attach(
            collection, client=store, recipe=recipe, model=model, progress=told, **fields
        ).close()
    if report is not None:
        print_json(ingest_json(report)) if as_json else print_ingest(report, collection)


@click.command("detach")
@_collection
@_url
@click.option("--yes", is_flag=True, help="Do not ask.")
def detach_command(collection: str, url: str, yes: bool) -> None:
    """Take away what `connector attach` added; the collection stays as its program has it."""
    from connector.api.connector import Connector

    with Connector.open(collection, **where(None, url)) as connector:
        if not yes and connector.collection.attached:
            confirm(f"Take late interaction away from {collection!r}?")
        connector.detach()
    click.echo(f"detached from {collection!r}")
