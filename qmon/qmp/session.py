"""One client's conversation: it negotiates, then its commands run. No bytes are seen here."""

from __future__ import annotations

import logging
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError
from qmon.host.trace import HANDLE_QMP_COMMAND, MONITOR_QMP_RESPOND
from qmon.notation.qapi import default_schema
from qmon.qmp.requests import Request, read_request
from qmon.qmp.schema import allows_oob, check_arguments
from qmon.qmp.target import Target
from qmon.version import version_info

_logger = logging.getLogger("qmon.qmp")

OOB = "oob"
_NEGOTIATION = "qmp_capabilities"


def greeting() -> dict[str, Any]:
    """Return the greeting, the first message to a client."""
    return {"QMP": {"version": version_info(), "capabilities": [OOB]}}


class Session:
    """What a client has negotiated; ``answer`` runs its commands."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.negotiated = False
        self.oob = False

    async def answer(self, message: Any) -> dict[str, Any]:
        """Run the command of one message; return the response, with the message's id."""
        if isinstance(message, CommandError):
            return _error(message)
        HANDLE_QMP_COMMAND("req=%s", message)
        response: dict[str, Any]
        try:
            result = await self._run(read_request(message, oob=self.oob))
            response = {"return": {} if result is None else result}
        except CommandError as error:
            response = _error(error)
        except Exception as error:
            _logger.exception("a QMP command failed by an internal error")
            response = _error(CommandError(f"internal error: {error!r}"))
        if isinstance(message, dict) and "id" in message:
            response["id"] = message["id"]
        MONITOR_QMP_RESPOND("resp=%s", response)
        return response

    async def _run(self, request: Request) -> Any:
        name = request.command
        if not self.negotiated and name != _NEGOTIATION:
            raise CommandError(
                "Expecting capabilities negotiation with 'qmp_capabilities'",
                CommandNotFoundError.error_class,
            )
        if request.is_oob and not allows_oob(default_schema(), name):
            if name != _NEGOTIATION and name not in self._target.commands():
                raise CommandNotFoundError(name)
            raise CommandError(f"The command {name} does not support OOB")
        if name == _NEGOTIATION:
            return self._negotiate(request.arguments)
        return await self._target.execute(name, request.arguments)

    def _negotiate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        check_arguments(default_schema(), _NEGOTIATION, arguments)
        if self.negotiated:
            raise CommandError(
                "Capabilities negotiation is already complete, command ignored",
                CommandNotFoundError.error_class,
            )
        self.oob = OOB in arguments.get("enable", [])
        self.negotiated = True
        return {}


def _error(error: CommandError) -> dict[str, Any]:
    return {"error": {"class": error.error_class, "desc": str(error)}}
