"""Reads and writes socket addresses: QAPI's ``SocketAddress`` and its short forms. Pure.

The short forms are ``tcp:HOST:PORT``, ``unix:PATH`` and plain ``HOST:PORT``. ``to_qapi`` returns the flat
union of qapi/sockets.json, ``from_qapi`` reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from qmon.errors import CommandError, UsageError

UNIX_PATH_MAX = 107


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A TCP address. ``port`` is a number or a service name; the caller interprets an empty ``host``.

    ``family`` is "ipv4" or "ipv6" if only that will do. A listener takes the first free port up to ``to``.
    """

    host: str
    port: str
    family: str = ""
    to: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def to_qapi(self) -> dict[str, str]:
        return {"type": "inet", "host": self.host, "port": self.port}


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path. One that begins with a null character is in Linux's abstract name space."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def to_qapi(self) -> dict[str, str]:
        return {"type": "unix", "path": self.path}


Address = InetAddress | UnixAddress

PORT_MAX = 65535


def check_port(address: Address) -> None:
    """Check that a port number is not too large. Raises UsageError.

    The resolver takes a port modulo 65536, so a disk would be sent to another port than the one written.
    """
    if isinstance(address, InetAddress) and address.port.isdecimal() and int(address.port[-20:]) > PORT_MAX:
        raise UsageError(f"address resolution failed for {address}: a port is at most {PORT_MAX}")


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
            family, to = _family(fields), int(str(fields.get("to", 0)))
            return InetAddress(str(fields["host"]), str(fields["port"]), family, to)
        case "unix":
            if not isinstance(fields.get("path"), str):
                raise CommandError(f"Parameter '{prefix}path' is missing")
            path = str(fields["path"])
            if not fields.get("abstract"):
                return parse_unix(path)
            padding = 0 if fields.get("tight", True) else UNIX_PATH_MAX
            return UnixAddress("\0" + parse_unix(path).path.ljust(padding, "\0"))
        case None:
            raise CommandError("Parameter 'addr.type' is missing")
        case _:
            raise CommandError(f"Parameter 'addr.type' does not accept value '{kind}': use inet or unix")


def _family(fields: Mapping[str, object]) -> str:
    """Return which family ``ipv4`` and ``ipv6`` leave, "" if both. Raises CommandError if they leave none."""
    ipv4, ipv6 = fields.get("ipv4"), fields.get("ipv6")
    if ipv4 is False and ipv6 is False:
        raise CommandError("Cannot disable IPv4 and IPv6 at same time")
    if ipv4 is False or (ipv6 and not ipv4):
        return "ipv6"
    return "ipv4" if ipv6 is False or (ipv4 and not ipv6) else ""


_IPV6 = re.compile(r"\[?[0-9a-fA-F:.]+(?:%[^\]]*)?\]?")
_COPIES = ("blk", "inc")
"""Words before a migration's address, which are taken for it if nothing follows."""
_PROTOCOLS = ("exec", "fd", "file", "rdma", "unix", "x-rdma")


def address_hint(uri: str) -> str | None:
    """Return how to write a migration's address that was refused; None if nothing is known to be missing."""
    scheme, colon, rest = uri.partition(":")
    if rest.startswith("//"):
        return f"write {scheme}:{rest.strip('/') if scheme == 'tcp' else rest.removeprefix('//')}"
    if colon and scheme == "tcp":
        return _tcp_hint(rest)
    if colon and scheme in _PROTOCOLS:
        return None
    if uri.startswith(("/", "./", "../")):
        return f"write unix:{uri}"
    if uri in _COPIES:
        return f"the address is missing: write {uri} tcp:HOST:PORT or {uri} unix:PATH"
    meant = {"tcp": ":" in rest, "unix": rest.startswith(("/", "."))}
    if near := get_close_matches(scheme, [each for each, fits in meant.items() if fits], 1):
        return f"write {near[0]}:{rest}"
    host, _, port = uri.partition(",")[0].rpartition(":")
    if port.isdecimal() and host and (":" not in host or _IPV6.fullmatch(host)):
        return f"write tcp:{_bracketed(uri)}"
    return "write tcp:HOST:PORT or unix:PATH"


def listening_hint(text: str) -> str:
    """Return how to write the address of a server that could not be read."""
    if text.isascii() and text.isdecimal():
        return f"write 0.0.0.0:{text}, or 127.0.0.1:{text} for this host alone"
    return "write HOST:PORT or unix:PATH"


def _tcp_hint(rest: str) -> str | None:
    bare, comma, more = rest.partition(",")
    if bare.startswith("[") and "]" not in bare:
        return f"the bracket is not closed: write tcp:{bare}]:PORT{comma}{more}"
    after_host = bare.partition("]")[2] if bare.startswith("[") else bare.partition(":")[1:]
    if not "".join(after_host).strip(":"):
        host = bare.rstrip(":") or "HOST"
        return f"the port is missing: write tcp:{host}:PORT{comma}{more}"
    if _bracketed(rest) != rest:
        return f"an IPv6 address needs brackets: write tcp:{_bracketed(rest)}"
    return None


def _bracketed(text: str) -> str:
    """Return ``HOST:PORT`` with brackets around an IPv6 address."""
    bare, comma, more = text.partition(",")
    host, _, port = bare.rpartition(":")
    return f"[{host}]:{port}{comma}{more}" if ":" in host and not host.startswith("[") else text
