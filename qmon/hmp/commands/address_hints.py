"""What a migration's address lacks or what to look at, below the error of a command that could not use it."""

from __future__ import annotations

import errno
import os
from functools import wraps

from qmon.errors import CommandError
from qmon.hmp.handlers import Call, Handler
from qmon.notation.address import address_hint

_NOBODY = tuple(os.strerror(number) for number in (errno.ECONNREFUSED, errno.ENOENT))


def with_address_hint(function: Handler) -> Handler:
    """Add a hint to the errors of a command with a ``uri``; QEMU's error stays the first line."""

    @wraps(function)
    async def run(call: Call) -> None:
        try:
            await function(call)
        except CommandError:
            hint = address_hint(call.text("uri"))
            call.hint(hint and hint[0].upper() + hint[1:])
            raise

    return run


def is_nobody(error: str) -> bool:
    """Whether an error says that nothing listens at a destination's address."""
    return error.startswith("Failed to connect to ") and error.endswith(_NOBODY)


def nobody_there(error: str) -> str | None:
    """Return what to look at if nothing listens at a destination's address, None for another error."""
    if is_nobody(error):
        return "Is a qmon with -incoming and this address running there?"
    return None
