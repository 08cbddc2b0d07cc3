"""`connector train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import output, steps_bar
from connector.core.errors import InputError


@main.group("train")
def train_group() -> None:
    """Train small heads on a frozen encoder."""


@train_group.command("saliency")
@options.one_of(False, qrels="--qrels FILE", split="--split")
@options.source("folders", nargs=-1, required=True)
@click.option("--out", required=True, metavar="DIR", type=options.FOLDER, help="Folder of the head.")
@options.model
@click.option("--split", help="Judgements to train on: qrels/SPLIT.tsv.  [default: train]")
@options.judged_files
@click.option(
    "--width",
    "widths",
    multiple=True,
    type=parameters.Count(8),
    metavar="D",
    help="Train a projection to D dimensions, too (linear-D in codecs); may be given several times.",
)
@click.option("--saliency/--no-saliency", default=True, help="Or train the projections alone.")
@options.count("--steps", default=300, help="Steps of each part.")
@options.count("--batch", default=64, least=2, help="Queries a step.")
@options.count("--seed", default=0, least=0, help="Of all that is drawn.")
@click.option(
    "--share",
    "shares",
    multiple=True,
    type=click.FloatRange(0, min_open=True),
    metavar="W",
    help="How often each FOLDER is drawn from, in their order.  [default: square root of its queries]",
)
@options.count("--passages", help="Read N passages of each corpus.")
@click.option(
    "--reduction", metavar="STEPS", help="Reduce passages before the head sees them, such as ward-4."
)
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: the best there is]")
@options.cache
@options.json
def train_saliency_command(
    folders: tuple[Path, ...],
    out: Path,
    model: str | None,
    split: str | None,
    queries: Path | None,
    qrels: Path | None,
    passages: int | None,
    reduction: str | None,
    device: str | None,
    cache: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train what tokens count, and projections of them, on BEIR FOLDERS.

    With --queries and --qrels one FOLDER is enough, and it is whatever connector ingest takes.

    The encoder stays as it is; the head learns from its output on each folder's training queries. Killed and
    run again, the command goes on where it was. DIR/training/log.jsonl has the losses, a JSON object a line.
    The last line says how to use the head.
    """
    from connector.compression.reduction import parse_reduction
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.encoders.cache import CachedEncoder
    from connector.evaluation.beir import judged_queries, qrels_file, queries_file
    from connector.evaluation.training import HeadTraining, load_training_set, train_head

    training = HeadTraining(**settings)
    shares, steps = training.shares, training.steps
    if shares and len(shares) != len(folders):
        raise InputError(f"{len(shares)} shares for {len(folders)} folders; give --share once for each")
    if len(folders) > 1 and (queries or qrels):
        raise InputError(f"--queries and --qrels go with one folder, and there are {len(folders)}; give one")
    chain = None if reduction is None else parse_reduction(reduction)
    split = split or "train"
    judged = [
        judged_queries(queries or queries_file(folder), qrels or qrels_file(folder, split))
        for folder in folders
    ]
    encoder = load_encoder(model or DEFAULT_MODEL, device)
    reading = encoder if cache is None else CachedEncoder(encoder, cache)
    with steps_bar() as progress:
        sets = []
        for number, (folder, its) in enumerate(zip(folders, judged, strict=True)):
            progress("encoding", number, len(folders))
            sets.append(
                load_training_set(
                    folder, reading, split=split, judged=its, passages=passages, reduction=chain
                )
            )
        progress("encoding", len(folders), len(folders))
        train_head(
            sets,
            out,
            training,
            encoder=encoder.fingerprint,
            model=encoder.name,
            device=encoder.device,
            progress=lambda part, step: progress(part, step, steps),
        )
    lines = [
        f"{out}: trained on {', '.join(f'{it.name} ({len(it):,} queries)' for it in sets)}",
        f"losses: {out / 'training' / 'log.jsonl'}",
        f"use it: connector ingest SOURCE --collection NAME --path DIR {_use(out)}",
    ]
    output(as_json, {"head": str(out), "sets": {it.name: len(it) for it in sets}, "steps": steps}, lines)


def _use(head: Path) -> str:
    """Options of a collection that uses all that a head has."""
    parts = sorted((it.name for it in head.iterdir() if (it / "config.json").exists()), reverse=True)
    layer = max((it for it in parts if it.startswith("linear-")), key=len, default=None)
    if "saliency" not in parts:
        return f"--recipe default --codec {layer}+binary --head {head}"
    codec = "" if "linear-128" in parts else f" --codec {layer or 'pca-128'}+binary"
    return f"--recipe aligner{codec} --head {head}"
