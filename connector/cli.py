"""The commands: each parses, calls the library, and prints."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from connector.errors import ConnectorError, InputError
from connector.terminal import (
    hits_json,
    ingest_json,
    methods_json,
    print_demo,
    print_evaluation,
    print_hits,
    print_ingest,
    print_json,
    print_methods,
    print_recipe,
    print_stats,
    progress_bar,
)

Command = Callable[..., Any]


class _Commands(click.Group):
    """Turns the library's errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConnectorError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:  # the reader of a pipe has seen enough; click ends quietly
            raise
        except OSError as error:
            raise click.ClickException(f"{error}; check that the place exists and may be used") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qdrant-late-interaction")
def main() -> None:
    """Late-interaction search on Qdrant at the storage price of a single dense vector."""
    logger = logging.getLogger("connector")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())


class _Stderr(logging.Handler):
    """Warnings of the library, a line each, on whatever stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.capitalize()}: {record.getMessage()}", err=True)


def _place(command: Command) -> Command:
    """Where the collection is."""
    for option in (
        click.option("--url", metavar="URL", help="Address of a Qdrant server; its key from QDRANT_API_KEY."),
        click.option("--path", metavar="DIR", help="Folder of an embedded Qdrant."),
        click.option("--collection", required=True, metavar="NAME", help="Name of the collection."),
    ):
        command = option(command)
    return command


def _reductions(command: Command) -> Command:
    """Reductions in place of the recipe's."""
    for option in (
        click.option(
            "--query-reduction", metavar="STEPS", help="Other than the recipe's, such as idf-weight."
        ),
        click.option(
            "--reduction",
            metavar="STEPS",
            help="In place of the recipe's, such as punctuation+ward-4, or none; see `connector reductions`.",
        ),
    ):
        command = option(command)
    return command


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def _where(path: str | None, url: str | None) -> dict[str, Any]:
    """The place as arguments of `Connector`."""
    import os

    if (path is None) == (url is None):
        raise click.UsageError("give one of --path DIR (embedded) and --url URL (a server)")
    return {"path": path, "url": url, "api_key": os.environ.get("QDRANT_API_KEY") if url else None}


