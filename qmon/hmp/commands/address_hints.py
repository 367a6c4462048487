"""What a migration's address lacks or what to look at, below the error of a command that could not use it."""

from __future__ import annotations

import errno
import os
from functools import wraps

from qmon.errors import CommandError
from qmon.hmp.handlers import Call, Handler
from qmon.notation.address import address_hint

_NOBODY = tuple(os.strerror(number) for number in (errno.ECONNREFUSED, errno.ENOENT))


def hint_of(call: Call) -> str | None:
    """Return how to write the address of a line whose ``uri`` was refused, None if nothing is missing."""
    hint = address_hint(call.text("uri"))
    return hint and hint[0].upper() + hint[1:]


def with_address_hint(function: Handler) -> Handler:
    """Add a hint to the errors of a command with a ``uri``; QEMU's error stays the first line."""

    @wraps(function)
    async def run(call: Call) -> None:
        try:
            await function(call)
        except CommandError:
            call.hint(hint_of(call))
            raise

    return run


def is_nobody(error: str) -> bool:
    """Whether an error says that nothing listens at a destination's address."""
    return error.startswith("Failed to connect to ") and error.endswith(_NOBODY)


def there(uri: str) -> str:
    """Return the address on which a destination listens so that it is reached by ``uri``."""
    port = uri.partition(",")[0].rpartition(":")[2]
    return f"tcp:0:{port}" if uri.startswith("tcp:") and port else uri


_NO_CONSOLE = (
    "it closed the connection",
    os.strerror(errno.ECONNRESET),
    "what listens there is no console that waits for a guest",
    "not a qmon console on a QEMU",
)


def is_no_console(error: str) -> bool:
    """Whether an error says that something else than a qmon console listens at a destination's address."""
    return error.endswith(_NO_CONSOLE)


def nobody_there(error: str) -> str | None:
    """Return what to look at if nothing listens at a destination's address, None for another error."""
    if is_nobody(error):
        return "Is a qmon with -incoming and this address running there?"
    return None
