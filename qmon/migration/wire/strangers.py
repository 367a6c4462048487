"""What is said of a program that is not the other side of a migration. Pure."""

from __future__ import annotations

from qmon.notation.strangers import excerpt, protocol_of


def not_a_destination(peer: str, first: bytes) -> str:
    """Return the error of a source whose peer has answered with these bytes."""
    protocol = protocol_of(first)
    who = f"with {excerpt(first)}" if protocol is None else f"as {protocol} server"
    return f"{peer} answers {who}, not as a migration destination"


def not_a_source(first: bytes, magic: bytes) -> str:
    """Return what is wrong with a stream that begins with these bytes instead of ``magic``."""
    protocol = protocol_of(first)
    if protocol is None:
        return f"it begins with {excerpt(first)}, not with {magic!r}"
    return f"{protocol} client has sent {excerpt(first)}"
