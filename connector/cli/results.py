"""What is shown of each result: `*_json` makes the object of `--json`, `*_lines` what a person reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connector.cli.render import Lines, facts, json_line, listed, plain, snippet, styled, table

if TYPE_CHECKING:
    from connector.api.attach import Planned
    from connector.collection.documents.writer import IngestReport
    from connector.collection.recipe import Recipe
    from connector.core.registry import Method
    from connector.core.types import Hits
    from connector.evaluation.adaptation import Adaptation, Measured
    from connector.evaluation.tuning import Trial, Tuning

Methods = Mapping[str, Sequence["Method[Any, Any]"]]
"""What can be chosen, under headings."""


# Documents

_INGESTED = (
    *("deleted_missing", "passages", "tokens_before", "tokens_after", "bytes_per_passage"),
    *("documents_per_second", "truncated", "tokens_lost", "titles_cut"),
)


def ingest_json(report: IngestReport) -> dict[str, Any]:
    """The report with its derived figures."""
    return {
        **dataclasses.asdict(report),
        "bytes_per_passage": report.bytes_per_passage,
        "documents_per_second": round(report.documents_per_second, 2),
    }


def ingest_lines(report: IngestReport, collection: str) -> Lines:
    """The report of an ingest."""
    unchanged = f", {report.unchanged:,} are unchanged" if report.unchanged else ""
    updated = f", {report.metadata_updated:,} got new metadata alone" if report.metadata_updated else ""
    yield f"{report.documents:,} documents into {collection!r}{updated}{unchanged}"
    content = ingest_json(report)
    yield facts({name: content[name] for name in _INGESTED if content[name]})
    if report.bad:
        yield f"  skipped, bad records: {len(report.bad):,}"
        yield from listed(report.bad)
    if report.refused:
        yield f"  refused documents: {len(report.refused):,}"
        yield from listed(f"document {plain(id_)!r}: {plain(why)}" for id_, why in report.refused.items())


def attachment_lines(planned: Planned) -> Lines:
    """What attaching to a collection would do."""
    there = f"; {planned.filled:,} have it" if planned.filled else ""
    yield f"{planned.points:,} points of {planned.collection!r} would get {planned.recipe!r}{there}"
    content = dataclasses.asdict(planned) | {"text": snippet(planned.text)}
    yield facts({name: content[name] for name in ("layout", "text", "bytes_per_passage", "seconds")})


# Searches


def hits_json(query: str, hits: Hits) -> dict[str, Any]:
    """The hits of a query."""
    found = {"query": query, "hits": list(map(dataclasses.asdict, hits)), "ms": hits.ms, "pool": hits.pool}
    said = {"note": hits.note, "truncated": hits.truncated}
    return {**found, **{name: it for name, it in said.items() if it}}


def result_lines(form: str, id_: str, query: str, hits: Hits, recipe: str) -> Iterator[str]:
    """The lines of one query of many: a JSON object, or those of a run in TREC's columns."""
    if form == "jsonl":
        yield json_line({"id": id_, **hits_json(query, hits)})
        return
    from connector.evaluation.trec import falling, run_lines, run_tag

    for line in run_lines(id_, falling((hit.id, hit.score) for hit in hits), run_tag(recipe)):
        yield line.rstrip("\n")


def hits_lines(hits: Hits) -> Lines:
    """Hits, best first."""
    rows = []
    group: Any = None
    for place, hit in enumerate(hits, 1):
        if hit.group is not None and hit.group != group:
            group = hit.group
            rows.append(("", "", styled((plain(str(group)), "bold underline"))))
        title = f"  {plain(hit.title)}" if hit.title and hit.title != hit.id else ""
        text = styled((plain(hit.id), "bold"), title, "\n", snippet(hit.text))
        rows.append((f"{place}.", f"{hit.score:.4f}", text))
    yield table(rows, ">><") if rows else "No hits."


