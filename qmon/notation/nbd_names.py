"""Names of NBD exports as QEMU reads them: URIs, the older ``nbd:`` form, and options. Pure.

The URIs are those of the NetworkBlockDevice project (doc/uri.md). ``NbdExport.text`` writes an export with
its options as one name: the options follow a ``#``. ``read_name`` reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from qmon.errors import UsageError
from qmon.notation.address import Address, InetAddress, UnixAddress, check_port

DEFAULT_PORT = "10809"
NBD = "nbd"
"""The name of the driver."""

_TCP, _UNIX = ("nbd", "nbd+tcp", "nbds", "nbds+tcp"), ("nbd+unix", "nbds+unix")
_SECONDS, _TLS = ("reconnect-delay", "open-timeout"), ("tls-creds", "tls-hostname")
_OPTIONS = (*_SECONDS, *_TLS)
_NO_URL = "No valid URL specified"
_MISSING = "NBD server address missing"


@dataclass(frozen=True, slots=True)
class NbdExport:
    """An export of a server, and how to use it."""

    address: Address
    name: str = ""
    reconnect_delay: int = 0
    """The seconds that requests wait for a lost connection to come back; 0: they fail at once."""
    open_timeout: int = 0
    """The seconds for which connecting is tried again when it is opened; 0: one attempt."""
    tls_creds: str | None = None
    """The id of the object with the credentials; None: without TLS."""
    tls_hostname: str | None = None
    """The name that the server's certificate must have; None: the host's."""

    @property
    def server(self) -> str:
        """The server's address as QEMU's messages write it."""
        address = self.address
        return address.path if isinstance(address, UnixAddress) else f"{address.host}:{address.port}"

    @property
    def shown(self) -> str:
        """The name that people see: a URI without the options."""
        return self._uri(lambda text: text)

    @property
    def text(self) -> str:
        """The name that says all."""
        given = {key: value for key, value in self.options.items() if key in _OPTIONS}
        return self._uri(quote) + (f"#{urlencode(given)}" if given else "")

    @property
    def options(self) -> dict[str, Any]:
        """The options of a node on the export (QAPI: BlockdevOptionsNbd)."""
        given = {
            "export": self.name,
            "reconnect-delay": self.reconnect_delay,
            "open-timeout": self.open_timeout,
            "tls-creds": self.tls_creds,
            "tls-hostname": self.tls_hostname,
        }
        named = {key: value for key, value in given.items() if value}
        return {"driver": NBD, "server": self.address.to_qapi(), **named}

    def _uri(self, written: Callable[[str], str]) -> str:
        name = written(self.name)
        scheme = "nbd" if self.tls_creds is None else "nbds"
        address = self.address
        if isinstance(address, UnixAddress):
            path = f"/{name}" if name else ""
            return f"{scheme}+unix://{path}?socket={written(address.path)}"
        return f"{scheme}://{address}{'/' if name else ''}{name}"


def is_export(name: str) -> bool:
    """Whether a file's name is that of an NBD export, as ``NbdExport.text`` writes it."""
    return _scheme(name) in (*_TCP, *_UNIX)


def _scheme(name: str) -> str | None:
    scheme, colon, _ = name.partition(":")
    return scheme if colon else None


def read_name(name: str, given: Mapping[str, str] | None = None) -> NbdExport:
    """Return the export that a URI or an older name leads to; ``given`` are options that it does not say.

    Raises UsageError with QEMU's message.
    """
    scheme = _scheme(name)
    options = _taken({**dict(parse_qsl(name.partition("#")[2])), **(given or {})})
    if not name.startswith(f"{scheme}://"):
        return NbdExport(*_read_old(name.removeprefix("nbd:")), **options)
    if scheme is not None and scheme.startswith("nbds") and options.get("tls_creds") is None:
        raise UsageError(f"'{name}' needs TLS credentials: add the option file.tls-creds=ID")
    return NbdExport(*_read_uri(name, is_unix=scheme in _UNIX), **options)


