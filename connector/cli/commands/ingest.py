"""`connector ingest`."""

from __future__ import annotations

from pathlib import Path

import click

from connector.cli.options import confirm, json_option, parse_filter, place, recipe_parts, where
from connector.cli.render import ingest_json, print_ingest, print_json, progress_bar


@click.command("ingest")
@click.argument("source", type=click.Path(path_type=Path))
@place
@click.option("--model", metavar="ID", help="Model id or folder of a new collection.")
@click.option(
    "--recipe",
    metavar="NAME",
    help="Recipe of a new collection: see `connector recipes`; or a .json file of `connector tune`.",
)
@recipe_parts
@click.option(
    "--chunk-tokens", type=click.IntRange(1), metavar="N", help="Split texts into chunks of N tokens."
)
@click.option(
    "--chunk-overlap", type=click.IntRange(0), default=0, metavar="M", help="Tokens shared by chunks."
)
@click.option("--id-field", metavar="FIELD", help="Field with the id, if not _id, id or doc_id.")
@click.option(
    "--text-field", metavar="FIELD", help="Field with the text, if not text, contents, content or body."
)
@click.option("--title-field", metavar="FIELD", help="Field with the title, if not title.")
@click.option("--skip-bad", is_flag=True, help="Pass over unusable records and name them at the end.")
@click.option(
    "--shards", type=click.IntRange(1), metavar="N", help="Shards of a new collection on a cluster."
)
@click.option("--replicas", type=click.IntRange(1), metavar="N", help="Copies of each of its shards.")
@click.option(
    "--acknowledged", type=click.IntRange(1), metavar="N", help="Of them, how many a write waits for."
)
@click.option("--prune", is_flag=True, help="At the end, delete documents that are not in SOURCE any more.")
@json_option
def ingest_command(
    source: Path,
    collection: str,
    path: str | None,
    url: str | None,
    model: str | None,
    recipe: str | None,
    chunk_tokens: int | None,
    chunk_overlap: int,
    id_field: str | None,
    text_field: str | None,
    title_field: str | None,
    skip_bad: bool,
    prune: bool,
    shards: int | None,
    replicas: int | None,
    acknowledged: int | None,
    as_json: bool,
    **parts: str | None,
) -> None:
    """Write SOURCE into a collection, which is made if it is not there.

    SOURCE is a .jsonl, .csv or .parquet file, a folder of .txt and .md files, or a BEIR folder. Running
    the same command again is harmless: what is there unchanged is passed over. Exit code 1 says that some
    documents were refused; they are named.
    """
    from connector.api.bulk_ingest import ingest_source
    from connector.collection.recipe import get_recipe
    from connector.core.sources import Source
    from connector.stores.schema import Copies

    at = where(path, url)
    spread = {"shards": shards, "replicas": replicas, "acknowledged": acknowledged}
    asked = recipe or any(parts.values())
    chosen = get_recipe(recipe or "default").varied(**parts)
    documents = Source(
        source, id_field=id_field, text_field=text_field, title_field=title_field, skip_bad=skip_bad
    )
    with progress_bar("Ingesting") as progress:
        report = ingest_source(
            documents,
            collection,
            recipe=chosen if asked else None,
            model=model,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            skip_bad=skip_bad,
            prune=prune,
            copies=Copies(**spread) if any(spread.values()) else None,
            started=progress,
            **at,
        )
    if as_json:
        print_json(ingest_json(report))
    else:
        print_ingest(report, collection)
    if prune and report.bad:
        click.echo("nothing was pruned, as records were skipped that may be documents", err=True)
    if report.refused:
        raise click.ClickException(
            f"Qdrant refused {len(report.refused)} documents; the others are written. Correct them and run "
            "the command again"
        )


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
