"""Store 96 signs a token in place of 256."""

from connector.migrations import Context

revision = "0001"
down_revision = None


def upgrade(ctx: Context) -> None:
    ctx.reindex(recipe="tiny")  # encodes the texts again; ctx.recode takes the vectors that are stored


def downgrade(ctx: Context) -> None:
    ctx.reindex(recipe="default")
