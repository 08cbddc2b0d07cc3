"""The program `connector`; the modules that are imported here add their commands to `main`."""

from connector.cli.commands import (  # noqa: F401
    catalog,
    evaluate,
    index,
    ingest,
    main,
    migrate,
    repair,
    search,
    serve,
    train,
    transfer,
    tune,
)

__all__ = ["main"]
