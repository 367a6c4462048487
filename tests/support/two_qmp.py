"""One list of QMP exchanges, played on a real QEMU and on a qmon: events and answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.peer import MACHINE, QEMU_7, QMON_HERE
from tests.support.peers import require
from tests.support.processes import CHECKOUT
from tests.support.qmp_client import QmpClient

Message = tuple[str] | tuple[str, Mapping[str, Any]]
"""A command, and its arguments if it has any."""

_NODE = re.compile(r"#block\d+")


class Side:
    """A QEMU or a qmon in a folder of its own, and what it has said."""

    def __init__(self, folder: Path, client: QmpClient) -> None:
        self.folder = folder
        self.client = client
        self._names: dict[str, str] = {}
        self._events = 0

    def say(self, message: Message) -> list[Any]:
        """Send a message; return the events since the last one, then the answer, as both sides should say."""
        given = message[1] if len(message) > 1 else {}
        answer = self.client.ask(message[0], {name: self._own(value) for name, value in given.items()})
        events = [
            {key: value for key, value in event.items() if key != "timestamp"}
            for event in self.client.events[self._events :]
            if not event["event"].startswith("X_QMON_")
        ]
        self._events = len(self.client.events)
        return [self._common(each) for each in (*events, answer)]

    def _own(self, value: Any) -> Any:
        """Replace ``<0>``, a name that was told, by this side's name of the node."""
        own = {told: name for name, told in self._names.items()}
        return own.get(value, value) if isinstance(value, str) else value

    def _common(self, value: Any) -> Any:
        """Without what only qmon tells, and with the nodes named in the order of their appearance."""
        if isinstance(value, dict):
            return {
                key: self._common(each)
                for key, each in sorted(value.items())
                if not key.startswith("x-qmon-")
            }
        if isinstance(value, list):
            return [self._common(each) for each in value]
        if isinstance(value, str):
            return _NODE.sub(lambda found: self._told(found.group()), value)
        return value

    def _told(self, name: str) -> str:
        return self._names.setdefault(name, f"<{len(self._names)}>")


class TwoQmp:
    """A QEMU and a qmon with the same options, each beside the same files."""

    def __init__(self, qemu: Side, qmon: Side) -> None:
        self.qemu = qemu
        self.qmon = qmon

    def differing(self, messages: Sequence[Message]) -> str:
        """Play the messages in order; return those that are answered differently, with both answers."""
        rows = []
        for message in messages:
            theirs, ours = self.qemu.say(message), self.qmon.say(message)
            if theirs != ours:
                rows += [json.dumps(message), f"  QEMU: {json.dumps(theirs)}", f"  qmon: {json.dumps(ours)}"]
        return "\n".join(rows)


@contextmanager
def two_qmp(folder: Path, files: Callable[[Path], None], options: Sequence[str] = ()) -> Iterator[TwoQmp]:
    """Start both; ``files`` makes the files in a side's folder."""
    require("qemu-system-x86_64")
    with ExitStack() as stack:
        sides = []
        for name, program in (("qemu", (*QEMU_7, *MACHINE)), ("qmon", (*QMON_HERE, "-monitor", "none"))):
            here = folder / name
            here.mkdir()
            files(here)
            qmp = ("-qmp", "unix:qmp,server,nowait")
            environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
            process = subprocess.Popen(
                [*program, *qmp, *options], cwd=here, env=environ, stdin=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            sides.append(Side(here, stack.enter_context(QmpClient(here / "qmp"))))
        yield TwoQmp(*sides)
