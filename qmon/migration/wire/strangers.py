"""What is said of a program that is not the other side of a migration. Pure."""

from __future__ import annotations

from qmon.notation.strangers import CLIENT_HELLO, excerpt, protocol_of

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"\xfd7zXZ\0", "xz", "xz -d"),
    (b"BZh", "bzip2", "bunzip2"),
)
"""The first bytes of a compressed file, its format, and the command that unpacks it from standard input."""


def not_a_destination(peer: str, first: bytes) -> str:
    """Return the error of a source whose peer has answered with these bytes."""
    protocol = protocol_of(first)
    who = f"with {excerpt(first)}" if protocol is None else f"as {protocol} server"
    return f"{peer} answers {who}, not as a migration destination"


def not_a_source(first: bytes, magic: bytes) -> str:
    """Return what is wrong with a stream that begins with these bytes instead of ``magic``."""
    if first.startswith(CLIENT_HELLO):
        return "the source uses TLS, and this destination does not: set the parameter tls-creds here"
    for begin, name, command in _COMPRESSED:
        if first.startswith(begin):
            return f'it is compressed by {name}: -incoming "exec:{command} < FILE" unpacks it'
    protocol = protocol_of(first)
    if protocol is None:
        return f"it begins with {excerpt(first)}, not with {magic!r}"
    return f"{protocol} client has sent {excerpt(first)}"
