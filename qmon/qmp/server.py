"""The QMP server (QEMU, docs/interop/qmp-spec)."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError
from qmon.host.trace import HANDLE_QMP_COMMAND, MONITOR_QMP_RESPOND
from qmon.qmp.framer import JsonFramer
from qmon.qmp.json_pieces import json_pieces
from qmon.qmp.peer import Peer
from qmon.qmp.schema import Signature
from qmon.qmp.target import Event, Target
from qmon.version import version_info

log = logging.getLogger("qmon.qmp")

_READ_SIZE = 2 << 10
"""Bytes of one read. Parsing them keeps the loop only briefly, however many tokens they hold."""

HELD_MAX = 4 << 20
"""A client is disconnected when this many bytes of events wait behind an answer that it does not read."""

_MEMBERS = ("execute", "arguments", "id")
_NEGOTIATION = Signature.of({"enable": list[str] | None})


def greeting() -> dict[str, Any]:
    """Return the greeting, the first message to a client; no capability is offered."""
    return {"QMP": {"version": version_info(), "capabilities": []}}


def encode_event(event: Event) -> dict[str, Any]:
    """Return the message of an event."""
    seconds = int(event.timestamp)
    microseconds = int((event.timestamp - seconds) * 1_000_000)
    message: dict[str, Any] = {"event": event.name}
    if event.data:
        message["data"] = dict(event.data)
    message["timestamp"] = {"seconds": seconds, "microseconds": microseconds}
    return message


def _error(error: CommandError) -> dict[str, Any]:
    return {"error": {"class": error.error_class, "desc": str(error)}}


class _Session:
    """One client's conversation: negotiation first, then commands one after another."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.negotiated = False

    async def answer(self, message: Any) -> dict[str, Any]:
        """Run the command of one message; return the response, with the message's id."""
        if isinstance(message, CommandError):
            return _error(message)
        response: dict[str, Any]
        try:
            result = await self._execute(message)
            response = {"return": {} if result is None else result}
        except CommandError as error:
            response = _error(error)
        except Exception as error:
            log.exception("a QMP command failed by an internal error")
            response = _error(CommandError(f"internal error: {error!r}"))
        if isinstance(message, dict) and "id" in message:
            response["id"] = message["id"]
        MONITOR_QMP_RESPOND("resp=%s", response)
        return response

    async def _execute(self, message: Any) -> Any:
        HANDLE_QMP_COMMAND("req=%s", message)
        if not isinstance(message, dict):
            raise CommandError("QMP input must be a JSON object")
        for member in message:
            if member not in _MEMBERS:
                raise CommandError(f"QMP input member '{member}' is unexpected")
        if "execute" not in message:
            raise CommandError("QMP input lacks member 'execute'")
        name = message["execute"]
        if not isinstance(name, str):
            raise CommandError("QMP input member 'execute' must be a string")
        arguments = message.get("arguments", {})
        if not isinstance(arguments, dict):
            raise CommandError("QMP input member 'arguments' must be an object")
        if name == "qmp_capabilities":
            return self._negotiate(arguments)
        if not self.negotiated:
            raise CommandError(
                "Expecting capabilities negotiation with 'qmp_capabilities'",
                CommandNotFoundError.error_class,
            )
        return await self._target.execute(name, arguments)

    def _negotiate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.negotiated:
            raise CommandError(
                "Capabilities negotiation is already complete, command ignored",
                CommandNotFoundError.error_class,
            )
        _NEGOTIATION.bind(arguments)
        for capability in arguments.get("enable", []):
            raise CommandError(f"Capability '{capability}' is not offered: this server offers none")
        self.negotiated = True
        return {}


class QmpServer:
    """A front end that serves ``target`` to each client of a character device, in a session of its own.

    ``pretty``: answers are indented for a person to read.
    """

    def __init__(self, target: Target, *, pretty: bool = False) -> None:
        self._target = target
        self._layout: dict[str, Any] = {"indent": 4} if pretty else {}

    async def serve(self, stream: Peer) -> None:
        """Serve one client until it disconnects. Raises OSError."""
        session = _Session(self._target)
        framer = JsonFramer()

        serving = asyncio.current_task()
        held: list[bytes] | None = None

        def encode(message: dict[str, Any]) -> bytes:
            return json.dumps(message, **self._layout).replace("\n", "\r\n").encode() + b"\r\n"

        def tell(event: Event) -> None:
            if not session.negotiated or event.private:
                return
            if held is None:
                stream.write(encode(encode_event(event)))
                return
            held.append(encode(encode_event(event)))
            if sum(map(len, held)) > HELD_MAX and serving is not None:
                log.warning("a QMP client was disconnected: it does not read its events")
                serving.cancel()

        async def answer(message: Any) -> None:
            nonlocal held
            response = await session.answer(message)
            if framer.is_small:
                stream.write(encode(response))
                return
            held = []
            for piece in json_pieces(response):
                stream.write(piece.encode())
                await stream.drain()
                await asyncio.sleep(0)
            stream.write(b"\r\n")
            for event in held:
                stream.write(event)
            held = None

        stream.write(encode(greeting()))
        unsubscribe = self._target.subscribe(tell)
        try:
            while data := await stream.read(_READ_SIZE):
                for message in framer.feed(data):
                    await answer(message)
                    del message  # it may be large, and the wait for the next one long
                await stream.drain()
        finally:
            unsubscribe()
            framer.close()