def _read_uri(uri: str, *, is_unix: bool) -> tuple[Address, str]:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(_NO_URL) from error
    name = unquote(parts.path.removeprefix("/"))
    if not is_unix:
        if not host or parts.query:
            raise UsageError(_NO_URL)
        return InetAddress(host, DEFAULT_PORT if port is None else str(port)), name
    key, equals, path = parts.query.partition("=")
    if key != "socket" or not equals or "&" in path or parts.netloc:
        raise UsageError(_NO_URL)
    return UnixAddress(unquote(path)), name


def _read_old(rest: str) -> tuple[Address, str]:
    """Read ``HOST:PORT:exportname=NAME`` or ``unix:PATH:exportname=NAME``."""
    if not rest:
        raise UsageError(_MISSING)
    where, _, name = rest.partition(":exportname=")
    if where.startswith("unix:"):
        return UnixAddress(where.removeprefix("unix:")), name
    host, colon, port = where.rpartition(":") if where.startswith("[") else where.partition(":")
    if not colon or not port:
        raise UsageError(f"error parsing address '{where}'")
    return _inet(host.strip("[]"), port), name


def _inet(host: str, port: str) -> InetAddress:
    """Return an address. Raises UsageError for a port that is not a number: a URI has no other."""
    address = InetAddress(host, port)
    if not (port.isascii() and port.isdecimal()):
        why = "Servname not supported for ai_socktype"
        raise UsageError(f"address resolution failed for {address}: {why}")
    check_port(address)
    return address


def read_options(left: Mapping[str, Any], filename: str = "") -> NbdExport:
    """Return the export of a node's flat options. Raises UsageError with QEMU's message."""
    given = {key: _text(value) for key, value in left.items()}
    options = {key: given.pop(key) for key in _OPTIONS if key in given}
    if filename:
        for key in given:
            if key in ("host", "port", "path", "export") or key.startswith("server."):
                raise UsageError(f"Option '{key}' cannot be used with a file name")
        _refuse_left(given)
        return read_name(filename, options)
    address, name = _address(given), given.pop("export", "")
    _refuse_left(given)
    return NbdExport(address, name, **_taken(options))


def _taken(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that say how to use an export."""
    fields: dict[str, Any] = {key: _seconds(key, given[key]) for key in _SECONDS if key in given}
    fields.update({key: given[key] for key in _TLS if key in given})
    return {key.replace("-", "_"): value for key, value in fields.items()}


def _address(given: dict[str, str]) -> Address:
    """Take the options that say where the server is."""
    server = {key: given.pop(key) for key in [key for key in given if key.startswith("server.")]}
    old = {key: given.pop(key) for key in ("path", "host", "port") if key in given}
    if server and old:
        raise UsageError("'server' and path/host/port cannot be used at the same time")
    if "path" in old and "host" in old:
        raise UsageError("path and host may not be used at the same time")
    if not server:
        if "path" in old:
            return UnixAddress(old["path"])
        if "host" not in old:
            raise UsageError(_MISSING)
        return _inet(old["host"], old.get("port", DEFAULT_PORT))
    fields = {key.removeprefix("server."): value for key, value in server.items()}
    for key in ("numeric", "keep-alive"):  # keep-alive is always on
        fields.pop(key, None)
    kind = fields.pop("type", None)
    names = {"inet": ("host", "port"), "unix": ("path",)}
    if kind is None:
        raise UsageError("Parameter 'type' is missing")
    if kind not in names:
        raise UsageError(f"Parameter 'type' does not accept value '{kind}'")
    for name in names[kind]:
        if name not in fields:
            raise UsageError(f"Parameter '{name}' is missing")
    for key in fields:
        if key not in names[kind]:
            raise UsageError(f"option 'server.{key}' is not supported: give {' and '.join(names[kind])}")
    return UnixAddress(fields["path"]) if kind == "unix" else _inet(fields["host"], fields["port"])


def _seconds(key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"Parameter '{key}' expects a number")
    return min(int(text), (1 << 32) - 1)


def _refuse_left(given: Mapping[str, str]) -> None:
    for key in given:
        raise UsageError(f"Block protocol '{NBD}' doesn't support the option '{key}'")


def _text(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
