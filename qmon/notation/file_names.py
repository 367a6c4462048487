"""Names of image files as QEMU reads them: text before a colon is a protocol."""

from __future__ import annotations

import os

from qmon.errors import CommandError
from qmon.notation.nbd_names import is_export, read_name


def split_protocol(name: str) -> tuple[str | None, str]:
    """Return the protocol, or None, and the rest of the name (QEMU, block.c: path_has_protocol)."""
    protocol, colon, rest = name.partition(":")
    return (protocol, rest) if colon and "/" not in protocol else (None, name)


def without_protocol(name: str) -> str:
    """Return the path of the file that a command's argument names.

    Raises CommandError if the name has another protocol than ``file:``.
    """
    protocol, rest = split_protocol(name)
    if protocol is None:
        return name
    if protocol != "file":
        raise CommandError(f"Unknown protocol '{protocol}'")
    return rest if split_protocol(rest)[0] is None else f"./{rest}"


def image_name(name: str) -> str:
    """Return the path of an image's file, or the name of an NBD export. Raises CommandError, UsageError."""
    return read_name(name).text if is_export(name) else without_protocol(name)


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same file; False if one of them leads nowhere."""
    if is_export(one) or is_export(other):
        return one == other
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
