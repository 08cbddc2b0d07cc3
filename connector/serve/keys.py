"""The API key of this server, and which addresses need one."""

from __future__ import annotations

import ipaddress

from connector.core.errors import InputError

KEY_VARIABLE = "CONNECTOR_API_KEY"


def check_open_to(host: str, key: str | None) -> None:
    """Raises InputError unless others than this machine need a key to be answered at this address."""
    if key is None and not is_loopback(host):
        raise InputError(
            f"--host {host} is open to other machines, and there is no API key to ask them for; set "
            f"{KEY_VARIABLE}, or {KEY_VARIABLE}_FILE to a file that holds it, or leave --host out"
        )


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
