"""Reads and writes socket addresses: QAPI's ``SocketAddress`` and its short forms. Pure.

The short forms are ``tcp:HOST:PORT``, ``unix:PATH`` and plain ``HOST:PORT``. ``to_qapi`` returns the flat
union of qapi/sockets.json, ``from_qapi`` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from qmon.errors import CommandError, UsageError

UNIX_PATH_MAX = 107


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A TCP address. ``port`` is a number or a service name; the caller interprets an empty ``host``."""

    host: str
    port: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def to_qapi(self) -> dict[str, str]:
        return {"type": "inet", "host": self.host, "port": self.port}


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def to_qapi(self) -> dict[str, str]:
        return {"type": "unix", "path": self.path}


Address = InetAddress | UnixAddress


def parse_inet(text: str) -> InetAddress:
    """Read ``HOST:PORT`` or ``[HOST]:PORT``; options after a comma are ignored. Raises UsageError."""
    bare = text.partition(",")[0]
    if bare.startswith("["):
        host, bracket, port = bare[1:].partition("]:")
        good = bool(bracket)
    else:
        host, colon, port = bare.partition(":")
        good = bool(colon)
    if not good or not port:
        raise UsageError(f"error parsing address '{text}'")
    return InetAddress(host, port)


def parse_unix(path: str) -> UnixAddress:
    """Check a Unix socket's path. Raises UsageError."""
    if not path:
        raise UsageError("UNIX socket path is missing: write unix:PATH")
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise UsageError(f"UNIX socket path '{path}' is too long: at most {UNIX_PATH_MAX} bytes fit")
    return UnixAddress(path)


def parse_address(text: str) -> Address:
    """Read ``tcp:HOST:PORT``, ``unix:PATH`` or ``HOST:PORT``. Raises UsageError with QEMU's words."""
    if text == "unix:":
        raise UsageError("invalid Unix socket address")
    if text.startswith("unix:"):
        return parse_unix(text.removeprefix("unix:"))
    return parse_inet(text.removeprefix("tcp:"))


def from_qapi(value: Mapping[str, object]) -> Address:
    """Read a ``SocketAddress``, flat or in the older form ``{type, data}``.

    Raises CommandError, UsageError for a bad path.
    """
    kind = value.get("type")
    data = value.get("data", value)
    fields = data if isinstance(data, Mapping) else {}
    prefix = "addr.data." if "data" in value else "addr."
    match kind:
        case "inet":
            for key in ("host", "port"):
                if not isinstance(fields.get(key), str):
                    raise CommandError(f"Parameter '{prefix}{key}' is missing")
            return InetAddress(str(fields["host"]), str(fields["port"]))
        case "unix":
            if not isinstance(fields.get("path"), str):
                raise CommandError(f"Parameter '{prefix}path' is missing")
            return parse_unix(str(fields["path"]))
        case None:
            raise CommandError("Parameter 'addr.type' is missing")
        case _:
            raise CommandError(f"Parameter 'addr.type' does not accept value '{kind}': use inet or unix")
