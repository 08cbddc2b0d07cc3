"""`connector search` and `connector stats`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from connector.cli.options import candidates, json_option, parse_filter, place, where
from connector.cli.render import hits_json, print_hits, print_json, print_stats
from connector.core.errors import InputError


@click.command("search")
@click.argument("query")
@place
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many hits.")
@candidates(100)
@click.option(
    "--rerank",
    type=click.Choice(["auto", "client", "server", "none"]),
    default="auto",
    show_default=True,
    help="Who scores the tokens: this process, Qdrant, or nobody.",
)
@click.option("--filter", metavar="JSON", help="A Qdrant filter on metadata, as JSON.")
@json_option
def search_command(
    query: str,
    collection: str,
    path: str | None,
    url: str | None,
    k: int,
    rerank: str,
    filter: str | None,
    as_json: bool,
    **finding: Any,
) -> None:
    """Search a collection.

    A filter looks like '{"must": [{"key": "year", "range": {"gte": 2020}}]}'.
    """
    from connector.api.connector import Connector

    at = where(path, url)
    condition = parse_filter(filter)
    with Connector.open(collection, **at) as connector:
        hits = connector.search(
            query,
            k,
            filter=condition,
            rerank=None if rerank == "none" else rerank,  # type: ignore[arg-type]
            **finding,
        )
    if as_json:
        print_json(hits_json(query, hits))
    else:
        print_hits(hits)


@click.command("stats")
@place
@json_option
def stats_command(collection: str, path: str | None, url: str | None, as_json: bool) -> None:
    """Say what a collection holds and how many bytes it takes."""
    from connector.api.connector import Connector

    with Connector.open(collection, **where(path, url)) as connector:
        stats = connector.stats()
    if as_json:
        print_json(dataclasses.asdict(stats))
        return
    print_stats(stats)


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
    from connector.cli.heatmap import print_explanation

    if html is not None and not html.parent.is_dir():
        raise InputError(f"--html {str(html)!r}: there is no folder {str(html.parent)!r}; make it first")
    with Connector.open(collection, **where(path, url)) as connector:
        explanation = connector.explain(query, document, cls_weight=cls_weight, alignment=alignment)
    if html is not None:
        from connector.cli.pages.explanation import page

        html.write_text(page(explanation), encoding="utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(dataclasses.asdict(explanation))
    elif html is None:
        print_explanation(explanation)
