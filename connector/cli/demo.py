"""`connector demo`."""

from __future__ import annotations

import click

from connector.cli.options import json_option
from connector.terminal import print_demo, print_json, progress_bar


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
    from connector.collection.recipe import get_recipe
    from connector.demo import QUESTIONS, sizes_and_times, standard_library

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
