"""The commands: each parses, calls the library, and prints."""

from connector.cli import (
    adapt,
    attach,
    delete,
    demo,
    evaluate,
    explain,
    ingest,
    lists,
    migrate,
    search,
    serve,
    train,
    transfer,
    tune,
)
from connector.cli.main import main

for command in (
    ingest.ingest_command,
    search.search_command,
    serve.serve_command,
    explain.explain_command,
    delete.delete_command,
    delete.drop_command,
    transfer.export_command,
    transfer.import_command,
    attach.attach_command,
    attach.detach_command,
    migrate.migrate_group,
    adapt.adapt_command,
    search.stats_command,
    evaluate.evaluate_command,
    tune.tune_command,
    lists.recipes_command,
    lists.reductions_command,
    lists.codecs_command,
    train.train_group,
    demo.demo_command,
):
    main.add_command(command)

__all__ = ["main"]
