"""Reads the options of a character device: ``KIND,id=ID,...`` and the short forms of ``-monitor``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qmon.errors import UsageError
from qmon.notation.address import parse_inet
from qmon.notation.keyval import (
    HELP_WORDS,
    IDENTIFIER_HINT,
    is_identifier,
    parse_number,
    parse_size_option,
    parse_switch,
    short_form,
    split_options,
)

_SWITCHES = tuple(
    """
    ipv4 ipv6 wait server delay nodelay telnet tn3270 websocket mux signal append logappend mouse
    clipboard abstract tight
    """.split()
)
_NUMBERS = ("to", "reconnect", "reconnect-ms", "width", "height", "cols", "rows", "debug")
_SIZES = ("size",)
_TEXTS = tuple(
    """
    backend path host port fd localaddr localport tls-creds tls-authz name chardev logfile
    """.split()
)


Option = str | int | bool
Given = dict[str, Option]


@dataclass(frozen=True, slots=True)
class ChardevOptions:
    """A character device to create: its id, and its kind and data as in QAPI's ChardevBackend."""

    id: str
    kind: str
    data: dict[str, Any]
    mux: bool = False
    """Create a multiplexer with this id; the device itself is then called ``ID-base``."""


class BadOptionError(UsageError):
    """A single option can't be read. QEMU's monitor prints a second message after this one."""


def parse_chardev(text: str, warn: Callable[[str], None] = lambda text: None) -> ChardevOptions:
    """Read the argument of ``-chardev`` or ``chardev-add``.

    ``warn`` is called with QEMU's warning about a switch without a value. Raises BadOptionError for an option
    that can't be read, UsageError if no device can be made of the options, both with QEMU's message.
    """
    given = _read(list(split_options(text)), "backend", warn)
    label = str(given.pop("id", ""))
    if not label:
        raise UsageError("chardev: no id specified")
    if "backend" not in given:
        raise UsageError(f'chardev: "{label}" missing backend')
    return _make(label, str(given.pop("backend")), given)


def parse_backend(text: str, label: str, warn: Callable[[str], None] = lambda text: None) -> ChardevOptions:
    """Read the second argument of ``chardev-change``. Raises as ``parse_chardev`` does."""
    given = _read(list(split_options(text)), "backend", warn)
    if "id" in given:
        raise UsageError("Unexpected 'id' parameter")
    if "backend" not in given:
        raise UsageError('chardev: "(null)" missing backend')  # sic: QEMU names the id that is not there
    return _make(label, str(given.pop("backend")), given)


def parse_short(text: str, label: str) -> ChardevOptions:
    """Read a short form: ``stdio``, ``unix:PATH,server,nowait``, ``telnet:HOST:PORT``. Raises UsageError."""
    prefix, colon, rest = text.partition(":")
    if not colon and prefix in ("null", "pty", "stdio"):
        return ChardevOptions(label, prefix, {})
    if not colon or prefix not in _SHORT:
        raise UsageError(f"'{text}' is not a valid char driver: use {SHORT_FORMS}")
    if prefix == "mon":
        short = parse_short(rest, label)
        return ChardevOptions(label, short.kind, short.data, mux=True)
    return _make(label, *_SHORT[prefix](rest))


SHORT_FORMS = (
    "stdio, pty, null, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT, udp:HOST:PORT, file:PATH or pipe:PATH"
)


def _short_path(kind: str) -> Callable[[str], tuple[str, Given]]:
    return lambda rest: (kind, {"path": rest})


def _short_unix(rest: str) -> tuple[str, Given]:
    return "socket", _read(list(split_options(rest)), "path")


def _short_tcp(rest: str) -> tuple[str, Given]:
    address, _, more = rest.partition(",")
    inet = parse_inet(address)
    given = _read(list(split_options(more))) if more else {}
    return "socket", {"host": inet.host, "port": inet.port, **given}


def _short_telnet(rest: str) -> tuple[str, Given]:
    kind, given = _short_tcp(rest)
    return kind, {**given, "telnet": True}


def _short_udp(rest: str) -> tuple[str, Given]:
    remote, _, local = rest.partition("@")
    inet = parse_inet(remote)
    given: Given = {"host": inet.host, "port": inet.port}
    if local:
        here = parse_inet(local)
        given |= {"localaddr": here.host, "localport": here.port}
    return "udp", given


_SHORT: dict[str, Callable[[str], tuple[str, Given]]] = {
    "file": _short_path("file"),
    "pipe": _short_path("pipe"),
    "tcp": _short_tcp,
    "telnet": _short_telnet,
    "udp": _short_udp,
    "unix": _short_unix,
    "mon": lambda rest: ("", {}),
}


