"""`connector repair`: the registry of an embedded folder, made again."""

from __future__ import annotations

import contextlib

import click

from connector.cli import options
from connector.cli.commands import main
from connector.cli.render import output


@main.command("repair")
@click.option("--path", required=True, metavar="DIR", help="Folder of an embedded Qdrant.")
@options.json
def repair_command(path: str, as_json: bool) -> None:
    """Make the registry of an embedded folder again, where it is lost or damaged.

    Each collection says in its own folder which it is. Nothing of what it holds is touched; a damaged
    registry is kept as registry.json.damaged.
    """
    from connector.stores import EdgeStore

    with contextlib.closing(EdgeStore(path)) as store:
        names, unknown = store.repair()
    lines = [f"{path} holds {', '.join(names)} again."]
    lines += [f"{home} does not say which collection it is; restore an export of it" for home in unknown]
    output(as_json, {"collections": names, "unknown": list(map(str, unknown))}, lines)
