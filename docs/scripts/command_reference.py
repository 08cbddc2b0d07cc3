"""Write the command reference from `--help`.

python docs/scripts/command_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from connector.cli import main

PAGE = Path(__file__).parents[1] / "command-reference.md"

HEAD = """# Command reference

Written by `docs/scripts/command_reference.py` from `--help`; do not edit.
"""

WIDTH = 100


def commands(command: click.Command, parent: click.Context) -> Iterator[tuple[str, str]]:
    """The name of each command below one, with all words, and its help."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    with click.Context(command, info_name=command.name, parent=parent, **settings) as context:
        yield context.command_path, command.get_help(context).rstrip()
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from commands(below, context)


def reference() -> str:
    """The page."""
    settings = {**main.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    with click.Context(main, info_name="connector", **settings) as root:
        found = [("connector", main.get_help(root).rstrip())]
        for name in main.list_commands(root):
            below = main.get_command(root, name)
            assert below is not None
            found += commands(below, root)
    return HEAD + "".join(f"\n## {name}\n\n```text\n{text}\n```\n" for name, text in found)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
