"""What the commands show a person: progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from connector.api.attach import Planned
    from connector.api.connector import Connector
    from connector.api.stats import Stats
    from connector.collection.documents.writer import IngestReport
    from connector.collection.recipe import Recipe
    from connector.core.registry import Method
    from connector.core.types import Hit, Hits
    from connector.evaluation.adaptation import Adaptation, Measured
    from connector.evaluation.evaluate import Evaluation
    from connector.evaluation.tuning import Trial, Tuning


_BAD_SHOWN = 20


_SNIPPET = 160


_WEIGHTY = 0.6
"""Of the largest part of a question's word in a score, the least of a word whose matches are marked."""


_BEST = 0.9
"""Of the part of its best match, the least of the matches that are marked."""


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], Callable[[IngestReport], None]]]:
    """A bar on stderr, if that is a terminal; told the total, it gives what to call with each report."""
    with steps_bar() as show:

        def start(total: int) -> Callable[[IngestReport], None]:
            show(what, 0, total)
            return lambda report: show(what, report.documents + report.unchanged, total)

        yield start


@contextlib.contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on stderr, if that is a terminal; gives what to call with a part's name, steps done and in all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bar.add_task(part, total=total)
            bar.update(tasks[part], completed=done, total=total)

        yield show


def ingest_json(report: IngestReport) -> dict[str, Any]:
    """The report with its derived figures."""
    return {
        **dataclasses.asdict(report),
        "seconds": round(report.seconds, 3),
        "bytes_per_passage": report.bytes_per_passage,
        "documents_per_second": round(report.documents_per_second, 2),
    }


def hits_json(query: str, hits: Hits) -> dict[str, Any]:
    """The hits of a query."""
    fields = ("id", "score", "text", "title", "metadata")
    return {
        "query": query,
        "hits": [{field: getattr(hit, field) for field in fields} for hit in hits],
        "ms": {key: round(value, 3) for key, value in hits.ms.items()},
    }


def adaptation_json(adaptation: Adaptation) -> dict[str, Any]:
    """What was tried, chosen and estimated."""
    return {
        "queries": adaptation.queries,
        "missing": list(adaptation.missing),
        "before": _measured_json(adaptation.before),
        "chosen": _measured_json(adaptation.chosen),
        "leave_one_out": round(adaptation.leave_one_out, 5),
        "saved": adaptation.saved,
        "strategies": [_measured_json(result) for result in adaptation.results],
    }


def _measured_json(result: Measured) -> dict[str, Any]:
    alignment, weight = result.strategy.alignment, result.strategy.cls_weight
    return {
        "alignment": None if alignment is None else alignment.spec,
        "cls_weight": weight,
        "nDCG@10": round(result.ndcg, 5),
    }


def methods_json(steps: Mapping[str, Sequence[Method[Any, Any]]]) -> dict[str, Any]:
    """The steps of each side's reductions."""
    fields = ("form", "summary", "source")
    return {
        side: [{field: getattr(method, field) for field in fields} for method in methods]
        for side, methods in steps.items()
    }


def print_attachment(planned: Planned) -> None:
    """What attaching to a collection would do."""
    there = f"; {planned.filled:,} have it" if planned.filled else ""
    click.echo(f"{planned.points:,} points of {planned.collection!r} would get {planned.recipe!r}{there}")
    _row("payloads", planned.layout)
    _row("the first text", plain(_snippet(planned.text, _SNIPPET)))
    _row("bytes a passage", f"{planned.bytes_per_passage:,.0f} for vectors, beside those that are there")
    _row("encoding", f"about {_duration(planned.seconds)}")


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is small and above 1."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def print_ingest(report: IngestReport, collection: str) -> None:
    """The report of an ingest."""
    unchanged = f", {report.unchanged:,} were there unchanged" if report.unchanged else ""
    click.echo(f"{report.documents:,} documents into {collection!r}{unchanged}")
    if report.pruned:
        _row("pruned", f"{report.pruned:,} documents that are not in the source")
    if report.passages:
        _row("passages", f"{report.passages:,}")
        _row("tokens", f"{report.tokens_before:,} encoded, {report.tokens_after:,} stored")
        _row("bytes a passage", _sizes(report.bytes_per_passage))
        _row("documents a second", f"{report.documents_per_second:,.1f}")
    if report.truncated:
        _row(
            "truncated",
            f"{report.truncated:,} passages were longer than the model's window and lost "
            f"{report.tokens_lost:,} tokens; split them with --chunk-tokens",
        )
    if report.bad:
        _row("skipped", f"bad records: {len(report.bad):,}")
        for line in report.bad[:_BAD_SHOWN]:
            click.echo(f"    {line}")
        if len(report.bad) > _BAD_SHOWN:
            click.echo(f"    and {len(report.bad) - _BAD_SHOWN:,} more; --json names all")
    for id_, reason in list(report.refused.items())[:_BAD_SHOWN]:
        _row("refused", f"document {plain(id_)!r}: {plain(reason)}")
    if len(report.refused) > _BAD_SHOWN:
        click.echo(f"    and {len(report.refused) - _BAD_SHOWN:,} more; --json names all")


