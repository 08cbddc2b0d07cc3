"""`connector index`: what metadata is indexed, so that a strict server takes filters on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import output

if TYPE_CHECKING:
    from connector.api.connector import Connector


@main.group("index")
def index_group() -> None:
    """Index metadata that searches are filtered by.

    A server in strict mode, as a managed cluster is, refuses filters on other keys.
    """


@index_group.command("add")
@click.argument("indexes", metavar="KEY:KIND...", nargs=-1, type=parameters.Index())
@options.opened()
@options.json
def add_command(connector: Connector, indexes: tuple[tuple[str, str], ...], as_json: bool) -> None:
    """Add indexes, such as year:integer or author.name:keyword.

    A KIND is keyword, integer, float, bool, datetime, uuid, text or geo; keyword:tenant and uuid:tenant tell
    tenants, whose points Qdrant keeps together. Without any KEY, what the library
    itself filters by is indexed, which collections of earlier versions lack on a strict server.
    """
    connector.create_index(parameters.declared_once(indexes))
    if not indexes and not as_json:
        click.echo("what the library filters by is indexed")
    _show(connector, as_json)


@index_group.command("drop")
@click.argument("key")
@options.opened()
@options.json
def drop_command(connector: Connector, key: str, as_json: bool) -> None:
    """Drop the index of a metadata key."""
    connector.drop_index(key)
    _show(connector, as_json)


@index_group.command("list")
@options.opened()
@options.json
def list_command(connector: Connector, as_json: bool) -> None:
    """List the indexes of metadata."""
    _show(connector, as_json)


def _show(connector: Connector, as_json: bool) -> None:
    there = connector.indexes
    lines = [f"{key}: {kind}" for key, kind in there.items()] or [f"{connector.name!r} indexes no metadata"]
    output(as_json, {"indexes": there}, lines)
