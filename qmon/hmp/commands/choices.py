"""Arguments that must be one of a few words; the target knows which."""

from __future__ import annotations

import re
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.handlers import Call
from qmon.qmp.target import Arguments

_REFUSED = re.compile(r"Parameter '[^']*' does not accept value '(.*)'", re.DOTALL)


async def execute_choice(call: Call, command: str, arguments: Arguments) -> Any:
    """Run a QMP command. Raises CommandError, with HMP's message about a word that is not accepted."""
    try:
        return await call.execute(command, arguments)
    except CommandError as error:
        match = _REFUSED.fullmatch(str(error))
        if match is None:
            raise
        raise CommandError(f"invalid parameter value: {match[1]}") from error
