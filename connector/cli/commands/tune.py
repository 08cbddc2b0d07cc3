"""`connector tune`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options
from connector.cli.commands import main
from connector.cli.render import output, steps_bar, write
from connector.cli.results import tuning_json, tuning_lines
from connector.core.errors import InputError

if TYPE_CHECKING:
    from connector.encoders import Encoder
    from connector.evaluation.tuning import Task, Tuning

_UNITS = {"": 1, "B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2}


class Size(click.ParamType[float]):
    """Bytes, such as 768, 768B or 1.5KB; a KB has 1,024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of bytes."""
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
        if match is None or match[2].upper() not in _UNITS:
            self.fail(f"{value!r} is not a size; give bytes a passage, such as 768, 1KB or 2MB", param, ctx)
        return float(match[1]) * _UNITS[match[2].upper()]


_asked = options.gathered(
    "asked",
    dict,
    query_rows=click.option(
        "--query-rows", metavar="ROWS", help="Which rows of a query ask: own, all, or auto, the default."
    ),
    query_weights=click.option(
        "--query-weights", metavar="WEIGHTS", help="In place of those tried: 1, sqrt-idf or idf."
    ),
    fusion=click.option(
        "--fusion", metavar="WEIGHTS", help="In place of those tried, such as minmax:tokens=1,bm25=0.5."
    ),
    feedback=click.option(
        "--feedback", metavar="WEIGHTS", help="In place of those tried, such as codes=3, or none."
    ),
)
"""What all recipes have, where it is given."""


@main.command("tune")
@options.one_of(source="SOURCE", collection="--collection NAME")
@options.one_of(False, examples="--examples FILE", queries="--queries FILE")
@options.one_of(False, examples="--examples FILE", split="--split")
@options.one_of(False, examples="--examples FILE", qrels="--qrels FILE")
@options.one_of(False, qrels="--qrels FILE", split="--split")
@options.source("source", required=False)
@click.option(
    "--budget", required=True, type=Size(), help="Bytes a passage, words too, such as 768 or 1KB (1,024)."
)
@click.option("--collection", metavar="NAME", help="In place of SOURCE: the texts of a collection.")
@options.path
@options.url()
@click.option("--split", help="Judgements of SOURCE to tune by: qrels/SPLIT.tsv.  [default: dev, else train]")
@options.input_file(
    "--examples", "Queries, each with the id of a document that answers it, as for connector adapt."
)
@options.queries(
    "In place of queries.jsonl, and not judged but by --qrels: records with _id and text; - reads JSON lines."
)
@options.qrels
@click.option(
    "--model", metavar="ID", help="Model id or folder.  [default: the collection's; all-MiniLM-L6-v2]"
)
@click.option(
    "--head",
    metavar="DIR",
    help="Try trained layers, too: folder of a head, or own, the one that comes for the model.",
)
@_asked
@options.count(
    "--candidates",
    default=200,
    least=10,
    help="Passages that CLS vectors, and as many that words find for each query.",
)
@options.count(
    "--max-passages",
    "most_passages",
    default=10_000,
    least=20,
    help="Of more, a random sample, with all that answer.",
)
@options.count("--max-queries", "most_queries", default=300, least=2, help="Of more, a random sample.")
@options.keep_own
@click.option(
    "--cache",
    type=options.FOLDER,
    help="Keeps the encoder's output and all trials, to go on with.  [default: tune-NAME]",
)
@options.output_file("--html", "Draw size against quality, as a page to point at.")
@options.output_file("--save", "Write the best recipe, for --recipe FILE.json.", ".json")
@click.option("--skip-bad", is_flag=True, help="Leave unusable records of SOURCE out.")
@options.json
def tune_command(
    source: Path | None,
    budget: float,
    collection: str | None,
    path: str | None,
    url: str | None,
    split: str | None,
    examples: Path | None,
    model: str | None,
    head: str | None,
    asked: dict[str, str | None],
    candidates: int,
    cache: Path | None,
    html: Path | None,
    save: Path | None,
    skip_bad: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Find the best recipe that fits a budget of bytes, on your own texts.

    SOURCE is a BEIR folder, or whatever connector ingest takes. Encodes once, tries reductions and codecs of
    centred tokens, fused with words and CLS vectors, with feedback, as recipe default does; then what is near
    the best ones, weights, alignments and feedback, too. Prints the frontier: what no other recipe beats with
    as few bytes. Without judgements a recipe counts by how many of the ten best documents it shares with what
    every token at full width finds, all else alike; without queries, sentences of the passages stand in.

    Ctrl-C shows what was found until then. The same command goes on from there, and after a kill, too.
    """
    from connector.compression.heads import OWN
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.evaluation.beir import load_examples
    from connector.evaluation.tuning import task_of_source, tune

    apart = {"--path": path, "--url": url} if collection is None else {"--split": split, "--model": model}
    for option in (option for option, value in apart.items() if value is not None):
        here, there = ("--collection", "SOURCE") if collection is None else ("SOURCE", "--collection")
        raise click.UsageError(f"{option} goes with {here}, not with {there}")
    given["examples"] = None if examples is None else load_examples(examples)
    if source is None:
        task, encoder = _of_collection(str(collection), options.where(path, url), given)
    else:
        task = task_of_source(source, split=split, skip_bad=skip_bad, **given)
        encoder = load_encoder(model or DEFAULT_MODEL)
    with steps_bar() as progress:
        tuning = tune(
            task,
            encoder,
            cache or Path(f"tune-{task.name}"),
            budget=budget,
            candidates=candidates,
            head=head if head in (None, OWN) else str(Path(head).resolve()),
            asked=asked,
            progress=progress,
        )
    if html is not None:
        from connector.cli.pages import tuning_page

        write(html, tuning_page(tuning))
    if save is not None:
        write(save, _best(tuning))
    output(as_json, tuning_json(tuning), tuning_lines(tuning, save))


def _of_collection(name: str, at: dict[str, Any], given: dict[str, Any]) -> tuple[Task, Encoder]:
    from connector.api.connector import Connector
    from connector.evaluation.tuning import task_of_collection

    with Connector.open(name, **at) as connector:
        return task_of_collection(connector.collection, **given), connector.encoder


def _best(tuning: Tuning) -> str:
    """The best recipe as a file."""
    if tuning.best is None:
        raise InputError(
            f"no recipe fits {tuning.budget:,.0f} bytes a passage, so none is saved; give a larger budget"
        )
    summary = f"the best found for {tuning.task.name} in {tuning.budget:,.0f} bytes a passage"
    recipe = tuning.best.recipe.model_copy(update={"summary": summary})
    return json.dumps(recipe.model_dump(exclude_none=True), indent=2, ensure_ascii=False) + "\n"
