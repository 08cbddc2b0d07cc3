"""`connector tune`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli.commands.evaluate import load_examples
from connector.cli.options import json_option, where
from connector.cli.render import print_json, steps_bar
from connector.core.errors import InputError

if TYPE_CHECKING:
    from connector.encoders import Encoder
    from connector.evaluation.tuning import Task, Tuning


_UNITS = {"": 1, "B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2}


_ENDINGS = {"plot": ".png", "save": ".json"}


_FILE = click.Path(dir_okay=False, path_type=Path)


class Size(click.ParamType[float]):
    """Bytes, such as 768, 768B or 1.5KB; a KB has 1,024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
        if match is None or match[2].upper() not in _UNITS:
            self.fail(f"{value!r} is no size; give bytes a passage, such as 768, 1KB or 2MB", param, ctx)
        return float(match[1]) * _UNITS[match[2].upper()]


@click.command("tune")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--budget", required=True, type=Size(), help="Bytes a passage, such as 768 or 1KB (1,024).")
@click.option("--collection", metavar="NAME", help="In place of SOURCE: the texts of a collection.")
@click.option("--path", metavar="DIR", help="Of the collection: folder of an embedded Qdrant.")
@click.option("--url", metavar="URL", help="Of the collection: address of a Qdrant server.")
@click.option("--split", help="Judgements of SOURCE to tune by: qrels/SPLIT.tsv.  [default: dev, else train]")
@click.option(
    "--examples",
    type=_FILE,
    metavar="FILE",
    help="Queries, each with the id of a document that answers it, as for connector adapt.",
)
@click.option(
    "--queries", type=_FILE, metavar="FILE", help="Queries that nobody has judged: .jsonl with _id and text."
)
@click.option(
    "--model", metavar="ID", help="Model id or folder.  [default: the collection's; all-MiniLM-L6-v2]"
)
@click.option(
    "--head", metavar="DIR", help="Folder of a trained head.  [default: the one that comes for the model]"
)
@click.option(
    "--candidates",
    default=200,
    show_default=True,
    type=click.IntRange(10),
    help="Passages that CLS vectors find for each query.",
)
@click.option(
    "--max-passages",
    default=10_000,
    show_default=True,
    type=click.IntRange(20),
    help="Of more, a random sample, with all that answer.",
)
@click.option(
    "--max-queries", default=300, show_default=True, type=click.IntRange(2), help="Of more, a random sample."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Stop after about so many; the same command goes on.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keeps the encoder's output and all trials, to go on with.  [default: tune-NAME]",
)
@click.option("--plot", type=_FILE, metavar="FILE.png", help="Draw size against quality (extra plot).")
@click.option("--html", type=_FILE, metavar="FILE", help="The same as a page to point at.")
@click.option(
    "--save", type=_FILE, metavar="FILE.json", help="Write the best recipe, for --recipe FILE.json."
)
@click.option("--skip-bad", is_flag=True, help="Leave unusable records of SOURCE out.")
@json_option
def tune_command(
    source: Path | None,
    budget: float,
    collection: str | None,
    path: str | None,
    url: str | None,
    split: str | None,
    examples: Path | None,
    queries: Path | None,
    model: str | None,
    head: str | None,
    candidates: int,
    max_passages: int,
    max_queries: int,
    minutes: float | None,
    cache: Path | None,
    plot: Path | None,
    html: Path | None,
    save: Path | None,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Find the best recipe that fits a budget of bytes, on your own texts.

    SOURCE is a BEIR folder, or whatever connector ingest takes. Encodes once, tries reductions, codecs and
    alignments, then what is near the best ones, and prints the frontier: what no other recipe beats with as
    few bytes. Without judgements a recipe counts by how many of the ten best documents it shares with MaxSim
    over every token; without queries, sentences of the passages stand in for them.

    Cut off, the same command goes on where it was.
    """
    from connector.cli.pages.tuning_plot import check_plot
    from connector.cli.pages.tuning_plot import plot as draw
    from connector.cli.render import print_tuning, tuning_json
    from connector.compression.heads import OWN
    from connector.evaluation.tuning import tune

    _check(
        source,
        collection,
        path=path,
        url=url,
        split=split,
        model=model,
        examples=examples,
        queries=queries,
    )
    _check_writable(plot=plot, html=html, save=save)
    if plot is not None:
        check_plot()
    pairs = None if examples is None else load_examples(examples)
    sizes = {"most_passages": max_passages, "most_queries": max_queries}
    if source is not None:
        from connector.encoders import DEFAULT_MODEL, load_encoder
        from connector.evaluation.tuning import task_of_source

        task = task_of_source(
            source, split=split, examples=pairs, queries=queries, skip_bad=skip_bad, **sizes
        )
        encoder = load_encoder(model or DEFAULT_MODEL)
    else:
        task, encoder = _of_collection(str(collection), where(path, url), pairs, queries, sizes)
    with steps_bar() as progress:
        tuning = tune(
            task,
            encoder,
            cache or Path(f"tune-{task.name}"),
            budget=budget,
            candidates=candidates,
            head=OWN if head is None else str(Path(head).resolve()),
            minutes=minutes,
            progress=progress,
        )
    if plot is not None:
        draw(tuning, plot)
    if html is not None:
        from connector.cli.pages.tuning import page

        html.write_text(page(tuning), encoding="utf-8")
    if save is not None:
        _save(tuning, save)
    for file in (plot, html, save):
        if file is not None:
            click.echo(f"wrote {file}", err=True)
    if as_json:
        print_json(tuning_json(tuning))
    else:
        print_tuning(tuning, save)


def _of_collection(
    name: str,
    at: dict[str, Any],
    examples: list[tuple[str, str]] | None,
    queries: Path | None,
    sizes: dict[str, int],
) -> tuple[Task, Encoder]:
    from connector.api.connector import Connector
    from connector.evaluation.tuning import task_of_collection

    with Connector.open(name, **at) as connector:
        task = task_of_collection(connector.collection, examples=examples, queries=queries, **sizes)
        return task, connector.encoder


def _check(source: Path | None, collection: str | None, **options: Any) -> None:
    """Raises UsageError unless the options go together."""
    if (source is None) == (collection is None):
        raise click.UsageError("give one of SOURCE and --collection NAME")
    others = ("split", "model") if source is None else ("path", "url")
    for option in others:
        if options[option] is not None:
            there, here = ("--collection", "SOURCE") if source is None else ("SOURCE", "--collection")
            raise click.UsageError(f"--{option} goes with {here}, not with {there}")
    if None not in (options["examples"], options["queries"]):
        raise click.UsageError("give one of --examples FILE and --queries FILE")
    if options["examples"] is not None and options["split"] is not None:
        raise click.UsageError("give one of --examples FILE and --split")


def _check_writable(**files: Path | None) -> None:
    """Raises before any work is done that could not be written."""
    for option, file in files.items():
        if file is None:
            continue
        if option in _ENDINGS and file.suffix.lower() != _ENDINGS[option]:
            raise InputError(f"--{option} {str(file)!r}: give a file that ends in {_ENDINGS[option]}")
        if not file.parent.is_dir():
            raise InputError(
                f"--{option} {str(file)!r}: there is no folder {str(file.parent)!r}; make it first"
            )
        if not os.access(file.parent, os.W_OK) or file.is_dir():
            raise InputError(f"--{option} {str(file)!r} cannot be written; give another file")


def _save(tuning: Tuning, file: Path) -> None:
    if tuning.best is None:
        raise InputError(
            f"no recipe fits {tuning.budget:,.0f} bytes a passage, so none is saved; give a larger budget"
        )
    recipe = tuning.best.recipe.model_copy(
        update={"summary": f"the best found for {tuning.task.name} in {tuning.budget:,.0f} bytes a passage"}
    )
    file.write_text(recipe.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