def print_hits(hits: Hits) -> None:
    """Hits on stdout, their times on stderr."""
    if not hits:
        click.echo("No hits.")
    for place, hit in enumerate(hits, 1):
        title = f"  {hit.title}" if hit.title and hit.title != hit.id else ""
        click.echo(f"{place:>3}. {hit.score:8.4f}  {click.style(plain(hit.id), bold=True)}{plain(title)}")
        click.echo(f"               {_snippet(hit.text, _SNIPPET)}")
    click.echo(
        f"{hits.ms['total']:.1f} ms: encode {hits.ms['encode']:.1f}, candidates {hits.ms['candidates']:.1f}, "
        f"rerank {hits.ms['rerank']:.1f}",
        err=True,
    )


def print_evaluation(result: Evaluation) -> None:
    """Measures, bytes and times of an evaluation."""
    click.echo(
        f"{result.dataset}, {result.queries:,} queries, {result.documents:,} documents; "
        f"{result.recipe}, {result.model}"
    )
    if result.scored_by is not None:
        _row("scored by", result.scored_by)
    for name, value in result.measures.items():
        _row(name, f"{value:.4f}")
    _row("bytes a passage", _sizes(result.bytes_per_passage))
    at_rest = result.at_rest_per_passage
    _row("at rest", f"{at_rest['data']:,.0f} bytes a passage, and {at_rest['log']:,.0f} write-ahead log")
    _row("tokens a passage", f"{result.tokens_per_passage:,.1f}")
    _row("query ms", f"p50 {result.query_ms['p50']:.2f}, p95 {result.query_ms['p95']:.2f}")
    _row("documents a second", f"{result.documents_per_second:,.1f}")


def print_stats(stats: Stats) -> None:
    """What a collection holds."""
    click.echo(stats.collection)
    _row("documents", f"{stats.documents:,}")
    _row("passages", f"{stats.passages:,}")
    _row("model", stats.model)
    _row("recipe, layout", f"{stats.recipe}, {stats.layout}")
    if stats.scored_by is not None:
        _row("scored by", stats.scored_by)
    _row("bytes a passage", _sizes(stats.bytes_per_passage))
    if stats.at_rest_bytes is None:
        _row("at rest", "a server does not tell")
    else:
        _row("at rest", f"{stats.at_rest_bytes:,} bytes, of them {stats.log_bytes:,} write-ahead log")


def print_adaptation(adaptation: Adaptation) -> None:
    """nDCG@10 of all that was tried, an alignment a row; then what is chosen and what to expect of it."""
    table: dict[str, dict[str, str]] = {}
    for result in adaptation.results:
        strategy = result.strategy
        name = "maxsim" if strategy.alignment is None else strategy.alignment.spec
        share = "no CLS" if strategy.cls_weight is None else f"CLS {strategy.cls_weight:g}"
        table.setdefault(name, {})[share] = f"{result.ndcg:.4f}"
    shares = sorted({share for row in table.values() for share in row}, key=lambda it: (it != "no CLS", it))
    _row("nDCG@10", "".join(share.rjust(10) for share in shares))
    for name in sorted(table, key=lambda name: ("%" in name, float(re.sub("[^0-9.]", "", name) or 0))):
        _row(name, "".join(table[name].get(share, "").rjust(10) for share in shares))
    before, chosen = adaptation.before, adaptation.chosen
    _row("before", f"{before.ndcg:.4f}, {before.strategy.name}")
    if chosen is before:
        _row("chosen", "the same; nothing else is better by more than chance explains")
    else:
        _row("chosen", f"{chosen.ndcg:.4f}, {chosen.strategy.name}")
    _row("leave one out", f"{adaptation.leave_one_out:.4f}, what to expect for other queries")
    if chosen is not before and adaptation.leave_one_out <= before.ndcg:
        _row("", "no better than before: by these examples the gain may be luck; give more")
    found = adaptation.queries - len(adaptation.missing)
    _row("examples", f"{adaptation.queries:,} queries, {found:,} with an answer among their candidates")
    for query in adaptation.missing[:_BAD_SHOWN]:
        click.echo(f"    none: {_snippet(query, _SNIPPET)}")
    if adaptation.saved:
        click.echo("Saved: searches of this collection follow it from now on.")
    elif chosen is not before:
        click.echo("Not saved; --save does.")


