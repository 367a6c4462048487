"""A test's end of a QMP connection on a Unix socket; QEMU's and qmon's are alike."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qmon.errors import CommandError
from tests.support.waiting import PATIENCE, connect_when_there, send_all


class QmpClient:
    """One command at a time; waits for the socket to be there. ``events`` keeps every event that came."""

    def __init__(
        self, path: Path | socket.socket, *, negotiates: bool = True, timeout: float = 3 * PATIENCE
    ) -> None:
        """``path`` may be a connected socket, too."""
        self.socket = path if isinstance(path, socket.socket) else connect_when_there(path, PATIENCE)
        self.socket.settimeout(timeout)
        self.lines = self.socket.makefile("rb")
        self.greeting = self.read()
        self.events: list[dict[str, Any]] = []
        if negotiates:
            self.run("qmp_capabilities")

    def __enter__(self) -> QmpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def read(self) -> Any:
        """The next message, whatever it is. Raises ConnectionError at the end of the connection."""
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the QMP server closed the connection")
        return json.loads(line)

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Send a message, or text as it stands, and descriptors along with it; return the answer."""
        text = message if isinstance(message, str) else json.dumps(message)
        send_all(self.socket, text.encode() + b"\n", descriptors)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer. Events are kept; QEMU may greet a second time before it."""
        while True:
            message: dict[str, Any] = self.read()
            if message.keys() & {"return", "error"}:
                return message
            if "event" in message:
                self.events.append(message)

    def ask(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        descriptors: Sequence[int] = (),
        **named: Any,
    ) -> dict[str, Any]:
        """Give a command; return the answer, an error too. An underscore in a keyword is a hyphen."""
        for name, value in named.items():
            arguments = {**(arguments or {}), name.replace("_", "-"): value}
        given = {"arguments": dict(arguments)} if arguments else {}
        return self.send({"execute": command, **given}, descriptors)

    def run(self, command: str, arguments: Mapping[str, Any] | None = None, **named: Any) -> Any:
        """Give a command; return its result. Raises CommandError."""
        answer = self.ask(command, arguments, **named)
        if "error" in answer:
            raise CommandError(answer["error"]["desc"], answer["error"]["class"])
        return answer["return"]

    @property
    def event_names(self) -> list[str]:
        return [event["event"] for event in self.events]
