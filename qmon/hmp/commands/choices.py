"""Arguments that must be one of a few words, which the target knows best."""

from __future__ import annotations

import re
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.handlers import Call
from qmon.qmp.target import Arguments

_REFUSED = re.compile(r"Parameter '[^']*' does not accept value '(.*)'", re.DOTALL)


async def execute_choice(call: Call, command: str, arguments: Arguments) -> Any:
    """Run a QMP command; a value that is none of an enumeration's is refused in the monitor's words.

    Raises CommandError.
    """
    try:
        return await call.execute(command, arguments)
    except CommandError as error:
        match = _REFUSED.fullmatch(str(error))
        if match is None:
            raise
        raise CommandError(f"invalid parameter value: {match[1]}") from error