def print_recipe(recipe: Recipe) -> None:
    """A recipe in three lines."""
    click.echo(f"{click.style(recipe.name, bold=True)}: {recipe.summary}")
    parts = {"layout": recipe.layout, "reduction": recipe.reduction, "query": recipe.query_reduction}
    head = "of the model, else PCA" if recipe.head == "own" and not recipe.salient else recipe.head
    parts |= {"codec": recipe.codec, "head": "of the model" if head == "own" else head}
    parts |= {"alignment": recipe.alignment, "saliency": "a byte a token" if recipe.saliency else None}
    parts |= {"CLS": recipe.cls, "index of words": recipe.lexical, "FDE": recipe.fde}
    click.echo("  " + ", ".join(f"{key} {value}" for key, value in parts.items() if value))
    click.echo(f"  {recipe.source}")


def print_methods(heading: str, methods: Sequence[Method[Any, Any]]) -> None:
    """What can be chosen under one heading, two lines each."""
    click.echo(f"{heading}")
    width = max(len(method.form) for method in methods)
    for method in methods:
        click.echo(f"  {click.style(method.form.ljust(width), bold=True)}  {method.summary}")
        click.echo(f"  {'':<{width}}  {click.style(method.source, dim=True)}")


def print_demo(connector: Connector, found: dict[str, Hits], result: dict[str, Any]) -> None:
    """Questions with their best hits, the words that matched marked, and the table of sizes."""
    for question, hits in found.items():
        click.echo(f"\n{click.style(question, bold=True)}")
        for hit in hits:
            click.echo(f"  {hit.score:6.3f}  {click.style(hit.id, fg='cyan')}")
            click.echo(f"          {_marked(connector, question, hit)}")
    click.echo(f"\n{result['passages']:,} passages, recipe {result['recipe']}: bytes a passage")
    for name, size in result["bytes_per_passage"].items():
        click.echo(f"  {name:<26} {size:>8,}")
    times = result["search_ms"]
    click.echo(
        f"p50 of a search: {times['p50']:.1f} ms; {times['p50 without encoding']:.1f} ms without the encoder"
    )


def _marked(connector: Connector, question: str, hit: Hit) -> str:
    """The beginning of a hit's text, with the words that its score comes from marked."""
    title = len(hit.title) + 1 if hit.title else 0  # spans count from the title in front
    explanation = connector.explain(question, hit)
    asked = {word: part for word, part in explanation.query_parts().items() if word.text.isalnum()}
    weighty = [word for word, part in asked.items() if part >= _WEIGHTY * max(asked.values())]
    spans = [
        (word.start - title, word.end - title)
        for parts in map(explanation.passage_parts, weighty)
        for word, part in parts.items()
        if word.text.isalnum() and part >= _BEST * max(parts.values())
    ]
    pieces, width = [], 0
    for piece in re.finditer(r"\S+", hit.text):
        width += len(piece[0]) + 1
        if width > _SNIPPET:
            pieces.append("…")
            break
        matched = any(start < piece.end() and piece.start() < end for start, end in spans)
        pieces.append(_emphasised(piece[0]) if matched else piece[0])
    return " ".join(pieces)


def _emphasised(word: str) -> str:
    """Yellow on a terminal, between asterisks where there are no colours."""
    return click.style(word, fg="yellow", bold=True) if sys.stdout.isatty() else f"*{word}*"


def plain(text: str) -> str:
    """Without characters that a terminal obeys: controls, and marks that change the direction of writing."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", " ", text)


def _snippet(text: str, width: int) -> str:
    line = " ".join(plain(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _sizes(size: dict[str, float]) -> str:
    names = {"cls": "CLS", "tokens": "tokens", "lexical": "index of words", "fde": "MUVERA"}
    parts = ", ".join(f"{name} {size[key]:,.0f}" for key, name in names.items() if key in size)
    return f"{size['total']:,.0f} ({parts})"


def _row(name: str, value: str) -> None:
    click.echo(f"  {name:<18} {value}")


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
    from connector.evaluation.tuning.task import MANY_QUERIES

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
