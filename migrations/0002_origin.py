"""Say in the metadata how each document came, and let filters ask for it."""

from typing import Any

from connector.migrations import Context

revision = "0002"
down_revision = "0001"


def mark(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"origin": "ingest", **metadata}


def unmark(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key != "origin"}


def upgrade(ctx: Context) -> None:
    ctx.map_payload(mark)
    ctx.create_payload_index("origin", "keyword")


def downgrade(ctx: Context) -> None:
    ctx.map_payload(unmark)
