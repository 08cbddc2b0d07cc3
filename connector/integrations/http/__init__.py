"""Search over HTTP: a small API and one page, as an application of FastAPI and as a server.

`app` makes the application, to be served by whatever serves ASGI, alone or mounted in another one; `run` is
the server of `connector serve`. Both need the extra `serve`.
"""

from __future__ import annotations

from connector.core.errors import MissingExtra

try:
    from connector.integrations.http.app import app
    from connector.integrations.http.middleware import LOOPBACK
    from connector.integrations.http.server import Address, run
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("anyio", "fastapi", "starlette", "uvicorn"):
        raise
    raise MissingExtra("fastapi", "serve") from error

__all__ = ["LOOPBACK", "Address", "app", "run"]
