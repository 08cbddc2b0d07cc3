"""`connector search`, `connector stats` and `connector explain`."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import facts, output, show, write
from connector.cli.results import hits_json, hits_lines, result_lines, stats_lines
from connector.core.errors import InputError

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
    "long_query",
    "timeout",
]

_CHOSEN = ["offset", "min_similarity", "mmr", "group_by", "group_size"]


@main.command("search", cls=parameters.SearchCommand, search=["k", *_CHOSEN, *AS, "rerank", "filter"])
@click.argument("query", required=False)
@options.one_of(query="QUERY", queries="--queries FILE")
@options.opened()
@options.queries("Instead, many: records with _id and text, .jsonl, .tsv, …; - reads JSON lines.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "trec"]),
    help="Of what --queries find: a JSON object a line, the default, or a run as trec_eval reads it.",
)
@options.json
def search_command(
    connector: Connector,
    query: str | None,
    queries: Path | None,
    form: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Search a collection.

    A filter looks like '{"must": [{"key": "year", "range": {"gte": 2020}}]}'. With --queries, hits are
    printed as they are found, a batch of queries at a time.
    """
    if query is None:
        _search_all(connector, queries or Path("-"), form or "jsonl", given)
        return
    if form is not None:
        raise click.UsageError("--format is for --queries; --json prints the hits of QUERY")
    hits = connector.search(query, **given)
    output(as_json, hits_json(query, hits), hits_lines(hits))
    if not as_json:
        show([facts({"ms": hits.ms})], err=True)


def _search_all(connector: Connector, queries: Path, form: str, given: dict[str, Any]) -> None:
    from connector.evaluation.beir import read_queries

    ids: deque[tuple[str, str]] = deque()
    known: set[str] = set()

    def texts() -> Iterator[str]:
        for id_, text in read_queries(queries):
            if id_ in known:
                raise InputError(f"{queries} has query {id_!r} twice; give each an id of its own")
            known.add(id_)
            ids.append((id_, text))
            yield text

    notes: Counter[str] = Counter()
    for hits in connector.search_batch(texts(), **given):
        id_, text = ids.popleft()
        notes.update([hits.note] if hits.note else [])
        for line in result_lines(form, id_, text, hits, connector.recipe.name):
            click.echo(line)
    for note, count in notes.most_common(1):
        click.echo(f"{notes.total():,} queries found less than was asked for; of {count:,}, {note}", err=True)


@main.command("stats")
@options.opened()
@click.option(
    "--scores", is_flag=True, help="Say, too, how alike queries and hits are, for --min-similarity."
)
@options.queries("With --scores: queries as people ask them, a text a line, or .jsonl with text or query.")
@options.json
def stats_command(connector: Connector, scores: bool, queries: Path | None, as_json: bool) -> None:
    """Say what a collection holds and how many bytes it takes.

    --scores asks queries, those of --queries, or else canary queries or some made of the collection's
    texts, and says how similar their 1st, 10th and 100th hits are: the mean of the query's tokens, or the
    inner product of CLS vectors.
    """
    if queries is not None and not scores:
        raise click.UsageError("--queries is for --scores; give both")
    said = dataclasses.asdict(connector.stats())
    if scores:
        from connector.evaluation.beir import load_texts

        found = connector.similarities(None if queries is None else load_texts(queries))
        said["similarity"] = dataclasses.asdict(found)
    output(as_json, said, stats_lines(said))


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