def _read(
    parts: list[str], implied: str | None = None, warn: Callable[[str], None] = lambda text: None
) -> Given:
    """Read the options; every kind accepts the same keys here."""
    given: Given = {}
    for key, value in _pairs(parts, implied, lambda text: None):  # QEMU checks the id first
        if key == "id":
            _check_identifier(value)
    for key, value in _pairs(parts, implied, warn):
        given[key] = value if key == "id" else _value(key, value)
    return given


def _pairs(parts: list[str], implied: str | None, warn: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    for number, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals:
            if number == 0 and implied is not None:
                key, value = implied, part
            else:
                if part in HELP_WORDS:
                    raise BadOptionError("")
                key, value = short_form(part)
                warn(f"warning: short-form boolean option '{part}' deprecated")
                instead = {"nodelay": "nodelay=on", "delay": "nodelay=off"}.get(part, f"{key}={value}")
                warn(f"Please use {instead} instead")
        yield key, value


def _check_identifier(text: str) -> None:
    if not is_identifier(text):
        raise BadOptionError(f"Parameter 'id' expects an identifier\n{IDENTIFIER_HINT}")


def _value(key: str, value: str) -> Option:
    try:
        if key in _SWITCHES:
            return parse_switch(key, value)
        if key in _NUMBERS:
            return parse_number(key, value)
        if key in _SIZES:
            return parse_size_option(key, value)
    except UsageError as error:
        raise BadOptionError(str(error)) from error
    if key in _TEXTS:
        return value
    raise BadOptionError(f"Invalid parameter '{key}'")


def _make(label: str, kind: str, given: Given) -> ChardevOptions:
    if kind not in _DATA:
        raise UsageError(f"'{kind}' is not a valid char driver name")
    data = _DATA[kind](given)
    for key in ("logfile", "logappend"):
        if key in given:
            data[key] = given[key]
    return ChardevOptions(label, kind, data, bool(given.get("mux")))


def _required(given: Given, key: str, otherwise: str) -> Option:
    if not given.get(key):
        raise UsageError(f"chardev: {otherwise}")
    return given[key]


def _nothing(given: Given) -> dict[str, Any]:
    return {}


def _file(given: Given) -> dict[str, Any]:
    data: dict[str, Any] = {"out": _required(given, "path", "file: no filename given")}
    return data | {key: given[key] for key in ("append",) if key in given}


def _pipe(given: Given) -> dict[str, Any]:
    return {"device": _required(given, "path", "pipe: no device path given")}


def _ringbuf(given: Given) -> dict[str, Any]:
    return {key: given[key] for key in ("size",) if given.get(key)}


def _mux(given: Given) -> dict[str, Any]:
    return {"chardev": _required(given, "chardev", "mux: no chardev given")}


def _udp(given: Given) -> dict[str, Any]:
    remote = {
        "host": given.get("host") or "localhost",
        "port": _required(given, "port", "udp: remote port not specified"),
    }
    data: dict[str, Any] = {"remote": {"type": "inet", "data": remote}}
    if given.get("localaddr") or given.get("localport"):
        local = {"host": given.get("localaddr") or "", "port": given.get("localport") or "0"}
        data["local"] = {"type": "inet", "data": local}
    return data


def _socket(given: Given) -> dict[str, Any]:
    if sum(key in given for key in ("path", "fd", "host")) > 1:
        raise UsageError("None or one of 'path', 'fd' or 'host' option required.")
    address: dict[str, Any]
    if "path" in given:
        address = {
            "type": "unix",
            "data": {key: given[key] for key in ("path", "abstract", "tight") if key in given},
        }
    elif "host" in given:
        _required(given, "port", "socket: no port given")
        keys = ("host", "port", "to", "ipv4", "ipv6")
        address = {"type": "inet", "data": {key: given[key] for key in keys if key in given}}
    else:
        address = {"type": "fd", "data": {"str": given.get("fd", "")}}
    server = bool(given.get("server", False))
    data: dict[str, Any] = {"addr": address, "server": server}
    if server or "wait" in given:
        data["wait"] = given.get("wait", True)
    for key in ("telnet", "tn3270", "websocket", "reconnect", "reconnect-ms", "tls-creds", "tls-authz"):
        if key in given:
            data[key] = given[key]
    return data


_DATA: dict[str, Callable[[Given], dict[str, Any]]] = {
    "file": _file,
    "memory": _ringbuf,
    "mux": _mux,
    "null": _nothing,
    "pipe": _pipe,
    "pty": _nothing,
    "ringbuf": _ringbuf,
    "socket": _socket,
    "stdio": _nothing,
    "udp": _udp,
}
"""By kind: the function that makes ChardevBackend's data of the options."""

KINDS = tuple(_DATA)
"""All kinds, sorted."""