@main.command("ingest")
@click.argument("source", type=click.Path(path_type=Path))
@_place
@click.option("--model", metavar="ID", help="Model id or folder of a new collection.")
@click.option("--recipe", metavar="NAME", help="Recipe of a new collection; see `connector recipes`.")
@_reductions
@click.option(
    "--chunk-tokens", type=click.IntRange(1), metavar="N", help="Split texts into chunks of N tokens."
)
@click.option(
    "--chunk-overlap", type=click.IntRange(0), default=0, metavar="M", help="Tokens shared by chunks."
)
@click.option("--id-field", metavar="FIELD", help="Field with the id, if not _id, id or doc_id.")
@click.option(
    "--text-field", metavar="FIELD", help="Field with the text, if not text, contents, content or body."
)
@click.option("--title-field", metavar="FIELD", help="Field with the title, if not title.")
@click.option("--skip-bad", is_flag=True, help="Pass over unusable records and name them at the end.")
@_json_option
def ingest_command(
    source: Path,
    collection: str,
    path: str | None,
    url: str | None,
    model: str | None,
    recipe: str | None,
    reduction: str | None,
    query_reduction: str | None,
    chunk_tokens: int | None,
    chunk_overlap: int,
    id_field: str | None,
    text_field: str | None,
    title_field: str | None,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Write SOURCE into a collection, which is made if it is not there.

    SOURCE is a .jsonl, .csv or .parquet file, a folder of .txt and .md files, or a BEIR folder. Running
    the same command again is harmless: what is there unchanged is passed over.
    """
    from connector.loading import ingest_source
    from connector.recipes import get_recipe
    from connector.sources import Source

    place = _where(path, url)
    asked = recipe or reduction or query_reduction
    chosen = get_recipe(recipe or "default").varied(reduction=reduction, query_reduction=query_reduction)
    documents = Source(
        source, id_field=id_field, text_field=text_field, title_field=title_field, skip_bad=skip_bad
    )
    with progress_bar("Ingesting") as progress:
        report = ingest_source(
            documents,
            collection,
            recipe=chosen if asked else None,
            model=model,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            skip_bad=skip_bad,
            started=progress,
            **place,
        )
    if as_json:
        print_json(ingest_json(report))
    else:
        print_ingest(report, collection)


@main.command("search")
@click.argument("query")
@_place
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many hits.")
@click.option(
    "--candidates", default=100, show_default=True, type=click.IntRange(1), help="Passages to rerank."
)
@click.option(
    "--rerank",
    type=click.Choice(["auto", "client", "server", "none"]),
    default="auto",
    show_default=True,
    help="Who scores the tokens: this process, Qdrant, or nobody.",
)
@click.option("--filter", "condition", metavar="JSON", help="A Qdrant filter on metadata, as JSON.")
@_json_option
def search_command(
    query: str,
    collection: str,
    path: str | None,
    url: str | None,
    k: int,
    candidates: int,
    rerank: str,
    condition: str | None,
    as_json: bool,
) -> None:
    """Search a collection.

    A filter looks like '{"must": [{"key": "year", "range": {"gte": 2020}}]}'.
    """
    from connector.connector import Connector

    place = _where(path, url)
    where = _filter(condition)
    with Connector.open(collection, **place) as connector:
        hits = connector.search(
            query,
            k,
            filter=where,
            rerank=None if rerank == "none" else rerank,  # type: ignore[arg-type]
            candidates=candidates,
        )
    if as_json:
        print_json(hits_json(query, hits))
    else:
        print_hits(hits)


def _filter(condition: str | None) -> Any:
    from pydantic import ValidationError
    from qdrant_client import models

    if condition is None:
        return None
    try:
        return models.Filter.model_validate_json(condition)
    except ValidationError as error:
        raise InputError(
            f"filter {condition!r} is no Qdrant filter ({error.errors()[0]['msg']}); give one such as "
            '{"must": [{"key": "year", "match": {"value": 2020}}]}'
        ) from error


@main.command("evaluate")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True, help="Judgements to use: qrels/SPLIT.tsv.")
@click.option("--model", metavar="ID", help="Model id or folder.  [default: all-MiniLM-L6-v2]")
@click.option(
    "--recipe", default="default", show_default=True, metavar="NAME", help="See `connector recipes`."
)
@_reductions
@click.option(
    "--candidates", default=200, show_default=True, type=click.IntRange(1), help="Passages to rerank."
)
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
@_json_option
def evaluate_command(
    folder: Path,
    split: str,
    model: str | None,
    recipe: str,
    reduction: str | None,
    query_reduction: str | None,
    candidates: int,
    cache: Path | None,
    run_file: Path | None,
    min_relevance: int,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Measure a recipe on FOLDER, a collection in BEIR layout.

    Ingests the corpus into an embedded Qdrant in a temporary folder, searches every judged query, and
    prints the measures, bytes a passage and milliseconds a query (without encoding it).
    """
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.evaluation import as_json as to_dict
    from connector.evaluation import evaluate, load_judged, write_run
    from connector.recipes import get_recipe
    from connector.sources import Source

    chosen = get_recipe(recipe).varied(reduction=reduction, query_reduction=query_reduction)
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


@main.command("stats")
@_place
@_json_option
def stats_command(collection: str, path: str | None, url: str | None, as_json: bool) -> None:
    """Say what a collection holds and how many bytes it takes."""
    from connector.connector import Connector

    with Connector.open(collection, **_where(path, url)) as connector:
        stats = connector.stats()
    if as_json:
        print_json(dataclasses.asdict(stats))
        return
    print_stats(stats)


@main.command("recipes")
@_json_option
def recipes_command(as_json: bool) -> None:
    """List the recipes: which tokens are kept, how they are compressed, who scores them."""
    from connector.recipes import RECIPES

    if as_json:
        print_json({"recipes": [recipe.model_dump() for recipe in RECIPES.values()]})
        return
    for recipe in RECIPES.values():
        print_recipe(recipe)


@main.command("reductions")
@_json_option
def reductions_command(as_json: bool) -> None:
    """List the steps of reductions: which tokens are kept or merged.

    K is a count (32), a share (25%) or, for most, bytes a passage (512B). A SIZE is a factor (4), or what to
    pool to: to-32, to-25%, to-512B. Steps are joined with "+", and done from left to right, as in
    punctuation+ward-4.
    """
    from connector.reduction import PASSAGE_METHODS, QUERY_METHODS, Method

    steps: dict[str, tuple[Method[Any], ...]] = {
        "reduction": PASSAGE_METHODS,
        "query_reduction": QUERY_METHODS,
    }
    if as_json:
        print_json(methods_json(steps))
        return
    for side, methods in steps.items():
        print_methods(side, methods)
    click.echo("K: a count (32), a share (25%), or bytes a passage (512B; not for unused-K and icf-K).")
    click.echo("SIZE: a factor (4), or what to pool to (to-32, to-25%, to-512B).")
    click.echo('Steps are joined with "+": --reduction punctuation+ward-4')


@main.command("demo")
@click.option(
    "--path", default="demo-qdrant", show_default=True, metavar="DIR", help="Folder of the embedded Qdrant."
)
@click.option(
    "--recipe", default="compact", show_default=True, metavar="NAME", help="See `connector recipes`."
)
@_json_option
def demo_command(path: str, recipe: str, as_json: bool) -> None:
    """Search the docstrings of Python's standard library.

    Ingests every public module, class and function that has one, asks five questions, and shows what
    the collection takes. Running it again asks at once.
    """
    from connector.demo import QUESTIONS, sizes_and_times, standard_library
    from connector.loading import open_or_create
    from connector.recipes import get_recipe

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


if __name__ == "__main__":
    main()
