"""The commands: each parses, calls the library, and prints."""

from connector.cli import adapt, demo, evaluate, explain, ingest, lists, search, train
from connector.cli.main import main

for command in (
    ingest.ingest_command,
    search.search_command,
    explain.explain_command,
    adapt.adapt_command,
    search.stats_command,
    evaluate.evaluate_command,
    lists.recipes_command,
    lists.reductions_command,
    lists.codecs_command,
    train.train_group,
    demo.demo_command,
):
    main.add_command(command)

__all__ = ["main"]
