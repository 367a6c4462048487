"""The parameters of the command line's options, as QAPI's CommandLineOptionInfo. Pure.

The names, types and order are those of QEMU 7.2; the readers of the options know the same names.
"""

from __future__ import annotations

from typing import Any

from qmon.notation.drive_keys import THROTTLING

_TYPES = {"s": "string", "b": "boolean", "n": "number", "z": "size"}

_LIMITS = " ".join(
    f"{THROTTLING}{unit}-{what}{end}:n"
    for end, units in (("-max-length", "bps iops"), ("-max", "bps iops"), ("", "bps iops"))
    for unit in units.split()
    for what in ("write", "read", "total")
)

_GROUPS = {
    "name": "debug-threads:b process:s guest:s",
    "object": "",
    "add-fd": "opaque:s set:n fd:n",
    "mon": "pretty:b chardev:s mode:s",
    "chardev": """
        abstract:b tight:b=on clipboard:b mouse:b logappend:b logfile:s append:b chardev:s size:z debug:n
        name:s signal:b mux:b rows:n cols:n height:n width:n websocket:b tls-authz:s tls-creds:s tn3270:b
        telnet:b reconnect:n nodelay:b delay:b server:b wait:b ipv6:b ipv4:b to:n localport:s localaddr:s
        fd:s port:s host:s path:s backend:s
    """,
    "drive": f"""
        copy-on-read:b werror:s rerror:s read-only:b file:s if:s media:s index:n unit:n bus:n
        stats-account-failed:b stats-account-invalid:b detect-zeroes:s throttling.group:s
        throttling.iops-size:n
        {_LIMITS} werror:s format:s cache.writeback:b aio:s snapshot:b force-share:b discard:s
        auto-read-only:b cache.no-flush:b cache.direct:b driver:s node-name:s
    """,
}
"""By option: each parameter with the first letter of its type (z: size), and its default if it has one."""


def option_groups() -> list[dict[str, Any]]:
    """Return the CommandLineOptionInfo of each option that has parameters or takes any."""
    return [
        {"option": name, "parameters": [_parameter(word) for word in words.split()]}
        for name, words in _GROUPS.items()
    ]


def _parameter(word: str) -> dict[str, Any]:
    name, _, kind = word.partition(":")
    letter, _, default = kind.partition("=")
    parameter = {"name": name, "type": _TYPES[letter]}
    return {**parameter, "default": default} if default else parameter
