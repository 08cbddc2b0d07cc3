"""`connector export` and `import`, and `connector attach` and `detach`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options
from connector.cli.commands import main
from connector.cli.render import output, progress_bar, steps_bar
from connector.cli.results import attachment_lines, ingest_json, ingest_lines

if TYPE_CHECKING:
    from connector.api.connector import Connector
    from connector.collection.backup import Manifest
    from connector.collection.documents.writer import IngestReport
    from connector.collection.recipe import Recipe

_folder = click.argument("folder", type=options.PATH)


@main.command("export")
@_folder
@options.collection
@options.anywhere
@options.json
def export_command(folder: Path, collection: str, at: dict[str, Any], as_json: bool) -> None:
    """Write a collection to FOLDER: documents, metadata, vectors, codes, and what reads them.

    FOLDER appears when it is whole, and an earlier export there is replaced. Nothing may write to the
    collection in the meantime. Needs the extra parquet.
    """
    from connector import stores
    from connector.collection.backup import export_collection
    from connector.collection.collection import Collection

    started = time.perf_counter()
    with contextlib.closing(stores.open_store(**at)) as store, steps_bar() as progress:
        manifest = export_collection(Collection(store, collection), folder, progress)
    _show(folder.expanduser().resolve(), collection, manifest, started, as_json)


@main.command("import")
@_folder
@options.anywhere
@click.option("--as", "name", metavar="NAME", help="Name of the new collection, if not that of the export.")
@options.spread
@options.json
def import_command(folder: Path, at: dict[str, Any], name: str | None, as_json: bool, **spread: Any) -> None:
    """Make a collection of the export in FOLDER; no model is needed.

    All of FOLDER is checked before anything is written, and the collection appears when it is whole. A run
    that was killed is gone on with by running it again. Needs the extra parquet.
    """
    from connector import stores
    from connector.collection.backup import import_collection, read_manifest
    from connector.stores.schema import Distribution

    started = time.perf_counter()
    with contextlib.closing(stores.open_store(**at)) as store, steps_bar() as progress:
        manifest = read_manifest(folder)
        collection = import_collection(store, folder, name, progress, Distribution.taken(spread))
    _show(folder, collection.name, manifest, started, as_json)


def _show(folder: Path, name: str, manifest: Manifest, started: float, as_json: bool) -> None:
    counts = {"documents": manifest.documents, "passages": manifest.passages, "files": manifest.count}
    measured = {"bytes": manifest.size, "seconds": round(time.perf_counter() - started, 3)}
    output(as_json, {"folder": str(folder), "collection": name, **counts, **measured})


@main.command("attach")
@options.collection
@options.on_server
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
@options.recipe("What is added, by default the recipe default. ")
@click.option("--model", metavar="ID", help="Model id or folder.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and write nothing.")
@options.json
def attach_command(
    collection: str,
    at: dict[str, Any],
    recipe: Recipe | None,
    model: str | None,
    plan_only: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Add late interaction to another program's collection, beside its vectors.

    The program goes on as before: payload keys and vectors are added to its points, all beginning with
    "late_", and nothing else is changed; `connector detach` takes them away again. Search it then like any
    other collection. Run the command again to find what the program wrote since, or to go on after Ctrl-C.
    """
    from connector import stores
    from connector.api.attach import DEFAULT_RECIPE, plan
    from connector.api.connector import Connector
    from connector.collection.recipe import get_recipe
    from connector.encoders import DEFAULT_MODEL, load_encoder

    store = stores.open_store(**at)
    if plan_only:
        with contextlib.closing(store):
            encoder = load_encoder(model or DEFAULT_MODEL)
            planned = plan(store, collection, encoder, recipe or get_recipe(DEFAULT_RECIPE), **fields)
        output(as_json, dataclasses.asdict(planned), attachment_lines(planned))
        return
    reports: list[IngestReport] = []
    with progress_bar("Attaching") as started:
        shown = started(store.count(store.aliases().get(collection, collection)))

        def progress(report: IngestReport) -> None:
            reports.append(report)
            shown(report)

        given = {"client": store, "recipe": recipe, "model": model, **fields}
        Connector.attach(collection, progress=progress, **given).close()
    for report in reports[-1:]:
        output(as_json, ingest_json(report), ingest_lines(report, collection))


@main.command("detach")
@options.opened(options.on_server)
@options.yes
def detach_command(connector: Connector, yes: bool) -> None:
    """Take away what `connector attach` added; the collection stays as its program has it."""
    if not yes and connector.collection.attached:
        options.confirm(f"Take late interaction away from {connector.name!r}?")
    connector.detach()
    click.echo(f"detached from {connector.name!r}")
