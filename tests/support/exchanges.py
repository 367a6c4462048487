"""QMP exchanges with a real QEMU, recorded once, and the same requests put to another program.

A file ``NAME.qmp`` has one request a line: a command's name and its arguments as JSON, or, if it starts with
``{`` or ``!``, a message as it is sent. ``;`` starts a note. ``NAME.json`` beside it has QEMU's messages, one
line for each request: a list in the order in which they came, events and the answer.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.images import MIB
from tests.support.peer import options_of
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE, send_all

Message = dict[str, Any]

QUIET_SECONDS = 0.05
"""No more events are expected of QEMU when it has said nothing for so long."""

_GENERATED = re.compile(r"#block\d+")
_VARYING = re.compile(r"(?:.*_time_ns|actual-size|date-sec|date-nsec|vm-clock-nsec|vm-clock-sec|timestamp)$")
"""Members whose values differ from run to run, in any program."""


def drives(folder: Path) -> list[str]:
    """Images in ``folder``, and the options that make drives of three of them: d0, d1 (an overlay) and ro."""
    (folder / "d0.img").write_bytes(bytes(range(256)) * 4096 + bytes(15 * MIB))
    (folder / "base.img").write_bytes(b"B" * MIB + bytes(15 * MIB))
    for name in ("ro.img", "spare.img", "other.img"):
        (folder / name).write_bytes(bytes(16 * MIB))
    for name in ("spare.qcow2", "other.qcow2"):
        _create(folder, name)
    for name in ("d1.qcow2", "over.qcow2"):
        _create(folder, name, "-F", "raw", "-b", "base.img")
    return options_of(
        "id=d0,file=d0.img,format=raw",
        "id=d1,file=d1.qcow2,format=qcow2",
        "id=ro,file=ro.img,format=raw,readonly=on",
    )


def _create(folder: Path, name: str, *more: str) -> None:
    size = [] if more else ["16M"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, name, *size], cwd=folder, check=True)


def requests_of(file: Path) -> list[str]:
    """The requests of a file, without its notes."""
    return [line for line in file.read_text().splitlines() if line and not line.startswith(";")]


def message_of(request: str) -> str:
    """What is sent for a request."""
    if request.startswith("!"):
        return request[1:]
    if request.startswith("{"):
        return request
    command, _, arguments = request.partition(" ")
    return json.dumps({"execute": command, **({"arguments": json.loads(arguments)} if arguments else {})})


class Conversation:
    """Puts requests to a program; what varies between runs of one program is made alike."""

    def __init__(self, client: QmpClient) -> None:
        self._client = client
        self._buffer = b""
        self._names: dict[str, str] = {}

    def exchange(self, request: str, events: int | None = None) -> list[Message]:
        """Send a request; return the messages up to its answer, and the events that follow.

        ``events`` says how many there are in all; None: wait until there are no more for a while.
        """
        try:
            return self._exchange(message_of(request), events)
        except ConnectionError as error:
            raise AssertionError(f"the program ended at: {request}") from error

    def _exchange(self, text: str, events: int | None) -> list[Message]:
        send_all(self._client.socket, text.encode() + b"\n", ())
        got: list[Message] = []
        deadline = time.monotonic() + PATIENCE
        while (message := self._read(deadline)) is not None:
            got.append(message)
            if message.keys() & {"return", "error"}:
                break
        if events is None:
            while (message := self._read(time.monotonic() + QUIET_SECONDS)) is not None:
                got.append(message)
        else:
            deadline = time.monotonic() + PATIENCE / 4
            while len(got) < events and (message := self._read(deadline)) is not None:
                got.append(message)
        return [self._alike(message) for message in got]

    def rest(self) -> list[Message]:
        """What else is said for a moment: a program may say more than QEMU."""
        found = []
        while (message := self._read(time.monotonic() + QUIET_SECONDS)) is not None:
            found.append(self._alike(message))
        return found

    def _read(self, deadline: float) -> Message | None:
        """The next message, or None if there is none in time. Raises ConnectionError."""
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._client.socket], [], [], left)[0]:
                return None
            data = self._client.socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def _alike(self, value: Any, name: str = "") -> Any:
        if _VARYING.match(name):
            return "..."
        if isinstance(value, dict):
            return {key: self._alike(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self._alike(each) for each in value]
        if isinstance(value, str):
            return _GENERATED.sub(self._numbered, value)
        return value

    def _numbered(self, match: re.Match[str]) -> str:
        return self._names.setdefault(match.group(), f"#block-{len(self._names) + 1}")


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ: the path, and both values; order of members counts."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() | ours.keys():
            yield from differences(theirs.get(key, "(absent)"), ours.get(key, "(absent)"), f"{path}.{key}")
        if theirs.keys() == ours.keys() and list(theirs) != list(ours):
            yield f"{path}.(order)", list(theirs), list(ours)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif theirs != ours or type(theirs) is not type(ours):
        yield path, theirs, ours
