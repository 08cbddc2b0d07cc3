"""`connector evaluate` and `connector adapt`: how good a recipe is, and which scoring suits a task."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import output, progress_bar
from connector.cli.results import adaptation_json, adaptation_lines

if TYPE_CHECKING:
    from connector.api.connector import Connector
    from connector.collection.recipe import Recipe


@main.command(
    "evaluate",
    cls=parameters.SearchCommand,
    search=["candidates", "candidates_by", "alignment", "fusion", "feedback"],
    context_settings={"default_map": {"candidates": 200}},
)
@click.argument("folder", type=options.PATH)
@click.option("--split", default="test", help="Judgements to use: qrels/SPLIT.tsv.")
@options.model
@options.recipe_and_parts(default="default")
@options.cache
@options.output_file("--run", "Write a TREC run.")
@options.count("--min-relevance", default=1, help="Least grade R, RR and P count.")
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
    output(as_json, evaluation.as_json(result))


@main.command("adapt", cls=parameters.SearchCommand, search=["candidates"])
@options.one_of(False, examples="--examples FILE", reset="--reset")
@options.one_of(False, queries="--queries FILE", reset="--reset")
@options.opened()
@options.input_file(
    "--examples",
    "Queries, each with the id of a document that answers it: .jsonl, .csv or .tsv with query and id.",
)
@options.input_file(
    "--queries", "Queries as people ask them, at least 50: a text a line, or .jsonl with text or query."
)
@click.option("--save", is_flag=True, help="Search the collection so from now on.")
@click.option("--reset", is_flag=True, help="Instead: score again as the collection was made for.")
@options.json
def adapt_command(
    connector: Connector,
    examples: Path | None,
    queries: Path | None,
    candidates: int | None,
    save: bool,
    reset: bool,
    as_json: bool,
) -> None:
    """Choose how passages are scored by a few examples; 8 will do, and more find smaller gains.

    Tries how many tokens of a passage each token of a query is compared with, how much words and CLS vectors
    count, and feedback. What the collection was made for stays unless the examples speak clearly for
    something else. Nothing but the queries is encoded.

    A query with several answers stands on several lines, or on one of a .jsonl file with "ids", a list. The
    leave-one-out estimate is what to expect for other queries: each example is measured by what the others
    choose.

    With --queries, nobody has to judge anything: query tokens are centred by the mean of these queries from
    then on, unless that ranks the --examples worse.
    """
    if not (reset or examples or queries):
        raise click.UsageError("give --examples FILE, --queries FILE or --reset")
    if reset:
        connector.collection.adapt(None)
        click.echo(f"{connector.name} is scored as it was made for")
        return
    from connector.evaluation.beir import load_examples, load_texts

    judged = [] if examples is None else load_examples(examples)
    if queries is not None:
        mean = connector.adapt_to_queries(load_texts(queries), judged)
        output(as_json, dataclasses.asdict(mean))
        return
    adaptation = connector.adapt(judged, save=save, candidates=candidates)
    output(as_json, adaptation_json(adaptation), adaptation_lines(adaptation))
