"""`connector attach` and `connector detach`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from connector.cli.options import confirm, json_option, where
from connector.terminal import ingest_json, print_attachment, print_ingest, print_json, progress_bar

if TYPE_CHECKING:
    from connector.collection.documents.writer import IngestReport

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
