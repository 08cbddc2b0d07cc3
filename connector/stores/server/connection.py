"""An address becomes a store when something that speaks Qdrant has answered there."""

from __future__ import annotations

import ipaddress
import logging
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient

from connector.core.deadline import within
from connector.core.errors import InputError, StoreError, StoreUnavailable
from connector.stores.server.credentials import Secrets, check_key, in_url, redacted
from connector.stores.server.retry import Requests, bounded, bounded_channels
from connector.stores.server.store import ReadConsistency, ServerStore, WriteOrdering
from connector.stores.server.versions import supported

logger = logging.getLogger(__name__)


CONNECT_SECONDS = 2
"""How long to wait for a server's connection, and as long again for its first answer."""


REQUEST_SECONDS = 60


def connect(
    url: str,
    api_key: str | None = None,
    *,
    prefer_grpc: bool = False,
    grpc_port: int = 6334,
    write_ordering: WriteOrdering | None = None,
    read_consistency: ReadConsistency | None = None,
) -> ServerStore:
    """The store at this address, after it has answered once.

    Args:
        url, api_key: the server.
        prefer_grpc, grpc_port, write_ordering, read_consistency: as `open_store` has them.

    Raises:
        StoreUnavailable: nothing that speaks Qdrant answers within twice `CONNECT_SECONDS`.
        InputError: the address or the key cannot be used.
    """
    options: dict[str, Any] = {
        "url": url,
        "prefer_grpc": prefer_grpc,
        "grpc_port": grpc_port,
        "check_compatibility": False,
    }
    if api_key:  # as a header: given as a key, the client raises a Python warning for each use of http
        options |= {"headers": {"api-key": check_key(api_key, "api_key")}, "https": True}
    location, secrets = redacted(url), Secrets([api_key or "", *in_url(url)])
    try:
        probe = QdrantClient(**options, timeout=CONNECT_SECONDS)
        client = QdrantClient(**options, timeout=REQUEST_SECONDS, event_hooks={"request": [bounded]})
        if prefer_grpc:
            bounded_channels(client)
    except ValueError as error:
        reason = str(error)
        raise InputError(
            f"url {location!r} is not an address: {secrets.hide(reason)}; give one such as "
            "http://localhost:6333"
        ) from (None if secrets.in_(reason) else error)
    if api_key and _can_be_read_on_the_way(str(getattr(client._client, "rest_uri", ""))):
        logger.warning("the API key goes to %s unencrypted, for all on the way to read; use https", location)
    try:
        Requests(probe, url).once(probe.get_collections)
        with within(CONNECT_SECONDS):
            supported(Requests(probe, url))
    except StoreError as error:
        client.close()
        if isinstance(error, StoreUnavailable):
            raise
        raise StoreUnavailable(f"what answers at {location} is not a Qdrant server: {error}") from error
    finally:
        probe.close()
    return ServerStore(client, url, True, write_ordering, read_consistency)


def _can_be_read_on_the_way(url: str) -> bool:
    """Whether an address is one of plain http on another machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    return parts.scheme == "http" and not here
