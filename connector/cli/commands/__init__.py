"""The commands: each parses, calls the library, and prints."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import click

from connector.cli.options import TextCommand
from connector.core.errors import ConnectorError


class _Commands(click.Group):
    """Turns the library's errors into one line on stderr and exit code 1."""

    command_class = TextCommand
    group_class = type

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the program; what a stream's encoding does not have is written with a backslash."""
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **settings)

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


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
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
