"""What a migration's address lacks, below the error of a command that could not use it."""

from __future__ import annotations

from functools import wraps

from qmon.errors import CommandError
from qmon.hmp.handlers import Call, Handler
from qmon.notation.address import address_hint


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
