"""`connector evaluate`."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from connector.cli.options import candidates as candidate_options
from connector.cli.options import json_option, place, recipe_parts, where
from connector.cli.render import adaptation_json, print_adaptation, print_evaluation, print_json, progress_bar
from connector.core.errors import DocumentError, InputError, SourceError, one_line
from connector.core.sources import csv_rows, json_lines
from connector.core.types import check_text


@click.command("evaluate")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True, help="Judgements to use: qrels/SPLIT.tsv.")
@click.option("--model", metavar="ID", help="Model id or folder.  [default: all-MiniLM-L6-v2]")
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    metavar="NAME",
    help="See `connector recipes`; or a .json file of `connector tune`.",
)
@recipe_parts
@candidate_options(200)
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), help="Keep the encoder's output here."
)
@click.option("--run", "run_file", type=click.Path(dir_okay=False, path_type=Path), help="Write a TREC run.")
@click.option(
    "--min-relevance",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Least grade R, RR and P count.",
)
@click.option("--skip-bad", is_flag=True, help="Leave unusable records of the corpus out.")
@json_option
def evaluate_command(
    folder: Path,
    split: str,
    model: str | None,
    recipe: str,
    candidates: int,
    candidates_by: str,
    cls_weight: float | None,
    alignment: str | None,
    cache: Path | None,
    run_file: Path | None,
    min_relevance: int,
    skip_bad: bool,
    as_json: bool,
    **parts: str | None,
) -> None:
    """Measure a recipe on FOLDER, a collection in BEIR layout.

    Ingests the corpus into an embedded Qdrant in a temporary folder, searches every judged query, and
    prints the measures, bytes a passage and milliseconds a query (without encoding it).
    """
    from connector.collection.recipe import get_recipe
    from connector.core.sources import Source
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.evaluation.beir import load_judged
    from connector.evaluation.evaluate import as_json as to_dict
    from connector.evaluation.evaluate import evaluate, write_run

    chosen = get_recipe(recipe).varied(**parts)
    load_judged(folder, split)
    if run_file is not None and not run_file.parent.is_dir():
        raise InputError(
            f"--run {str(run_file)!r}: there is no folder {str(run_file.parent)!r}; make it first"
        )
    total = sum(1 for _ in Source(folder, skip_bad=skip_bad))
    encoder = load_encoder(model or DEFAULT_MODEL)
    with progress_bar("Encoding and ingesting") as progress:
        result = evaluate(
            folder,
            encoder,
            chosen,
            split=split,
            candidates=candidates,
            candidates_by=candidates_by,  # type: ignore[arg-type]
            cls_weight=cls_weight,
            alignment=alignment,
            cache=cache,
            min_relevance=min_relevance,
            skip_bad=skip_bad,
            progress=progress(total),
        )
    if run_file is not None:
        write_run(result.run, run_file, f"connector-{chosen.name}")
    if as_json:
        print_json(to_dict(result))
        return
    print_evaluation(result)


@click.command("adapt")
@place
@click.option(
    "--examples",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Queries, each with the id of a document that answers it: .jsonl, .csv or .tsv with query and id.",
)
@click.option(
    "--candidates",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="Passages to find for each query; at least 10 are.",
)
@click.option("--save", is_flag=True, help="Search the collection so from now on.")
@click.option("--reset", is_flag=True, help="Instead: score again as the collection was made for.")
@json_option
def adapt_command(
    collection: str,
    path: str | None,
    url: str | None,
    examples: Path | None,
    candidates: int,
    save: bool,
    reset: bool,
    as_json: bool,
) -> None:
    """Choose how tokens are scored by a few examples; 8 will do, and more find smaller gains.

    Tries how many tokens of a passage each token of a query is compared with, and how much CLS counts. What
    the collection was made for stays unless the examples speak clearly for something else. Nothing but the
    queries is encoded.

    A query with several answers stands on several lines, or on one of a .jsonl file with "ids", a list. The
    leave-one-out estimate is what to expect for other queries: each example is measured by what the others
    choose.
    """
    from connector.api.connector import Connector

    at = where(path, url)
    if reset == (examples is not None):
        raise click.UsageError("give one of --examples FILE and --reset")
    if examples is None:
        with Connector.open(collection, **at) as connector:
            connector.collection.adapt(None)
        click.echo(f"{collection} is scored as it was made for")
        return
    pairs = load_examples(examples)
    with Connector.open(collection, **at) as connector:
        adaptation = connector.adapt(pairs, save=save, candidates=candidates)
    if as_json:
        print_json(adaptation_json(adaptation))
    else:
        print_adaptation(adaptation)


def load_examples(path: Path) -> list[tuple[str, str]]:
    """Examples from a file: pairs of a query and the id of a document that answers it.

    Args:
        path: `.jsonl` with an object a line, {"query": "…", "id": "…"} or {"query": "…", "ids": ["…", …]};
            or `.csv` or `.tsv` whose header names the columns query and id.

    Raises:
        SourceError: the file is missing, damaged or of another kind.
        DocumentError: a text of it holds what no tokenizer takes.
    """
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
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    for line, row in csv_rows(path, delimiter):
        if isinstance(row, DocumentError):
            yield line, row
            continue
        named = {name.strip().lower(): text for name, text in row.items()}
        if not {"query", "id"} <= named.keys():
            raise SourceError(
                one_line(f"{line} has the columns {[*named]}; give a header with query and id, and both")
            )
        yield line, {"query": named["query"], "id": named["id"].strip()}


def _pairs(line: str, record: Any) -> list[tuple[str, str]]:
    if isinstance(record, DocumentError):
        raise SourceError(one_line(str(record)))
    query = record.get("query") if isinstance(record, dict) else None
    ids = record.get("ids", [record.get("id")]) if isinstance(record, dict) else None
    if not isinstance(query, str) or not query.strip() or not isinstance(ids, list) or not ids:
        raise SourceError(
            f"{line} is {reprlib.repr(record)}; give a query and the id of a document that answers it, "
            '"query" and "id"'
        )
    ids = [str(it) if isinstance(it, int) and not isinstance(it, bool) else it for it in ids]
    if not all(isinstance(it, str) and it for it in ids):
        raise SourceError(f"{line} has the ids {reprlib.repr(ids)}; give ids of documents, as texts")
    for text in (query, *ids):
        check_text(text, line)
    return [(query, it) for it in ids]
