"""`connector ingest`, `connector delete`, `connector recount` and `connector drop`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connector.cli import options, parameters
from connector.cli.commands import main
from connector.cli.render import output, progress_bar
from connector.cli.results import ingest_json, ingest_lines

if TYPE_CHECKING:
    from connector.api.connector import Connector


def _field(option: str, text: str) -> options.Decorator:
    return click.option(option, metavar="FIELD", help=text)


@main.command("ingest")
@click.argument("source", type=options.PATH)
@options.collection
@options.anywhere
@click.option("--model", metavar="ID", help="Model id or folder of a new collection.")
@options.recipe_and_parts("Recipe of a new collection. ")
@options.count("--chunk-tokens", help="Split texts into chunks of N tokens.")
@options.count("--chunk-overlap", default=0, least=0, help="Tokens shared by chunks.")
@options.gathered(
    "fields",
    dict,
    id_field=_field("--id-field", "Field with the id, if not _id, id or doc_id."),
    text_field=_field("--text-field", "Field with the text, if not text, contents, content or body."),
    title_field=_field("--title-field", "Field with the title, if not title."),
)
@click.option("--skip-bad", is_flag=True, help="Pass over unusable records and name them at the end.")
@options.spread
@parameters.indexes
@click.option("--delete-missing", is_flag=True, help="At the end, delete documents not in SOURCE.")
@options.json
def ingest_command(
    source: Path,
    collection: str,
    at: dict[str, Any],
    fields: dict[str, str | None],
    skip_bad: bool,
    delete_missing: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write SOURCE into a collection, which is made if it is not there.

    SOURCE is a .jsonl, .csv or .tsv file, also packed (.gz, .zst), a .parquet file, a folder of .txt and .md
    files, a BEIR folder, a folder of Hugging Face datasets, or - for JSON lines on standard input. Running
    the same command again is harmless: what is there unchanged is passed over. Exit code 1 says that some
    documents were refused; they are named.
    """
    from connector.api.bulk_ingest import ingest_source
    from connector.core.sources import Source

    documents = Source(source, skip_bad=skip_bad, **fields)
    with progress_bar("Ingesting") as started:
        report = ingest_source(
            documents,
            collection,
            skip_bad=skip_bad,
            delete_missing=delete_missing,
            started=started,
            **at,
            **settings,
        )
    output(as_json, ingest_json(report), ingest_lines(report, collection))
    if delete_missing and report.bad:
        click.echo("nothing was deleted, as the skipped records may be documents", err=True)
    if report.refused:
        raise click.ClickException(
            f"Qdrant refused {len(report.refused)} documents; the others are written. Correct them and run "
            "the command again"
        )


@main.command("delete")
@options.one_of(ids="--id ID", filter="--filter JSON")
@options.opened()
@click.option("--id", "ids", multiple=True, metavar="ID", help="A document's id; may be given several times.")
@options.metadata_filter("Instead, a Qdrant filter on metadata, as JSON.")
@click.option("--dry-run", is_flag=True, help="Say how many documents there are to delete, and delete none.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting by a filter.")
@options.json
def delete_command(
    connector: Connector, ids: tuple[str, ...], filter: Any, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Delete documents, by their ids or by a filter.

    A filter looks like '{"must": [{"key": "year", "range": {"lt": 2000}}]}'. Ids that are not there do no
    harm.
    """
    found = connector.matching_ids(list(ids) or None, filter=filter)
    if found and filter is not None and not (dry_run or yes):
        options.confirm(f"Delete {len(found):,} documents from {connector.name!r}?")
    deleted = 0 if dry_run else connector.delete(found)
    line = f"deleted {deleted:,} documents from {connector.name!r}"
    if dry_run:
        line = f"{len(found):,} documents of {connector.name!r} would be deleted"
    output(as_json, {"found": len(found), "deleted": deleted}, [line])


@main.command("recount")
@options.opened()
@options.json
def recount_command(connector: Connector, as_json: bool) -> None:
    """Count again in how many passages each token is.

    That is what --query-weights idf and the reductions by frequency go by. It happens by itself when a fifth
    of the passages was replaced or deleted. Texts are tokenized, not encoded.
    """
    passages = connector.recount()
    line = f"counted {passages:,} passages of {connector.name!r}"
    if not connector.collection.frequencies.needed:
        line = f"recipe {connector.recipe.name} needs no counts, so none are kept"
    output(as_json, {"passages": passages}, [line])


@main.command("drop")
@options.opened()
@options.yes
def drop_command(connector: Connector, yes: bool) -> None:
    """Delete a collection with all its versions; there is no way back but an export."""
    name = connector.name
    if not yes:
        documents = connector.collection.documents()
        options.confirm(f"Drop {name!r} with {documents:,} documents and all its versions?")
    connector.drop()
    click.echo(f"dropped {name!r}")
