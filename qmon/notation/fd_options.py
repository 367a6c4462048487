"""Reads ``-add-fd`` and the file names ``/dev/fdset/N``: descriptors that a parent passes on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmon.errors import UsageError
from qmon.notation.keyval import parse_keyval, parse_number

FDSET_PREFIX = "/dev/fdset/"

_INT_MAX = (1 << 31) - 1
_STANDARD_MAX = 2


@dataclass(frozen=True, slots=True)
class AddFd:
    """A descriptor of the process that becomes a member of a set."""

    fd: int
    set: int
    opaque: str | None = None
    shown: str = field(default="", compare=False)
    """The command-line option, as typed."""


def parse_add_fd(argument: str) -> AddFd:
    """Read ``fd=N,set=M[,opaque=TEXT]``. Raises UsageError with QEMU's message."""
    given = parse_keyval(argument)
    for key in given:
        if key not in ("fd", "set", "opaque", "id"):
            raise UsageError(f"Invalid parameter '{key}'")
    numbers: dict[str, int] = {key: _number(key, given[key]) for key in ("fd", "set") if key in given}
    for key in ("fd", "set"):
        if not 0 <= numbers.get(key, -1) <= _INT_MAX:
            raise UsageError(f"{key} option is required and must be non-negative")
        if key == "fd" and numbers["fd"] <= _STANDARD_MAX:
            raise UsageError("fd cannot be a standard I/O stream")
    return AddFd(numbers["fd"], numbers["set"], given.get("opaque"))


def _number(key: str, text: str) -> int:
    if text.startswith("-") and text[1:].isdecimal():
        return -1
    return parse_number(key, text)


def fdset_of(path: str) -> int | None:
    """Return the number of the set that a file name means; None for another name.

    Raises ValueError if it has the prefix and no number.
    """
    if not path.startswith(FDSET_PREFIX):
        return None
    number = path.removeprefix(FDSET_PREFIX)
    if not (number.isascii() and number.isdecimal() and int(number[:20]) <= _INT_MAX):
        raise ValueError(f"Could not parse fdset {path}")
    return int(number)
