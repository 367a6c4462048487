"""A QMP server that answers what a test tells it, in a thread."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GREETING = {
    "QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 1}, "package": ""}, "capabilities": []}
}


class StrangeServer:
    """Serves one client after another on a Unix socket. An answer that is bytes is sent as it is.

    ``answers`` maps a command, or a line for the human monitor, to its result.
    """

    def __init__(self, path: Path, answers: Mapping[str, Any]) -> None:
        self._answers = {"qmp_capabilities": {}, "help": "stop|s -- halt\r\ninfo [x] -- show\r\n"} | dict(
            answers
        )
        self._answers.setdefault("info", "info status -- show\r\n")
        names = {"human-monitor-command", "query-commands", *answers}
        self._answers.setdefault("query-commands", [{"name": name} for name in names])
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> StrangeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                try:
                    self._talk(client)
                except OSError:
                    continue

    def _talk(self, client: socket.socket) -> None:
        client.sendall(json.dumps(GREETING).encode() + b"\r\n")
        text = ""
        while data := client.recv(65536):
            text += data.decode()
            while text.strip():
                try:
                    message, end = json.JSONDecoder().raw_decode(text.lstrip())
                except ValueError:
                    break  # the rest of it is on its way
                text = text.lstrip()[end:]
                client.sendall(self._answer(message))

    def _answer(self, message: Mapping[str, Any]) -> bytes:
        line = message.get("arguments", {}).get("command-line")
        answer = self._answers.get(message["execute"] if line is None else line, "")
        if isinstance(answer, bytes):
            return answer
        return json.dumps({"return": answer, "id": message.get("id")}).encode() + b"\n"
