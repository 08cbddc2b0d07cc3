"""`connector explain`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from connector.cli.options import json_option, place, where
from connector.core.errors import InputError
from connector.terminal import print_json


@click.command("explain")
@click.argument("query")
@click.option("--id", "document", required=True, metavar="ID", help="Id of the document to explain.")
@place
@click.option(
    "--cls-weight",
    type=click.FloatRange(0, 1),
    metavar="W",
    help="As in `connector search`.  [default: the collection's]",
)
@click.option(
    "--alignment", metavar="top-K", help="As in `connector search`.  [default: the collection's; else MaxSim]"
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page that shows it in a browser, without anything from outside.",
)
@json_option
def explain_command(
    query: str,
    document: str,
    collection: str,
    path: str | None,
    url: str | None,
    cls_weight: float | None,
    alignment: str | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Say which words a document's score comes from.

    Shows its best passage for QUERY with the words shaded by what they add to the score, and for each word
    of the query its share of the score and what it matched, with similarities. Parts sum to the score; where
    tokens were merged, all their words are named.
    """
    from connector.api.connector import Connector
    from connector.heatmap import print_explanation

    if html is not None and not html.parent.is_dir():
        raise InputError(f"--html {str(html)!r}: there is no folder {str(html.parent)!r}; make it first")
    with Connector.open(collection, **where(path, url)) as connector:
        explanation = connector.explain(query, document, cls_weight=cls_weight, alignment=alignment)
    if html is not None:
        from connector.page import page

        html.write_text(page(explanation), encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(dataclasses.asdict(explanation))
    elif html is None:
        print_explanation(explanation)
