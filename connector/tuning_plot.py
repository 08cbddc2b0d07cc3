"""Size against quality as a picture, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from connector.errors import InputError, MissingExtra
from connector.tuning import Trial, Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _BEST, _LINE = "#1b1b1f", "#8a8a96", "#c2410c", "#1d4ed8"


def plot(tuning: Tuning, file: Path) -> None:
    """Draw all trials, the frontier with its intervals, the budget, and the two ends, as a PNG.

    Args:
        tuning: at least one trial.
        file: to write.

    Raises:
        MissingExtra: matplotlib is not installed.
        InputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    _ends(axes, tuning)
    _trials(axes, tuning)
    axes.axvline(tuning.budget, color=_INK, linestyle=":", linewidth=1)
    axes.annotate(
        f"budget {tuning.budget:,.0f} bytes",
        (tuning.budget, 0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 6),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        color=_INK,
        fontsize=9,
    )
    axes.set_xlabel("bytes a passage, all vectors (logarithmic)")
    axes.set_ylabel(tuning.measure)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(
        f"{tuning.task.name}: {len(tuning.task.queries):,} {tuning.task.asked}, "
        f"{len(tuning.task.passages):,} passages",
        loc="left",
        fontsize=11,
    )
    axes.grid(color="#e4e4ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    try:
        figure.savefig(file, dpi=150, format="png")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; give another file") from error


def _ends(axes: Axes, tuning: Tuning) -> None:
    """Every token and none as lines, as the former lie far to the right."""
    for trial, name in (
        (tuning.full, "every token, full width"),
        (tuning.dense, "CLS vector alone, float32"),
    ):
        axes.axhline(trial.mean, color=_FAINT, linestyle="--", linewidth=1)
        axes.annotate(
            f"{name}: {trial.bytes_per_passage:,.0f} bytes",
            (0, trial.mean),
            xycoords=("axes fraction", "data"),
            xytext=(4, 3),
            textcoords="offset points",
            color=_FAINT,
            fontsize=9,
        )


def _trials(axes: Axes, tuning: Tuning) -> None:
    others = [it for it in tuning.trials if it not in tuning.frontier]
    axes.scatter(*_places(others), s=12, color=_FAINT, alpha=0.6, label="tried")
    found = tuning.frontier
    errors = [
        [it.mean - it.interval[0] for it in found],
        [it.interval[1] - it.mean for it in found],
    ]
    axes.errorbar(
        *_places(found),
        yerr=errors,
        color=_LINE,
        marker="o",
        markersize=5,
        linewidth=1.5,
        elinewidth=0.7,
        ecolor="#93b4f5",
        capsize=2,
        label="best for their size, with 95 % bootstrap intervals",
    )
    chosen = tuning.best
    if chosen is not None:
        axes.scatter(
            *_places([chosen]), s=90, color=_BEST, zorder=5, label=f"best in the budget: {chosen.recipe.name}"
        )


def _places(trials: list[Trial]) -> tuple[list[float], list[float]]:
    return [it.bytes_per_passage for it in trials], [it.mean for it in trials]
