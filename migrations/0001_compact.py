"""Store one bit a dimension in place of sixteen."""

from connector.migrations import Context

revision = "0001"
down_revision = None


def upgrade(ctx: Context) -> None:
    ctx.recode(recipe="compact")  # of the vectors that are stored; ctx.reindex encodes the texts again


def downgrade(ctx: Context) -> None:
    ctx.reindex(recipe="default")


# A collection of another recipe than "default" may not hold what "compact" is made of; the plan says so.
