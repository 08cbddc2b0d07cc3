"""Which servers this library works with."""

from __future__ import annotations

import re

from connector.core.errors import StoreError
from connector.stores.server.retry import Requests

LOWEST = (1, 18)
"""The first version whose named vectors can be added and dropped, on which the tests were run."""


def supported(requests: Requests) -> tuple[int, int]:
    """The server's version; one that cannot be read, as of a build of one's own, counts as the newest.

    Raises:
        StoreError: it is too old; the message says which would do.
    """
    said = requests(requests.client.info).version
    number = re.match(r"(\d+)\.(\d+)", said)
    if number is None:
        return (99, 0)
    version = int(number[1]), int(number[2])
    if version < LOWEST:
        lowest = ".".join(map(str, LOWEST))
        raise StoreError(f"{requests.location} is Qdrant {said}; upgrade it to {lowest} or later")
    return version
