"""Reads a client's message: a command, its arguments, in band or out of it (QEMU, docs/interop/qmp-spec)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.notation.key_order import in_order


@dataclass(frozen=True, slots=True)
class Request:
    """A command to run; ``is_oob``: at once, whatever the client's earlier commands do."""

    command: str
    arguments: dict[str, Any]
    is_oob: bool


def jumps_the_queue(message: Any) -> bool:
    """Whether a message is handled before those that came earlier, even if it is then refused."""
    return isinstance(message, dict) and "exec-oob" in message and "execute" not in message


def read_request(message: Any, *, oob: bool) -> Request:
    """Check a message; ``oob``: the client has enabled out-of-band commands. Raises CommandError."""
    if not isinstance(message, dict):
        raise CommandError("QMP input must be a JSON object")
    verb = ""
    for member, value in in_order(message):
        if member == "execute" or (member == "exec-oob" and oob):
            if not isinstance(value, str):
                raise CommandError(f"QMP input member '{member}' must be a string")
            if verb:
                raise CommandError(f"QMP input member '{member}' clashes with '{verb}'")
            verb = member
        elif member == "arguments":
            if not isinstance(value, dict):
                raise CommandError("QMP input member 'arguments' must be an object")
        elif member != "id":
            raise CommandError(f"QMP input member '{member}' is unexpected")
    if not verb:
        raise CommandError("QMP input lacks member 'execute'")
    return Request(message[verb], message.get("arguments", {}), verb == "exec-oob")
