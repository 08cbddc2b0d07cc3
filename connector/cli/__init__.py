"""The commands: each parses, calls the library, and prints."""

from __future__ import annotations

import logging
from typing import Any

import click

from connector.cli.commands import (
    catalog,
    evaluate,
    ingest,
    migrate,
    search,
    serve,
    train,
    transfer,
    tune,
)
from connector.core.errors import ConnectorError

__all__ = ["main"]


class _Commands(click.Group):
    """Turns the library's errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConnectorError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo(
                "Interrupted. What was acknowledged is kept; running the command again goes on from there.",
                err=True,
            )
            ctx.exit(130)
        except BrokenPipeError:  # the reader of a pipe has seen enough; click ends quietly
            raise
        except OSError as error:
            raise click.ClickException(f"{error}; check that the place exists and may be used") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qdrant-late-interaction")
def main() -> None:
    """Late-interaction search on Qdrant at the storage price of a single dense vector."""
    logger = logging.getLogger("connector")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())


class _Stderr(logging.Handler):
    """Warnings of the library, a line each, on whatever stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.capitalize()}: {record.getMessage()}", err=True)


for command in (
    ingest.ingest_command,
    search.search_command,
    serve.serve_command,
    search.explain_command,
    ingest.delete_command,
    ingest.drop_command,
    transfer.export_command,
    transfer.import_command,
    transfer.attach_command,
    transfer.detach_command,
    migrate.migrate_group,
    evaluate.adapt_command,
    search.stats_command,
    evaluate.evaluate_command,
    tune.tune_command,
    catalog.recipes_command,
    catalog.reductions_command,
    catalog.codecs_command,
    train.train_group,
    serve.demo_command,
):
    main.add_command(command)
