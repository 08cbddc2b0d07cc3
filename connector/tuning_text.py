"""Size against quality on a terminal, and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from connector.evaluation.tuning import Trial, Tuning
from connector.evaluation.tuning.task import MANY_QUERIES
from connector.terminal import plain


def tuning_json(tuning: Tuning) -> dict[str, Any]:
    """What a sweep found, without the values of each query."""
    return {
        "dataset": tuning.task.name,
        "model": tuning.model,
        "asked": tuning.task.asked,
        "queries": len(tuning.task.queries),
        "passages": len(tuning.task.passages),
        "documents": tuning.task.documents,
        "candidates": tuning.candidates,
        "measure": tuning.measure,
        "budget": tuning.budget,
        "dense": _trial_json(tuning.dense),
        "full": _trial_json(tuning.full),
        "best": None if tuning.best is None else _trial_json(tuning.best),
        "smallest_alike": None if tuning.smallest_alike is None else _trial_json(tuning.smallest_alike),
        "frontier": [_trial_json(it) for it in tuning.frontier],
        "tried": len(tuning.trials),
        "left_out": tuning.left_out,
        "finished": tuning.finished,
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    low, high = trial.interval
    return {
        "bytes_per_passage": round(trial.bytes_per_passage, 1),
        "tokens_per_passage": round(trial.tokens_per_passage, 2),
        "mean": round(trial.mean, 5),
        "interval": [round(low, 5), round(high, 5)],
        "ms": None if trial.ms is None else round(trial.ms, 3),
        "recipe": trial.recipe.model_dump(exclude_none=True),
    }


def print_tuning(tuning: Tuning, saved: Path | None) -> None:
    """The frontier, fewest bytes first, then the CLS vector alone and every token."""
    task = tuning.task
    sample = "" if task.sampled == task.documents else f" of {task.sampled:,} of {task.documents:,} documents"
    click.echo(f"{task.name}, {len(task.queries):,} {task.asked}, {len(task.passages):,} passages{sample}")
    click.echo(f"{tuning.model}\n")
    header = f"{'bytes':>9}  {tuning.measure:>12}  {'95 % interval':>13}  {'of full':>7}  {'ms':>5}  recipe"
    click.echo(click.style(header, bold=True))
    for trial in tuning.frontier:
        _print_trial(tuning, trial, " ◄ best in the budget" if trial is tuning.best else "")
    _print_trial(tuning, tuning.dense, " (the CLS vector alone)")
    _print_trial(tuning, tuning.full, " (every token: full)")
    click.echo(f"\n{len(tuning.trials):,} recipes tried, up to {2 * tuning.budget:,.0f} bytes a passage.")
    for reason in tuning.left_out:
        click.echo(f"Not tried: {plain(reason)}")
    if not tuning.finished:
        click.echo("The time was over before all was tried or timed; the same command goes on.")
    _print_choice(tuning, saved)


def _print_trial(tuning: Tuning, trial: Trial, note: str) -> None:
    low, high = trial.interval
    ms = "–" if trial.ms is None else f"{trial.ms:.1f}"
    share = trial.mean / tuning.full.mean if tuning.full.mean else 0.0
    between = f"{low:.3f}–{high:.3f}"
    click.echo(
        f"{trial.bytes_per_passage:>9,.0f}  {trial.mean:>12.4f}  {between:>13}  {share:>7.1%}  {ms:>5}  "
        f"{trial.recipe.name}{note}"
    )


def _print_choice(tuning: Tuning, saved: Path | None) -> None:
    best, alike = tuning.best, tuning.smallest_alike
    if not tuning.trials:
        return
    if len(tuning.task.queries) < MANY_QUERIES:
        click.echo(f"{len(tuning.task.queries)} queries are few to choose by; {MANY_QUERIES} tell more.")
    if best is None or alike is None:
        click.echo("None of them fits the budget; give a larger one.")
        return
    if alike is not best:
        click.echo(
            f"These queries do not show that {alike.recipe.name}, {alike.bytes_per_passage:,.0f} bytes, is "
            "worse than the best (95 %, query by query)."
        )
    if saved is None:
        click.echo("--save FILE.json writes the best recipe, which --recipe FILE.json takes.")
    else:
        click.echo(f"Use it: connector ingest SOURCE --collection NAME --path DIR --recipe {saved}")
