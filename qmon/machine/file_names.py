"""Names of image files as QEMU reads them: what stands before a colon is a protocol."""

from __future__ import annotations

from qmon.errors import CommandError


def without_protocol(name: str) -> str:
    """The file that a name means (QEMU, path_has_protocol). Raises CommandError for what is no file."""
    protocol, rest = _split(name)
    if protocol is None:
        return name
    if protocol != "file":
        raise CommandError(f"Unknown protocol '{protocol}'")
    return rest if _split(rest)[0] is None else f"./{rest}"


def _split(name: str) -> tuple[str | None, str]:
    protocol, colon, rest = name.partition(":")
    return (protocol, rest) if colon and "/" not in protocol else (None, name)
