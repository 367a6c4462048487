"""Names of image files as QEMU reads them: what stands before a colon is a protocol."""

from __future__ import annotations

import os

from qmon.errors import CommandError


def split_protocol(name: str) -> tuple[str | None, str]:
    """The protocol, None without one, and what it is for (QEMU, block.c, path_has_protocol)."""
    protocol, colon, rest = name.partition(":")
    return (protocol, rest) if colon and "/" not in protocol else (None, name)


def without_protocol(name: str) -> str:
    """The file that a command's word means. Raises CommandError for what is no file."""
    protocol, rest = split_protocol(name)
    if protocol is None:
        return name
    if protocol != "file":
        raise CommandError(f"Unknown protocol '{protocol}'")
    return rest if split_protocol(rest)[0] is None else f"./{rest}"


def is_same_file(one: str, other: str) -> bool:
    """Whether two names lead to one file; one that leads nowhere, maybe no more, leads to no other's."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
