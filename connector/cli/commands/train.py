"""`connector train`."""

from __future__ import annotations

from pathlib import Path

import click

from connector.cli.render import print_json, steps_bar


@click.group("train")
def train_group() -> None:
    """Train small heads on a frozen encoder."""


@train_group.command("saliency")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder of the head."
)
@click.option("--model", metavar="ID", help="Model id or folder.  [default: all-MiniLM-L6-v2]")
@click.option("--split", default="train", show_default=True, help="Judgements to train on: qrels/SPLIT.tsv.")
@click.option(
    "--width",
    "widths",
    multiple=True,
    type=click.IntRange(8),
    metavar="D",
    help="Train a projection to D dimensions, too (linear-D in codecs); may be given several times.",
)
@click.option("--no-saliency", is_flag=True, help="Train the projections alone.")
@click.option("--steps", default=300, show_default=True, type=click.IntRange(1), help="Steps of each part.")
@click.option("--batch", default=64, show_default=True, type=click.IntRange(2), help="Queries a step.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of all that is drawn.")
@click.option(
    "--share",
    "shares",
    multiple=True,
    type=click.FloatRange(0, min_open=True),
    metavar="W",
    help="How often each FOLDER is drawn from, in their order.  [default: √ of its queries]",
)
@click.option("--passages", type=click.IntRange(1), metavar="N", help="Read N passages of each corpus.")
@click.option(
    "--reduction", metavar="STEPS", help="Reduce passages before the head sees them, such as ward-4."
)
@click.option(
    "--negatives",
    type=click.Choice(["dense", "lexical", "both"]),
    default="dense",
    show_default=True,
    help="What finds wrong passages that are near: CLS vectors, words (BM25) or both.",
)
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: the best there is]")
@click.option(
    "--cache", type=click.Path(file_okay=False, path_type=Path), help="Keep the encoder's output here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def train_saliency_command(
    folders: tuple[Path, ...],
    out: Path,
    model: str | None,
    split: str,
    widths: tuple[int, ...],
    no_saliency: bool,
    steps: int,
    batch: int,
    seed: int,
    shares: tuple[float, ...],
    passages: int | None,
    reduction: str | None,
    negatives: str,
    device: str | None,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Train what tokens count, and projections of them, on BEIR FOLDERS.

    The encoder stays as it is; the head learns from its output on each folder's training queries. Killed and
    run again, the command goes on where it was. DIR/training/log.jsonl has the losses, a JSON object a line.
    The last line says how to use the head.
    """
    from connector.compression.reduction import parse_reduction
    from connector.core.errors import InputError
    from connector.encoders import DEFAULT_MODEL, load_encoder
    from connector.encoders.cache import CachedEncoder
    from connector.evaluation.beir import load_judged
    from connector.evaluation.training import HeadTraining, load_training_set, train_head

    training = HeadTraining(
        widths=widths, saliency=not no_saliency, steps=steps, batch=batch, seed=seed, shares=shares
    )
    if shares and len(shares) != len(folders):
        raise InputError(f"{len(shares)} shares for {len(folders)} folders; give --share once for each")
    steps_of_passages = None if reduction is None else parse_reduction(reduction)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {str(out)!r} is a file; give a folder")
    for folder in folders:
        load_judged(folder, split)
    encoder = load_encoder(model or DEFAULT_MODEL, device)
    reading = encoder if cache is None else CachedEncoder(encoder, cache)
    with steps_bar() as progress:
        sets = []
        for number, folder in enumerate(folders):
            progress("encoding", number, len(folders))
            sets.append(
                load_training_set(
                    folder,
                    reading,
                    split=split,
                    passages=passages,
                    reduction=steps_of_passages,
                    negatives=negatives,  # type: ignore[arg-type]
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
    if as_json:
        print_json({"head": str(out), "sets": {it.name: len(it) for it in sets}, "steps": steps})
        return
    click.echo(f"{out}: trained on {', '.join(f'{it.name} ({len(it):,} queries)' for it in sets)}")
    click.echo(f"losses: {out / 'training' / 'log.jsonl'}")
    click.echo(f"use it: connector ingest SOURCE --collection NAME --path DIR {_use(out)}")


def _use(head: Path) -> str:
    """Options of a collection that uses all that a head has."""
    parts = sorted((it.name for it in head.iterdir() if (it / "config.json").exists()), reverse=True)
    layer = max((it for it in parts if it.startswith("linear-")), key=len, default=None)
    if "saliency" not in parts:
        return f"--recipe compact --codec {layer}+binary --head {head}"
    codec = "" if "linear-128" in parts else f" --codec {layer or 'pca-128'}+binary"
    return f"--recipe aligner{codec} --head {head}"
