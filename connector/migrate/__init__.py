"""Migrations: revisions of a live collection that lose neither a point nor a query."""

from connector.migrate.context import Context
from connector.migrate.kept import Version, collect, compare, versions_of
from connector.migrate.revisions import BASE, Revision, load_revisions
from connector.migrate.runner import MIN_OVERLAP, Migrations, PlannedRevision
from connector.migrate.steps import Planned, Progress
from connector.migrate.verify import Verification

__all__ = [
    "BASE",
    "MIN_OVERLAP",
    "Context",
    "Migrations",
    "Planned",
    "PlannedRevision",
    "Progress",
    "Revision",
    "Verification",
    "Version",
    "collect",
    "compare",
    "load_revisions",
    "versions_of",
]
