"""Recognises the protocol of a peer by the first bytes that it sends. Pure."""

from __future__ import annotations

from qmon.notation.plain_text import one_line

FIRST_BYTES = 64
"""How many of the first bytes are looked at, and how many are shown at most."""

CLIENT_HELLO = b"\x16\x03"
"""How a client's TLS begins (RFC 8446, 5.1)."""

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"SSH-", "an SSH"),
    (b"HTTP/", "an HTTP"),
    *((method, "an HTTP") for method in (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT ")),
    (b"PRI * HTTP", "an HTTP"),
    (b"\x15\x03", "a TLS"),
    (CLIENT_HELLO, "a TLS"),
    (b"RFB ", "a VNC"),
    (b"NBDMAGIC", "an NBD"),
    (b"QEVM", "a migration"),
    (b'{"QMP"', "a QMP"),
    (b'{"execute"', "a QMP"),
    (b"REDQ", "a SPICE"),
    (b"@RSYNCD:", "an rsync"),
    (b"220 ", "an FTP or SMTP"),
    (b"\xff\xfb", "a telnet"),
    (b"\xff\xfd", "a telnet"),
)
"""The first bytes, and the protocol with its article."""


def protocol_of(first: bytes) -> str | None:
    """Return the protocol of a peer that begins with these bytes, with its article: ``an SSH``, or None."""
    return next((name for begin, name in _SIGNATURES if first.startswith(begin)), None)


def excerpt(first: bytes) -> str:
    """Return the first line of the bytes, made harmless, in quotes."""
    line = first[:FIRST_BYTES].split(b"\n")[0].rstrip(b"\r")
    return f"'{one_line(line.decode('utf-8', 'backslashreplace'))}'"
