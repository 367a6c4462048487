"""Which options of a socket exclude each other (QEMU: qmp_chardev_validate_socket, chardev/char-socket.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError


def reconnect_seconds(data: Mapping[str, Any]) -> float:
    """Return the pause before a client connects again, 0 if it does not."""
    return float(data.get("reconnect", 0)) or data.get("reconnect-ms", 0) / 1000


def check_address_options(data: Mapping[str, Any], *, is_server: bool) -> None:
    """Check what fits the kind of address. Raises CommandError."""
    if "reconnect" in data and "reconnect-ms" in data:
        raise CommandError("'reconnect' and 'reconnect-ms' are mutually exclusive")
    kind, has_tls = data["addr"]["type"], "tls-creds" in data
    if kind == "fd" and reconnect_seconds(data):
        raise CommandError("'reconnect' option is incompatible with 'fd' address type")
    if kind == "fd" and has_tls and not is_server:
        raise CommandError("'tls_creds' option is incompatible with 'fd' address type as client")
    if kind == "unix" and has_tls:
        raise CommandError("'tls_creds' option is incompatible with 'unix' address type")
    if "tls-authz" in data and not has_tls:
        raise CommandError("'tls_authz' option requires 'tls_creds' option")


def check_side_options(data: Mapping[str, Any], *, is_server: bool) -> None:
    """Check what fits a server or a client, and what is not supported. Raises CommandError."""
    if is_server and reconnect_seconds(data):
        raise CommandError("'reconnect' option is incompatible with socket in server listen mode")
    if not is_server and "wait" in data:
        raise CommandError("'wait' option is incompatible with socket in client connect mode")
    if not is_server and "tls-authz" in data:
        raise CommandError("'tls-authz' is for a server: leave it out")
    for name in ("websocket", "tn3270"):
        if data.get(name):
            raise CommandError(f"'{name}' is not supported: use a plain socket or telnet")
