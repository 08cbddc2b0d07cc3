"""`connector delete` and `connector drop`."""

from __future__ import annotations

import click

from connector.cli.options import confirm, json_option, parse_filter, place, where
from connector.terminal import print_json


@click.command("delete")
@place
@click.option("--id", "ids", multiple=True, metavar="ID", help="A document's id; may be given several times.")
@click.option("--filter", metavar="JSON", help="Instead, a Qdrant filter on metadata, as JSON.")
@click.option("--dry-run", is_flag=True, help="Say how many documents there are to delete, and delete none.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting by a filter.")
@json_option
def delete_command(
    collection: str,
    path: str | None,
    url: str | None,
    ids: tuple[str, ...],
    filter: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete documents, by their ids or by a filter.

    A filter looks like '{"must": [{"key": "year", "range": {"lt": 2000}}]}'. Ids that are not there do no
    harm.
    """
    from connector.api.connector import Connector

    at = where(path, url)
    if bool(ids) == (filter is not None):
        raise click.UsageError("give one of --id ID and --filter JSON")
    condition = parse_filter(filter)
    with Connector.open(collection, **at) as connector:
        found = connector.find(list(ids) or None, filter=condition)
        if found and condition is not None and not (dry_run or yes):
            confirm(f"Delete {len(found):,} documents from {collection!r}?")
        deleted = 0 if dry_run else connector.delete(found)
    if as_json:
        print_json({"found": len(found), "deleted": deleted})
    elif dry_run:
        click.echo(f"{len(found):,} documents of {collection!r} would be deleted")
    else:
        click.echo(f"deleted {deleted:,} documents from {collection!r}")


@click.command("drop")
@place
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop_command(collection: str, path: str | None, url: str | None, yes: bool) -> None:
    """Delete a collection with all its versions; there is no way back but an export."""
    from connector.api.connector import Connector

    with Connector.open(collection, **where(path, url)) as connector:
        if not yes:
            documents = connector.collection.documents()
            confirm(f"Drop {collection!r} with {documents:,} documents and all its versions?")
        connector.drop()
    click.echo(f"dropped {collection!r}")
