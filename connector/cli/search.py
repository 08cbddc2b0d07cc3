"""`connector search` and `connector stats`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from connector.cli.options import candidates, json_option, parse_filter, place, where
from connector.terminal import hits_json, print_hits, print_json, print_stats


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