def stats_lines(stats: Mapping[str, Any]) -> Lines:
    """What a collection holds, and how alike queries and hits are, if that was asked."""
    yield facts({name: it for name, it in stats.items() if name != "similarity"})
    if similarity := stats.get("similarity"):
        yield f"Similarity of the hits of {similarity['queries']} queries, {similarity['asked']}:"
        rows = [
            (f"hit {rank}", *(f"{it:.3f}" for it in spread.values()))
            for rank, spread in similarity["at"].items()
        ]
        heads: Mapping[str, float] = next(iter(similarity["at"].values()), {})
        yield table([("", *heads), *rows], "<" + ">" * len(heads))


# Choices


def recipe_lines(recipes: Sequence[Recipe]) -> Lines:
    """Recipes in three lines each."""
    for recipe in recipes:
        own = recipe.model_dump(exclude={"name", "summary", "source"}, exclude_defaults=True)
        yield styled((recipe.name, "bold"), f": {recipe.summary}")
        yield "  " + ", ".join(f"{name} {value}" for name, value in own.items())
        yield f"  {recipe.source}"


def methods_json(methods: Methods) -> dict[str, Any]:
    """What can be chosen under each heading."""
    fields = ("form", "summary", "source")
    return {
        heading: [{field: getattr(method, field) for field in fields} for method in them]
        for heading, them in methods.items()
    }


def methods_lines(methods: Methods, *notes: str) -> Lines:
    """What can be chosen under each heading, and how it is written."""
    for heading, them in methods.items():
        yield heading
        forms = (styled((method.form, "bold")) for method in them)
        texts = (styled(method.summary, "\n", (method.source, "dim")) for method in them)
        yield table(zip(forms, texts, strict=True), "<<")
    yield from notes


# Measures


def evaluation_lines(content: Mapping[str, Any]) -> Lines:
    """The figures of an evaluation or of a run, without counts of nothing; and what was skipped."""
    yield facts({name: it for name, it in content.items() if name != "skipped" and it != 0})
    yield from _skipped_lines(content.get("skipped", []))


def _skipped_lines(skipped: Sequence[str]) -> Lines:
    if skipped:
        yield f"  skipped, bad records: {len(skipped):,}"
        yield from listed(map(plain, skipped))


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
    strategy = result.strategy
    return {
        "alignment": strategy.alignment and strategy.alignment.spec,
        "fusion": strategy.fusion.spec,
        "feedback": strategy.feedback and strategy.feedback.spec,
        "nDCG@10": round(result.ndcg, 5),
    }


_SHOWN = 20
"""Strategies in the table."""


def adaptation_lines(adaptation: Adaptation) -> Lines:
    """nDCG@10 of the best that was tried; then what is chosen and what to expect of it."""
    best = sorted(adaptation.results, key=lambda result: -result.ndcg)[:_SHOWN]
    yield table(
        ((result.strategy.name, f"{result.ndcg:.4f}") for result in best),
        "<>",
        (f"best of {len(adaptation.results)}", "nDCG@10"),
    )
    before, chosen = adaptation.before, adaptation.chosen
    changed = chosen is not before
    found = adaptation.queries - len(adaptation.missing)
    same = "the same; nothing else is better by more than chance explains"
    luck = "no better than before: by these examples the gain may be luck; give more"
    yield facts(
        {
            "before": f"{before.ndcg:.4f}, {before.strategy.name}",
            "chosen": f"{chosen.ndcg:.4f}, {chosen.strategy.name}" if changed else same,
            "leave one out": f"{adaptation.leave_one_out:.4f}, what to expect for other queries",
            "": luck if changed and adaptation.leave_one_out <= before.ndcg else None,
            "examples": f"{adaptation.queries:,} queries, {found:,} with an answer among their candidates",
        }
    )
    yield from listed(f"none: {snippet(query)}" for query in adaptation.missing)
    if adaptation.saved:
        yield "Saved: searches of this collection follow it from now on."
    elif changed:
        yield "Not saved; --save does."


