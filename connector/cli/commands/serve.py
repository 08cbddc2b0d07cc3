"""`connector serve` and `connector demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import output, progress_bar
from connector.core.errors import CollectionNotFound

if TYPE_CHECKING:
    from connector.collection.recipe import Recipe


@main.command("serve")
@options.collection
@options.anywhere
@click.option("--model", metavar="ID", help="Model id or folder, if it has moved, or of a new collection.")
@options.recipe("Make the collection if it is missing, by this recipe. ")
@parameters.indexes
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Where to listen.")
@click.option("--port", default=8000, type=click.IntRange(0, 65535), metavar="N", help="0 takes a free one.")
def serve_command(
    collection: str,
    at: dict[str, Any],
    model: str | None,
    recipe: Recipe | None,
    indexes: dict[str, str] | None,
    host: str,
    port: int,
) -> None:
    """Serve a collection: an HTTP API and a page to search it.

    Search, explain, ingest and health; /openapi.json describes them. At another address than this machine's
    own, an API key is needed, from CONNECTOR_API_KEY or the file that CONNECTOR_API_KEY_FILE names; requests
    show it as "Authorization: Bearer KEY". Put a proxy with TLS in front of it there. Ctrl-C or
    SIGTERM ends it, when it has answered what it had begun.
    """
    from connector.integrations.http import LOOPBACK, Address, app, run
    from connector.integrations.http.server import KEY_VARIABLE, check_open_to
    from connector.stores.server.credentials import api_key_from_environment

    key = api_key_from_environment(KEY_VARIABLE)
    check_open_to(host, key)
    with Address.take(host, port) as address, _opened(collection, recipe, model, indexes, at) as connector:
        connector.search("ready?", 1)  # loads the model, and fails now if it cannot
        held = connector.collection.documents()

        def ready() -> None:
            click.echo(f"{collection}: {held:,} documents, recipe {connector.recipe.name}")
            click.echo(f"  page  {address.url}/")
            click.echo(f"  API   {address.url}/openapi.json" + (", with a key" if key else ""))
            click.echo("Ctrl-C ends it.")

        run(app(connector, key=key, hosts=(*LOOPBACK, address.name)), address, ready)


def _opened(
    name: str, recipe: Recipe | None, model: str | None, indexes: dict[str, str] | None, at: dict[str, Any]
) -> Any:
    """The collection; made, if it is missing and its recipe is named."""
    from connector.api.bulk_ingest import opened
    from connector.api.connector import Connector

    if recipe is not None:
        return opened(name, recipe=recipe, model=model, indexes=indexes, **at)
    try:
        connector = Connector.open(name, model=model, **at)
    except CollectionNotFound as error:
        raise CollectionNotFound(f"{error}; to make it, name a recipe, such as --recipe default") from error
    if indexes:
        connector.create_index(indexes)
    return connector


@main.command("demo")
@click.option(
    "--path",
    type=options.ANYWHERE,
    default="demo-qdrant",
    metavar="DIR",
    help="Folder of the embedded Qdrant.",
)
@options.recipe(default="default")
@options.json
def demo_command(path: str, recipe: Recipe, as_json: bool) -> None:
    """Search the docstrings of Python's standard library.

    Ingests every public module, class and function that has one, asks five questions, and shows what
    the collection takes. Running it again asks at once.
    """
    from connector.api.bulk_ingest import opened
    from connector.cli.demo_corpus import QUESTIONS, sizes_and_times, standard_library
    from connector.cli.heatmap import demo_lines

    documents = standard_library()
    with opened("stdlib", path=path, recipe=recipe, model=None) as connector:
        with progress_bar("Ingesting docstrings") as progress:
            connector.ingest(documents, progress=progress(len(documents)))
        found = {question: connector.search(question, 3) for question in QUESTIONS}
        result = sizes_and_times(connector, documents, found)
        output(as_json, result, demo_lines(connector, found, result))
    if not as_json:
        click.echo(f'Go on: connector search "…" --collection stdlib --path {path}')
