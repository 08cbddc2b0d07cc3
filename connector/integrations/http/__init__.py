"""Search over HTTP: a small API and one page, as an application of FastAPI and as a server.

`app` makes the application, to be served by whatever serves ASGI, alone or mounted in another one; `run` is
the server of `connector serve`. Both need the extra `serve`.
"""

from __future__ import annotations

from connector.core.errors import require

require("fastapi", "serve")
require("uvicorn", "serve")

from connector.integrations.http.app import app
from connector.integrations.http.server import LOOPBACK, Address, run

__all__ = ["LOOPBACK", "Address", "app", "run"]
