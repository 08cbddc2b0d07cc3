"""`connector evaluate` and `connector adapt`: how good a recipe is, and which scoring suits a task."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options
from connector.cli.commands import main
from connector.cli.render import facts, output, progress_bar
from connector.cli.results import adaptation_json, adaptation_lines
from connector.core.errors import DocumentError, SourceError, one_line

if TYPE_CHECKING:
    from connector.api.connector import Connector
    from connector.collection.recipe import Recipe


@main.command(
    "evaluate",
    cls=options.SearchCommand,
    search=["candidates", "candidates_by", "alignment", "cls_weight"],
    defaults={"candidates": 200},
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--split", default="test", help="Judgements to use: qrels/SPLIT.tsv.")
@options.model
@options.recipe_and_parts(default="default")
@options.cache
@options.output_file("--run", "Write a TREC run.")
@click.option("--min-relevance", default=1, type=click.IntRange(1), help="Least grade R, RR and P count.")
@click.option("--skip-bad", is_flag=True, help="Leave unusable records of the corpus out.")
@options.json
def evaluate_command(
    folder: Path,
    split: str,
    model: str | None,
    recipe: Recipe,
    run: Path | None,
    skip_bad: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure a recipe on FOLDER, a collection in BEIR layout.

    Ingests the corpus into an embedded Qdrant in a temporary folder, searches every judged query, and
    prints the measures, bytes a passage and milliseconds a query (without encoding it).
    """
    from connector.core.sources import Source
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.evaluation import evaluate as evaluation
    from connector.evaluation.beir import load_judged

    load_judged(folder, split)
    total = sum(1 for _ in Source(folder, skip_bad=skip_bad))
    encoder = load_encoder(model or DEFAULT_MODEL)
    with progress_bar("Encoding and ingesting") as progress:
        result = evaluation.evaluate(
            folder, encoder, recipe, split=split, skip_bad=skip_bad, progress=progress(total), **settings
        )
    if run is not None:
        evaluation.write_run(result.run, run, f"connector-{recipe.name}")
    content = evaluation.as_json(result)
    output(as_json, content, [facts(content)])


@main.command("adapt", cls=options.SearchCommand, search=["candidates"])
@options.one_of(examples="--examples FILE", reset="--reset")
@options.opened()
@click.option(
    "--examples",
    type=options.FILE,
    metavar="FILE",
    help="Queries, each with the id of a document that answers it: .jsonl, .csv or .tsv with query and id.",
)
@click.option("--save", is_flag=True, help="Search the collection so from now on.")
@click.option("--reset", is_flag=True, help="Instead: score again as the collection was made for.")
@options.json
def adapt_command(
    connector: Connector, examples: Path | None, candidates: int, save: bool, reset: bool, as_json: bool
) -> None:
    """Choose how tokens are scored by a few examples; 8 will do, and more find smaller gains.

    Tries how many tokens of a passage each token of a query is compared with, and how much CLS counts. What
    the collection was made for stays unless the examples speak clearly for something else. Nothing but the
    queries is encoded.

    A query with several answers stands on several lines, or on one of a .jsonl file with "ids", a list. The
    leave-one-out estimate is what to expect for other queries: each example is measured by what the others
    choose.
    """
    if reset or examples is None:
        connector.collection.adapt(None)
        click.echo(f"{connector.name} is scored as it was made for")
        return
    adaptation = connector.adapt(load_examples(examples), save=save, candidates=candidates)
    output(as_json, adaptation_json(adaptation), adaptation_lines(adaptation))


def load_examples(path: Path) -> list[tuple[str, str]]:
    """Examples from a file: pairs of a query and the id of a document that answers it.

    Args:
        path: `.jsonl` with an object a line, {"query": "…", "id": "…"} or {"query": "…", "ids": ["…", …]};
            or `.csv` or `.tsv` whose header names the columns query and id.

    Raises:
        SourceError: the file is missing, damaged or of another kind.
        DocumentError: a text of it holds what no tokenizer takes.
    """
    from connector.core.sources import json_lines

    readers = {".jsonl": json_lines, ".ndjson": json_lines, ".csv": _table, ".tsv": _table}
    if path.suffix.lower() not in readers:
        raise SourceError(f"{path} is of no known kind; give examples as a .jsonl, .csv or .tsv file")
    try:
        path.read_bytes().decode()
        records = list(readers[path.suffix.lower()](path))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; give a file of examples") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 (byte {error.start}); convert the file to UTF-8") from error
    return [pair for line, record in records for pair in _pairs(line, record)]


def _table(path: Path) -> Iterator[tuple[str, Any]]:
    from connector.core.sources import csv_rows

    for line, row in csv_rows(path, "\t" if path.suffix.lower() == ".tsv" else ","):
        if isinstance(row, DocumentError):
            yield line, row
        else:
            yield line, {name.strip().lower(): text.strip() for name, text in row.items()}


def _pairs(line: str, record: Any) -> list[tuple[str, str]]:
    from connector.core.types import check_text

    if isinstance(record, DocumentError):
        raise SourceError(one_line(str(record)))
    query = record.get("query") if isinstance(record, dict) else None
    ids = record.get("ids", [record.get("id")]) if isinstance(record, dict) else None
    if not isinstance(query, str) or not query.strip() or not isinstance(ids, list) or not ids:
        raise SourceError(
            f'{line} is {reprlib.repr(record)}; give a query and the id of a document, "query" and "id"'
        )
    ids = [str(it) if isinstance(it, int) and not isinstance(it, bool) else it for it in ids]
    if not all(isinstance(it, str) and it for it in ids):
        raise SourceError(f"{line} has the ids {reprlib.repr(ids)}; give ids of documents, as texts")
    for text in (query, *ids):
        check_text(text, line)
    return [(query, it) for it in ids]
