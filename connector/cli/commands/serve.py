"""`connector serve`."""

from __future__ import annotations

from typing import Any

import click

from connector.cli.options import json_option, place, where
from connector.cli.render import print_demo, print_json, progress_bar
from connector.core.errors import CollectionNotFound


@click.command("serve")
@place
@click.option("--model", metavar="ID", help="Model id or folder, if it has moved, or of a new collection.")
@click.option(
    "--recipe",
    metavar="NAME",
    help="Make the collection if it is missing, by this recipe: see `connector recipes`; or a .json file of "
    "`connector tune`.",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="N",
    help="0 takes a free one.",
)
@click.option(
    "--max-request",
    default=16,
    show_default=True,
    type=click.IntRange(1, 1024),
    metavar="MIB",
    help="The largest body of an ingest.",
)
def serve_command(
    collection: str,
    path: str | None,
    url: str | None,
    model: str | None,
    recipe: str | None,
    host: str,
    port: int,
    max_request: int,
) -> None:
    """Serve a collection: an HTTP API and a page to search it.

    Search, explain, ingest and health; /openapi.json describes them. At another address than this machine's
    own, an API key is needed, from CONNECTOR_API_KEY or the file that CONNECTOR_API_KEY_FILE names; requests
    show it as "Authorization: Bearer KEY". Put a proxy with TLS in front of it there. Ctrl-C ends it.
    """
    from connector.integrations.http.middleware import KEY_VARIABLE, check_open_to
    from connector.integrations.http.schemas import MIB, Limits
    from connector.integrations.http.server import Address, run
    from connector.stores.server.credentials import api_key_from_environment

    key = api_key_from_environment(KEY_VARIABLE)
    check_open_to(host, key)
    at = where(path, url)
    with Address.take(host, port) as address, _opened(collection, recipe, model, at) as connector:
        from connector.integrations.http.app import app
        from connector.integrations.http.middleware import LOOPBACK

        connector.search("ready?", 1)  # loads the model, and fails now if it cannot
        held = connector.collection.documents()

        def ready() -> None:
            click.echo(f"{collection}: {held:,} documents, recipe {connector.recipe.name}")
            click.echo(f"  page  {address.url}/")
            click.echo(f"  API   {address.url}/openapi.json" + (", with a key" if key else ""))
            click.echo("Ctrl-C ends it.")

        served = app(
            connector, key=key, hosts=(*LOOPBACK, address.name), limits=Limits(documents=max_request * MIB)
        )
        run(served, address, ready)


def _opened(name: str, recipe: str | None, model: str | None, at: dict[str, Any]) -> Any:
    """The collection; made, if it is missing and its recipe is named."""
    from connector.api.bulk_ingest import open_or_create
    from connector.api.connector import Connector
    from connector.collection.recipe import get_recipe

    if recipe is not None:
        return open_or_create(name, recipe=get_recipe(recipe), model=model, **at)
    try:
        return Connector.open(name, model=model, **at)
    except CollectionNotFound as error:
        raise CollectionNotFound(f"{error}; to make it, name a recipe, such as --recipe compact") from error


@click.command("demo")
@click.option(
    "--path", default="demo-qdrant", show_default=True, metavar="DIR", help="Folder of the embedded Qdrant."
)
@click.option(
    "--recipe",
    default="compact",
    show_default=True,
    metavar="NAME",
    help="See `connector recipes`; or a .json file of `connector tune`.",
)
@json_option
def demo_command(path: str, recipe: str, as_json: bool) -> None:
    """Search the docstrings of Python's standard library.

    Ingests every public module, class and function that has one, asks five questions, and shows what
    the collection takes. Running it again asks at once.
    """
    from connector.api.bulk_ingest import open_or_create
    from connector.cli.demo_corpus import QUESTIONS, sizes_and_times, standard_library
    from connector.collection.recipe import get_recipe

    documents = standard_library()
    with open_or_create("stdlib", path=path, recipe=get_recipe(recipe), model=None) as connector:
        with progress_bar("Ingesting docstrings") as progress:
            connector.ingest(documents, progress=progress(len(documents)))
        found = {question: connector.search(question, 3) for question in QUESTIONS}
        result = sizes_and_times(connector, documents, found)
        if as_json:
            print_json(result)
            return
        print_demo(connector, found, result)
    click.echo(f'Go on: connector search "…" --collection stdlib --path {path}')
