"""`connector search`, `connector stats` and `connector explain`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import facts, output, show, write
from connector.cli.results import hits_json, hits_lines

if TYPE_CHECKING:
    from connector.api.connector import Connector

AS = [
    "candidates",
    "candidates_by",
    "fusion",
    "feedback",
    "like",
    "unlike",
    "search_again",
    "alignment",
    "timeout",
]


@main.command("search", cls=parameters.SearchCommand, search=["k", *AS, "rerank", "filter"])
@click.argument("query")
@options.opened()
@options.json
def search_command(connector: Connector, query: str, as_json: bool, **given: Any) -> None:
    """Search a collection.

    A filter looks like '{"must": [{"key": "year", "range": {"gte": 2020}}]}'.
    """
    hits = connector.search(query, **given)
    output(as_json, hits_json(query, hits), hits_lines(hits))
    if not as_json:
        show([facts({"ms": hits.ms})], err=True)


@main.command("stats")
@options.opened()
@options.json
def stats_command(connector: Connector, as_json: bool) -> None:
    """Say what a collection holds and how many bytes it takes."""
    output(as_json, dataclasses.asdict(connector.stats()))


@main.command("explain", cls=parameters.SearchCommand, search=[*AS, "filter"])
@click.argument("query")
@click.option("--id", "document", required=True, metavar="ID", help="Id of the document to explain.")
@options.opened()
@options.output_file("--html", "Write a page that shows it in a browser, without anything from outside.")
@options.json
def explain_command(
    connector: Connector, query: str, document: str, html: Path | None, as_json: bool, **given: Any
) -> None:
    """Say which words a document's score comes from.

    Shows its best passage for QUERY with the words shaded by what they add to the score, and for each word
    of the query its share of the score and what it matched, with similarities. Parts sum to the score; where
    tokens were merged, all their words are named.
    """
    from connector.cli.heatmap import explanation_lines

    explanation = connector.explain(query, document, **given)
    if html is not None:
        from connector.cli.pages import explanation_page

        write(html, explanation_page(explanation))
    if as_json or html is None:
        output(as_json, dataclasses.asdict(explanation), explanation_lines(explanation))
