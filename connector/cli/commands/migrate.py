"""`connector migrate`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli.options import confirm, json_option, place, where
from connector.cli.render import plain, print_json, steps_bar
from connector.core.errors import InputError

if TYPE_CHECKING:
    from connector.migrations import Migrations, Planned, PlannedRevision, Version


Command = Callable[..., Any]


revisions = click.option(
    "--migrations",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of revisions.",
)


overlap = click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Refuse a new version whose first ten hits overlap by less, in the mean.  [default: 0.5]",
)


@click.group("migrate")
def migrate_group() -> None:
    """Change a live collection: its encoder, recipe, vectors or metadata.

    Revisions are numbered Python files in a folder that you give, each with revision, down_revision,
    upgrade(ctx) and downgrade(ctx). A collection knows which of them were applied. It can be searched and
    written all the time; a command that is killed is finished by running it again.
    """


@contextlib.contextmanager
def _migrations(
    collection: str, path: str | None, url: str | None, folder: Path, quiet: bool, **settings: Any
) -> Iterator[Migrations]:
    from connector.api.connector import Connector
    from connector.migrations import Migrations

    aside = contextlib.redirect_stdout(sys.stderr) if quiet else contextlib.nullcontext()
    with aside, Connector.open(collection, **where(path, url)) as connector, steps_bar() as show:
        yield Migrations(
            connector,
            folder,
            report=lambda it: show(f"{it.step}: {it.doing}", it.done, it.total),
            say=lambda line: None if quiet else click.echo(line),
            **{key: value for key, value in settings.items() if value is not None},
        )


@migrate_group.command("status")
@place
@revisions
@json_option
def status_command(
    collection: str, path: str | None, url: str | None, migrations: Path, as_json: bool
) -> None:
    """Say which revisions are applied, and which versions of the collection there are."""
    from connector.migrations.ledger import as_json as ledger_json

    with _migrations(collection, path, url, migrations, as_json) as them:
        ledger, versions, known = them.ledger, them.versions(), them.revisions
    changed = {it.revision for it in known if ledger.changed(it)}
    lost = sorted(ledger.applied.keys() - {it.revision for it in known})
    if as_json:
        print_json(
            {
                **ledger_json(ledger),
                "waiting": [it.revision for it in known if it.revision not in ledger.applied],
                "changed": sorted(changed),
                "missing": lost,
                "versions": [dataclasses.asdict(version) for version in versions],
            }
        )
        return
    for revision in known:
        applied = ledger.applied.get(revision.revision)
        how = f"{'stamped' if applied.stamped else 'applied'} {applied.time}" if applied else "not applied"
        how += ", and changed since" if revision.revision in changed else ""
        click.echo(f"{revision.revision:>8}  {how:<34}  {plain(revision.summary)}")
    for id_ in lost:
        click.echo(f"{id_:>8}  applied {ledger.applied[id_].time}, and its file is missing")
    if not known:
        click.echo("there are no revisions")
    if ledger.pending is not None:
        click.echo(str(ledger.cut_off()))
    _show_versions(versions)


def _show_versions(versions: list[Version], err: bool = False) -> None:
    for version in versions:
        state = "current" if version.current else "being made" if version.building else "kept"
        size = "" if version.bytes is None else f"  {version.bytes / 1e6:,.1f} MB"
        click.echo(
            f"{state:>10}  {version.physical}  {version.recipe}  {version.documents:,} documents{size}",
            err=err,
        )


@migrate_group.command("plan")
@click.argument("rev", required=False)
@place
@revisions
@json_option
def plan_command(
    rev: str | None, collection: str, path: str | None, url: str | None, migrations: Path, as_json: bool
) -> None:
    """Say what it takes to get to REV, by default the last revision; nothing is written.

    An applied REV is gone back to; "base" is the state before the first one. For each step it says the route
    (in place, backfill: points are changed where they are, or rebuild: another version is made), the points
    that it writes and the bytes that it needs, estimated.
    """
    with _migrations(collection, path, url, migrations, as_json) as them:
        planned = them.plan_to(rev)
    if as_json:
        print_json({"revisions": [_planned_json(it) for it in planned]})
        return
    if not planned:
        click.echo("nothing to do")
    for it in planned:
        click.echo(f"{it.direction} {it.revision.revision}  {it.revision.summary}".rstrip())
        for step in it.steps:
            _show_step(step)
        if not it.steps:
            click.echo("  nothing")


def _show_step(step: Planned) -> None:
    size = "" if step.bytes is None else f", about {_megabytes(step.bytes)}"
    click.echo(f"  {step.step}")
    click.echo(f"      {step.route}: {step.points:,} points{size}")
    for note in step.notes:
        click.echo(f"      {plain(note)}")


def _megabytes(size: int) -> str:
    return f"{size:,} bytes" if size < 100_000 else f"{size / 1e6:,.1f} MB"


def _planned_json(planned: PlannedRevision) -> dict[str, Any]:
    fields = ("step", "route", "points", "bytes")
    return {
        "revision": planned.revision.revision,
        "direction": planned.direction,
        "steps": [
            {**{field: getattr(step, field) for field in fields}, "notes": list(step.notes)}
            for step in planned.steps
        ],
    }


@migrate_group.command("upgrade")
@click.argument("rev", required=False)
@place
@revisions
@overlap
@click.option(
    "--canaries",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Queries to try new versions by, one a line; kept with the collection.  [default: made of texts]",
)
@json_option
def upgrade_command(
    rev: str | None,
    collection: str,
    path: str | None,
    url: str | None,
    migrations: Path,
    min_overlap: float | None,
    canaries: Path | None,
    as_json: bool,
) -> None:
    """Apply the revisions up to REV, by default all.

    Killed and run again, it goes on where it was. A new version is compared with the old one before the name
    is switched: numbers, a sample of vectors, and the hits of canary queries.
    """
    queries = [] if canaries is None else _lines(canaries)
    with _migrations(collection, path, url, migrations, as_json, min_overlap=min_overlap) as them:
        applied = [it.revision for it in them.upgrade(rev, queries)]
        head = them.ledger.head
    _done(collection, "applied", applied, head, as_json)


@migrate_group.command("downgrade")
@click.argument("rev")
@place
@revisions
@overlap
@json_option
def downgrade_command(
    rev: str,
    collection: str,
    path: str | None,
    url: str | None,
    migrations: Path,
    min_overlap: float | None,
    as_json: bool,
) -> None:
    """Take revisions back until REV is the last applied one; "base" takes all back.

    A version that is kept from before is brought up to date and used again.
    """
    with _migrations(collection, path, url, migrations, as_json, min_overlap=min_overlap) as them:
        undone = [it.revision for it in them.downgrade(rev)]
        head = them.ledger.head
    _done(collection, "taken back", undone, head, as_json)


def _done(collection: str, what: str, ids: list[str], head: str | None, as_json: bool) -> None:
    if as_json:
        print_json({what.replace(" ", "_"): ids, "head": head})
    elif ids:
        click.echo(f"{what}: {', '.join(ids)}; {collection!r} is at {head or 'no revision'}")
    else:
        click.echo(f"nothing to do; {collection!r} is at {head or 'no revision'}")


@migrate_group.command("stamp")
@click.argument("rev")
@place
@revisions
@json_option
def stamp_command(
    rev: str, collection: str, path: str | None, url: str | None, migrations: Path, as_json: bool
) -> None:
    """Note that the revisions up to REV are applied, and no later one, without running them.

    "base" notes that none is. What was cut off is forgotten, and what it did stays.
    """
    with _migrations(collection, path, url, migrations, True) as them:
        forgotten, head = them.stamp(rev), them.ledger.head
    if as_json:
        print_json({"head": head, "forgotten": forgotten})
        return
    click.echo(f"{collection!r} is at {head or 'no revision'}")
    if forgotten:
        click.echo(f"noted as not applied: {', '.join(forgotten)}; upgrade would run them again", err=True)


@migrate_group.command("verify")
@place
@overlap
@json_option
def verify_command(
    collection: str, path: str | None, url: str | None, min_overlap: float | None, as_json: bool
) -> None:
    """Look whether the collection is whole, and compare its hits with those of its version of before.

    A sample of texts is encoded again and compared with what is stored.
    """
    from connector.api.connector import Connector
    from connector.migrations import MIN_OVERLAP, compare

    with Connector.open(collection, **where(path, url)) as connector:
        found = compare(connector)
    least = MIN_OVERLAP if min_overlap is None else min_overlap
    problems = found.problems(least)
    if as_json:
        print_json({**dataclasses.asdict(found), "overlap": found.overlap, "problems": problems})
    else:
        click.echo(found.summary())
        for query, share in found.overlaps.items():
            click.echo(f"  {share:4.0%}  {plain(query)}")
    if problems:
        raise click.ClickException("; ".join(problems))


@migrate_group.command("gc")
@place
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def gc_command(collection: str, path: str | None, url: str | None, yes: bool, as_json: bool) -> None:
    """Drop all versions but the current one; there is no way back to them then."""
    from connector.api.connector import Connector
    from connector.migrations import collect, versions_of

    with Connector.open(collection, **where(path, url)) as connector:
        old = [version for version in versions_of(connector.collection) if not version.current]
        if old and not yes:
            _show_versions(old, err=True)
            confirm(f"Drop these versions of {collection!r}?")
        dropped = collect(connector) if old else []
    if as_json:
        print_json({"dropped": [dataclasses.asdict(version) for version in dropped]})
    else:
        click.echo(f"dropped {', '.join(version.physical for version in dropped) or 'nothing'}")


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; give a text file with a query a line") from error
    queries = [line.strip() for line in lines if line.strip()]
    if not queries:
        raise InputError(f"{path} holds no query; give one a line")
    return queries