def tuning_json(tuning: Tuning) -> dict[str, Any]:
    """What a sweep found, without the values of each query."""
    task, named = tuning.task, ("model", "candidates", "measure", "budget", "left_out", "finished")
    trials = {name: getattr(tuning, name) for name in ("dense", "hybrid", "full", "best", "smallest_alike")}
    return {
        "dataset": task.name,
        "asked": task.asked,
        "queries": len(task.queries),
        "passages": len(task.passages),
        "documents": task.documents,
        "own_left_out": len(task.own),
        "skipped": list(task.skipped),
        **{name: getattr(tuning, name) for name in named},
        **{name: trial and _trial_json(trial) for name, trial in trials.items()},
        "frontier": [_trial_json(it) for it in tuning.frontier],
        "tried": len(tuning.trials),
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "bytes_per_passage": round(trial.bytes_per_passage, 1),
        "tokens_per_passage": round(trial.tokens_per_passage, 2),
        "mean": round(trial.mean, 5),
        "interval": [round(end, 5) for end in trial.interval],
        "ms": None if trial.ms is None else round(trial.ms, 3),
        "recipe": trial.recipe.model_dump(exclude_none=True),
    }


def trial_cells(tuning: Tuning, trial: Trial) -> tuple[str, ...]:
    """Bytes, mean, interval, share of every token's, and milliseconds of a trial."""
    low, high = trial.interval
    return (
        f"{trial.bytes_per_passage:,.0f}",
        f"{trial.mean:.4f}",
        f"{low:.3f}–{high:.3f}",
        f"{trial.mean / tuning.full.mean if tuning.full.mean else 0.0:.1%}",
        "–" if trial.ms is None else f"{trial.ms:.1f}",
    )


def tuning_lines(tuning: Tuning, saved: Path | None) -> Lines:
    """The frontier, fewest bytes first, then the CLS vector alone, with words, and every token."""
    task = tuning.task
    sample = "" if task.sampled == task.documents else f" of {task.sampled:,} of {task.documents:,} documents"
    yield f"{task.name}, {len(task.queries):,} {task.asked}, {len(task.passages):,} passages{sample}"
    yield f"{tuning.model}\n"
    notes = [(it, " ◄ best in the budget" if it is tuning.best else "") for it in tuning.frontier]
    notes += [
        (tuning.dense, " (the CLS vector alone)"),
        (tuning.hybrid, " (words and the CLS vector)"),
        (tuning.full, " (every token: full)"),
    ]
    yield table(
        ((*trial_cells(tuning, it), it.recipe.name + note) for it, note in notes),
        ">>>>><",
        ("bytes", tuning.measure, "95 % interval", "of full", "ms", "recipe"),
    )
    yield f"\n{len(tuning.trials):,} recipes tried, up to {2 * tuning.budget:,.0f} bytes a passage."
    yield from (f"Not tried: {plain(reason)}" for reason in tuning.left_out)
    yield from _skipped_lines(task.skipped)
    if not tuning.finished:
        yield "Interrupted before all was tried and timed; the same command goes on."
    if tuning.trials:
        yield from _choice_lines(tuning, saved)


def _choice_lines(tuning: Tuning, saved: Path | None) -> Lines:
    from connector.evaluation.tuning.task import MANY_QUERIES

    best, alike = tuning.best, tuning.smallest_alike
    if len(tuning.task.queries) < MANY_QUERIES:
        yield f"{len(tuning.task.queries)} queries are few to choose by; {MANY_QUERIES} tell more."
    if best is None or alike is None:
        yield "None of them fits the budget; give a larger one."
        return
    if alike is not best:
        yield (
            f"These queries do not show that {alike.recipe.name}, {alike.bytes_per_passage:,.0f} bytes, is "
            "worse than the best (95 %, query by query)."
        )
    if saved is None:
        yield "--save FILE.json writes the best recipe, which --recipe FILE.json takes."
    else:
        yield f"Use it: connector ingest SOURCE --collection NAME --path DIR --recipe {saved}"
