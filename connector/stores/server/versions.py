"""Which servers this library works with."""

from __future__ import annotations

import re

from connector.core.errors import AccessDenied, StoreError, StoreUnavailable
from connector.stores.server.retry import Requests

LOWEST = (1, 18)
"""The first version whose named vectors can be added and dropped, on which the tests were run."""


def supported(requests: Requests) -> tuple[int, int]:
    """The server's version; where it does not say one that can be read, the newest.

    Raises:
        StoreUnavailable: it is too old, and the message says which would do; or it does not answer.
    """
    said = ""
    try:
        said = requests(requests.client.info).version
    except StoreError as error:  # a proxy may let collections through, and not this
        if isinstance(error, StoreUnavailable) and not isinstance(error, AccessDenied):
            raise
    number = re.match(r"(\d+)\.(\d+)", said)
    if number is None:
        return (99, 0)
    version = int(number[1]), int(number[2])
    if version < LOWEST:
        lowest = ".".join(map(str, LOWEST))
        raise StoreUnavailable(f"{requests.location} is Qdrant {said}; upgrade it to {lowest} or later")
    return version
