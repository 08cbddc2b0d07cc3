"""`connector evaluate` and `connector adapt`: how good a recipe is, and which scoring suits a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import output, progress_bar
from connector.cli.results import adaptation_json, adaptation_lines, evaluation_lines

if TYPE_CHECKING:
    from connector.api.connector import Connector
    from connector.collection.recipe import Recipe


@main.command(
    "evaluate",
    cls=parameters.SearchCommand,
    search=["candidates", "candidates_by", "alignment", "fusion", "feedback", "long_query"],
    context_settings={"default_map": {"candidates": 200}},
)
@options.one_of(False, qrels="--qrels FILE", split="--split")
@options.source("source", required=False)
@click.option("--split", help="Judgements to use: qrels/SPLIT.tsv.  [default: test]")
@options.judged_files
@options.model
@options.recipe_and_parts(default="default")
@options.cache
@options.input_file("--run", "Search nothing, and judge this TREC run.")
@options.output_file("--save-run", "Write the hits as a TREC run.")
@options.count("--min-relevance", default=1, help="Least grade R, RR and P count.")
@options.keep_own
@click.option("--skip-bad", is_flag=True, help="Leave unusable records of the corpus out.")
@options.json
def evaluate_command(
    source: Path | None,
    split: str | None,
    queries: Path | None,
    qrels: Path | None,
    model: str | None,
    recipe: Recipe,
    run: Path | None,
    save_run: Path | None,
    min_relevance: int,
    keep_own: bool,
    skip_bad: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure a recipe on SOURCE, a collection in BEIR layout, or a run that another system made.

    Ingests the corpus into an embedded Qdrant in a temporary folder, searches every judged query, and
    prints the measures, bytes a passage and milliseconds a query (without encoding it). With --queries and
    --qrels SOURCE is whatever connector ingest takes.

    With --run nothing is encoded or searched: the run is judged by SOURCE's judgements, or by --qrels alone.
    Files may be packed (.gz, .zst). A query that a run lacks counts as zero, as for trec_eval -c. A document
    with the query's own id is left out, as BEIR does, unless it is judged to answer.
    """
    from connector.core.sources import Source
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.evaluation import evaluate as evaluation
    from connector.evaluation.beir import judged_queries, queries_file
    from connector.evaluation.corpus import survey
    from connector.evaluation.trec import load_qrels, load_run, run_tag, write_run

    judgements = _judgements(source, split, qrels)
    if run is not None:
        _check_nothing_is_searched()
        found = evaluation.judge_run(load_run(run), load_qrels(judgements), min_relevance, keep_own)
        content = dataclasses.asdict(found)
        output(as_json, content, evaluation_lines(content))
        return
    if source is None:
        raise click.UsageError("give SOURCE to search, or --run FILE to judge")
    judged = judged_queries(queries or queries_file(source), judgements)
    ids: Iterable[str] = (document.id for document in Source(source, skip_bad=skip_bad))
    ids = ids if save_run is None else _writable(ids, judged.queries)
    corpus = survey(str(source), ids, judged.qrels)
    encoder = load_encoder(model or DEFAULT_MODEL)
    with progress_bar("Encoding and ingesting") as progress:
        result = evaluation.evaluate(
            source,
            encoder,
            recipe,
            judged=judged,
            corpus=corpus,
            min_relevance=min_relevance,
            keep_own=keep_own,
            skip_bad=skip_bad,
            progress=progress(corpus.documents),
            **settings,
        )
    content = evaluation.as_json(result)
    output(as_json, content, evaluation_lines(content))
    if save_run is not None:
        write_run(result.run, save_run, f"connector-{run_tag(recipe.name)}")


def _judgements(source: Path | None, split: str | None, qrels: Path | None) -> Path:
    from connector.evaluation.beir import qrels_file

    if qrels is not None:
        return qrels
    if source is None:
        raise click.UsageError("give SOURCE, or --run FILE with --qrels FILE")
    return qrels_file(source, split or "test")


_OF_A_RUN = ("source", "split", "qrels", "run", "min_relevance", "keep_own", "as_json")


def _check_nothing_is_searched() -> None:
    """Refuse options of a search beside --run, which has been searched."""
    context = click.get_current_context()
    for param in context.command.get_params(context):
        given = context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if given and param.name not in _OF_A_RUN:
            raise click.UsageError(f"{param.opts[0]} goes with a search, not with --run, which judges one")


def _writable(documents: Iterable[str], queries: Iterable[str]) -> Iterator[str]:
    """The ids of the documents; if a run cannot hold one of them, or of the queries, that is refused."""
    from connector.evaluation.trec import check_word

    for query in queries:
        check_word(query, "query")
    for document in documents:
        check_word(document, "document")
        yield document


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
