"""Migrations: revisions of a live collection that lose neither a point nor a query."""

from connector.collection.versions.catalog import Version, collect, versions_of
from connector.migrations.context import Context
from connector.migrations.revisions import BASE, Revision, load_revisions
from connector.migrations.runner import MIN_OVERLAP, Migrations, PlannedRevision
from connector.migrations.steps import Planned, Progress
from connector.migrations.verify import Verification, compare

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
