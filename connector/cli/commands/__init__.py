"""The commands: each parses, calls the library, and prints."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import click

from connector.cli.parameters import TextCommand
from connector.core.errors import ConnectorError


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


class _Commands(click.Group):
    """Turns the library's errors into one line on stderr and exit code 1, and SIGTERM into Ctrl-C."""

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
            with _interrupted_by_sigterm():
                return super().invoke(ctx)
        except ConnectorError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as told:
            click.echo(
                "Interrupted. What was acknowledged is kept; running the command again goes on from there.",
                err=True,
            )
            ctx.exit(128 + (signal.SIGTERM if isinstance(told, _Terminated) else signal.SIGINT))
        except BrokenPipeError:  # the reader of a pipe has seen enough; click ends quietly
            raise
        except OSError as error:
            raise click.ClickException(f"{error}; check that the place exists and may be used") from error


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """By it containers are stopped. Only a main thread is told of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_: int, __: FrameType | None) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
