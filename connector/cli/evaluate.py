"""`connector evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from connector.cli.options import candidates as candidate_options
from connector.cli.options import json_option, recipe_parts
from connector.core.errors import InputError
from connector.terminal import print_evaluation, print_json, progress_bar


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
