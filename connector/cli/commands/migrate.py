"""`connector migrate`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options
from connector.cli.commands import main
from connector.cli.render import Lines, output, plain, show, steps_bar, table
from connector.core.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from connector.api.connector import Connector
    from connector.migrations import Migrations, PlannedRevision, Version

Result = tuple[dict[str, Any], Iterable["RenderableType"]]
"""One JSON object, and what a person reads."""

overlap = click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    default=0.5,
    help="Refuse a new version whose first ten hits overlap by less, in the mean.",
)


@main.group("migrate")
def migrate_group() -> None:
    """Change a live collection: its encoder, recipe, vectors or metadata.

    Revisions are numbered Python files in a folder that you give, each with revision, down_revision,
    upgrade(ctx) and downgrade(ctx). A collection knows which of them were applied. It can be searched and
    written all the time; a command that is killed is finished by running it again.
    """


def migrating(command: options.Command) -> options.Command:
    """The command gets `Migrations` first, and gives a `Result`, which is printed.

    With --json, whatever revisions print goes to stderr.
    """

    @options.opened()
    @click.option(
        "--migrations", required=True, type=options.PATH, metavar="DIR", help="Folder of revisions."
    )
    @options.json
    @functools.wraps(command)
    def with_migrations(connector: Connector, migrations: Path, as_json: bool, **given: Any) -> None:
        from connector.migrations import Migrations

        limits = {name: given.pop(name) for name in ("min_overlap",) if name in given}
        aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with aside, steps_bar() as step:
            them = Migrations(
                connector,
                migrations,
                **limits,
                report=step,
                say=lambda line: None if as_json else click.echo(line),
            )
            content, lines = command(them, **given)
        output(as_json, content, lines)

    return with_migrations


@migrate_group.command("status")
@migrating
def status_command(them: Migrations) -> Result:
    """Say which revisions are applied, and which versions of the collection there are."""
    from connector.migrations import versions_of

    ledger, known = them.ledger, {it.revision for it in them.revisions}
    versions = list(versions_of(them.collection))
    content = {
        **ledger.model_dump(exclude={"count"}),
        "waiting": [it.revision for it in them.revisions if it.revision not in ledger.applied],
        "changed": sorted(it.revision for it in them.revisions if ledger.changed(it)),
        "missing": sorted(ledger.applied.keys() - known),
        "versions": [dataclasses.asdict(version) for version in versions],
    }
    return content, _status_lines(them, content, versions)


def _status_lines(them: Migrations, status: dict[str, Any], versions: Iterable[Version]) -> Lines:
    ledger, rows = them.ledger, []
    for revision in them.revisions:
        id_, applied = revision.revision, ledger.applied.get(revision.revision)
        how = f"{'stamped' if applied.stamped else 'applied'} {applied.time}" if applied else "not applied"
        how += ", and changed since" if id_ in status["changed"] else ""
        rows.append((id_, how, plain(revision.summary)))
    for id_ in status["missing"]:
        rows.append((id_, f"applied {ledger.applied[id_].time}, and its file is missing", ""))
    yield table(rows, "><<") if rows else "there are no revisions"
    if ledger.pending is not None:
        yield str(ledger.cut_off())
    yield _versions(versions)


def _versions(versions: Iterable[Version]) -> RenderableType:
    from rich.filesize import decimal

    rows = []
    for it in versions:
        state = "current" if it.current else "being made" if it.building else "kept"
        size = "" if it.bytes is None else decimal(it.bytes)
        rows.append((state, it.physical, it.recipe, f"{it.documents:,} documents", size))
    return table(rows, "><<>>")


@migrate_group.command("plan")
@click.argument("rev", required=False)
@migrating
def plan_command(them: Migrations, rev: str | None) -> Result:
    """Say what it takes to get to REV, by default the last revision; nothing is written.

    An applied REV is gone back to; "base" is the state before the first one. For each step it says the route
    (in place, backfill: points are changed where they are, or rebuild: another version is made), the points
    that it writes and the bytes that it needs, estimated.
    """
    planned = them.plan(rev)
    fields = ("step", "route", "points", "bytes", "notes")
    content = []
    for it in planned:
        steps = [{field: getattr(step, field) for field in fields} for step in it.steps]
        content.append({"revision": it.revision.revision, "direction": it.direction, "steps": steps})
    return {"revisions": content}, _plan_lines(planned)


def _plan_lines(planned: list[PlannedRevision]) -> Lines:
    from rich.filesize import decimal

    if not planned:
        yield "nothing to do"
    for it in planned:
        yield f"{it.direction} {it.revision.revision}  {it.revision.summary}"
        for step in it.steps:
            yield f"  {step.step}"
            size = "" if step.bytes is None else f", about {decimal(step.bytes)}"
            yield f"      {step.route}: {step.points:,} points{size}"
            yield from (f"      {plain(note)}" for note in step.notes)
        if not it.steps:
            yield "  nothing"


@migrate_group.command("upgrade")
@click.argument("rev", required=False)
@migrating
@overlap
@options.input_file(
    "--canaries",
    "Queries to try new versions by, one a line; kept with the collection.  [default: made of texts]",
)
def upgrade_command(them: Migrations, rev: str | None, canaries: Path | None) -> Result:
    """Apply the revisions up to REV, by default all.

    Killed and run again, it goes on where it was. A new version is compared with the old one before the name
    is switched: numbers, a sample of vectors, and the hits of canary queries.
    """
    applied = them.upgrade(rev, [] if canaries is None else _queries(canaries))
    return _done(them, "applied", [it.revision for it in applied])


@migrate_group.command("downgrade")
@click.argument("rev")
@migrating
@overlap
def downgrade_command(them: Migrations, rev: str) -> Result:
    """Take revisions back until REV is the last applied one; "base" takes all back.

    A version that is kept from before is brought up to date and used again.
    """
    return _done(them, "taken back", [it.revision for it in them.downgrade(rev)])


def _done(them: Migrations, what: str, ids: list[str]) -> Result:
    done = f"{what}: {', '.join(ids)}" if ids else "nothing to do"
    content = {what.replace(" ", "_"): ids, "head": them.ledger.head}
    return content, [f"{done}; {_at(them)}"]


def _at(them: Migrations) -> str:
    name = click.get_current_context().params["collection"]
    return f"{name!r} is at {them.ledger.head or 'no revision'}"


@migrate_group.command("stamp")
@click.argument("rev")
@migrating
def stamp_command(them: Migrations, rev: str) -> Result:
    """Note that the revisions up to REV are applied, and no later one, without running them.

    "base" notes that none is. What was cut off is forgotten, and what it did stays.
    """
    forgotten = them.stamp(rev)
    if forgotten:
        click.echo(f"noted as not applied: {', '.join(forgotten)}; upgrade would run them again", err=True)
    return {"head": them.ledger.head, "forgotten": forgotten}, [_at(them)]


@migrate_group.command("verify")
@options.opened()
@overlap
@options.json
def verify_command(connector: Connector, min_overlap: float, as_json: bool) -> None:
    """Look whether the collection is whole, and compare its hits with those of its version of before.

    A sample of texts is encoded again and compared with what is stored.
    """
    from connector.migrations import compare

    found = compare(connector)
    problems = found.problems(min_overlap)
    content = {**dataclasses.asdict(found), "overlap": found.overlap, "problems": problems}
    lines = (f"  {share:4.0%}  {plain(query)}" for query, share in found.overlaps.items())
    output(as_json, content, [found.summary(), *lines])
    if problems:
        raise click.ClickException("; ".join(problems))


@migrate_group.command("gc")
@options.opened()
@options.yes
@options.json
def gc_command(connector: Connector, yes: bool, as_json: bool) -> None:
    """Drop all versions but the current one; there is no way back to them then."""
    from connector.migrations import collect, versions_of

    old = [version for version in versions_of(connector.collection) if not version.current]
    if old and not yes:
        show([_versions(old)], err=True)
        options.confirm(f"Drop these versions of {connector.name!r}?")
    dropped = collect(connector, {version.physical for version in old}) if old else []
    line = f"dropped {', '.join(version.physical for version in dropped) or 'nothing'}"
    output(as_json, {"dropped": [dataclasses.asdict(version) for version in dropped]}, [line])


def _queries(path: Path) -> list[str]:
    """The lines of a file."""
    from connector.core.sources.lines import readable, text_lines

    queries = [line.strip() for _, line in readable(path, text_lines(path))]
    if not queries:
        raise InputError(f"{path} holds no query; give one a line")
    return queries
