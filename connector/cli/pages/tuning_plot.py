"""Size against quality as a picture, drawn by matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from connector.core.errors import InputError, MissingExtra
from connector.evaluation.tuning import Trial, Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_INK, _FAINT, _BEST, _LINE = "#1b1b1f", "#8a8a96", "#c2410c", "#1d4ed8"


def check_plot() -> None:
    """Raises MissingExtra if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error


def plot(tuning: Tuning, file: Path) -> None:
    """Draw all trials, the frontier with its intervals, the budget, and the two ends, as a PNG.

    Args:
        tuning: at least one trial.
        file: to write.

    Raises:
        MissingExtra: matplotlib is not installed.
        InputError: the file cannot be written.
    """
    check_plot()
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    _ends(axes, tuning)
    _trials(axes, tuning)
    axes.axvline(tuning.budget, color=_INK, linestyle=":", linewidth=1)
    axes.annotate(
        f"budget {tuning.budget:,.0f} bytes",
        (tuning.budget, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=_INK,
        fontsize=9,
    )
    axes.set_xlabel("bytes a passage, all vectors (logarithmic)")
    axes.set_ylabel(tuning.measure)
    axes.xaxis.set_major_locator(FixedLocator(_marks(tuning)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    task = tuning.task
    axes.set_title(
        f"{task.name}: {len(task.queries):,} {task.asked}, {len(task.passages):,} passages",
        loc="left",
        fontsize=11,
    )
    axes.grid(color="#e4e4ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    try:
        figure.savefig(file, dpi=150, format="png")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; give another file") from error


def _marks(tuning: Tuning) -> list[float]:
    """Powers of two, and where there are few of them what lies halfway."""
    sizes = [tuning.budget, *(it.bytes_per_passage for it in tuning.trials)]
    low, high = math.floor(math.log2(min(sizes))), math.ceil(math.log2(max(sizes)))
    between = [1.5 * 2.0**power for power in range(low, high)] if high - low < 5 else []
    return [*(2.0**power for power in range(low, high + 1)), *between]


def _ends(axes: Axes, tuning: Tuning) -> None:
    """Every token and none as lines, as the former lie far to the right."""
    for trial, name in (
        (tuning.full, "every token, full width"),
        (tuning.dense, "CLS vector alone, float32"),
    ):
        axes.axhline(trial.mean, color=_FAINT, linestyle="--", linewidth=1)
        axes.annotate(
            f"{name}: {trial.bytes_per_passage:,.0f} bytes",
            (1, trial.mean),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            color=_INK,
            fontsize=9,
            zorder=0.9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
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
