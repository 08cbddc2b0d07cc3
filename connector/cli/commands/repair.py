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

    Each collection says in its own folder which it is. Nothing of what it holds is touched.
    """
    from connector.stores import EdgeStore

    with contextlib.closing(EdgeStore(path)) as store:
        names = store.repair()
    output(as_json, {"collections": names}, [f"{path} holds {', '.join(names)} again."])
