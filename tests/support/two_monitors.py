"""A real QEMU and a qmon, started alike, for the same lines to be put to both."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.monitor import PROMPT
from tests.support.processes import CHECKOUT, QMON
from tests.support.waiting import PATIENCE, connect_when_there, eventually

QEMU_7 = ("qemu-system-x86_64",)
QEMU_10 = ("/opt/qemu10/run", "qemu-system-x86_64")
CLOSED = ("<the monitor closed>",)
SHOWN_MAX = 8
"""So many lines of an answer are shown at most when a test fails."""
MIB = 1 << 20

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NOISE = (
    (re.compile(r"#block\d+"), "#blockN"),
    (re.compile(r"(_time_ns|idle_time_ns)=\d+"), r"\1=N"),
)
"""What differs from run to run, in any program."""

_MACHINE = ["-M", "none", "-nodefaults", "-display", "none"]
_DRIVES = {"d0": "d0.img", "ro": "ro.img,readonly=on"}

Answer = tuple[str, ...]
"""The lines that a command printed; one that printed nothing has none."""


class Program:
    """A QEMU or a qmon in a folder of its own, with a monitor and QMP; started again once it has ended."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "d0.img").write_bytes(b"x" * MIB + bytes(15 * MIB))
        (folder / "ro.img").write_bytes(bytes(16 * MIB))
        drives = [f"if=none,id={name},format=raw,file={file}" for name, file in _DRIVES.items()]
        self._command = [
            *command,
            *_MACHINE,
            *(word for each in drives for word in ("-drive", each)),
            *("-monitor", "unix:m,server,nowait", "-qmp", "unix:qmp,server,nowait"),
        ]
        self._start()

    def _start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        path = self.folder / "m"
        eventually(lambda: path.exists() or self.process.poll() is not None, "a monitor")
        assert path.exists(), (self.folder / "log").read_text()
        self._socket = connect_when_there(path, PATIENCE)
        self._socket.settimeout(3 * PATIENCE)  # QEMU may take its time over a disk, beside much else
        self._read()

    def _read(self) -> str | None:
        data = b""
        while not data.endswith(PROMPT):
            piece = self._socket.recv(65536)
            if not piece:
                return None
            data += piece
        return _CONTROL.sub("", data.decode(errors="replace")).replace("\r", "")

    def ask(self, line: str, descriptors: Sequence[int] = ()) -> Answer:
        """Give a line, and descriptors along with it; return what it printed, or ``CLOSED``."""
        socket.send_fds(self._socket, [line.encode() + b"\n"], descriptors)
        try:
            text = self._read()
        except ConnectionResetError:
            text = None
        if text is None:
            return CLOSED
        for pattern, mark in _NOISE:
            text = pattern.sub(mark, text)
        return tuple(text.split("\n")[1:-1])

    def start_again(self) -> None:
        self.close()
        for name in ("m", "qmp"):
            (self.folder / name).unlink(missing_ok=True)
        self._start()

    def close(self) -> None:
        """End it, if it still runs."""
        self._socket.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class TwoMonitors:
    """A QEMU and a qmon with the same drives, in ``folder``; both have ended when it is left."""

    def __init__(self, folder: Path, qemu: Sequence[str] = QEMU_7) -> None:
        self.theirs = Program(qemu, folder / "qemu")
        try:
            self.ours = Program([*QMON, "-statedir", "state"], folder / "qmon")
        except BaseException:
            self.theirs.close()
            raise

    def __enter__(self) -> TwoMonitors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.theirs.close()
        self.ours.close()
        assert "Traceback" not in (log := (self.ours.folder / "log").read_text()), log

    def ask(self, line: str) -> tuple[Answer, Answer]:
        """QEMU's answer and qmon's. Both start anew when the line ended one of them."""
        answers = self.theirs.ask(line), self.ours.ask(line)
        if CLOSED in answers:
            self.start_again()
        return answers

    def start_again(self) -> None:
        self.theirs.start_again()
        self.ours.start_again()


def differing(monitors: TwoMonitors, lines: Sequence[str]) -> dict[str, tuple[Answer, Answer]]:
    """The lines that the two answer differently, with QEMU's answer and qmon's."""
    asked = {line: monitors.ask(line) for line in lines}
    return {line: (theirs, ours) for line, (theirs, ours) in asked.items() if theirs != ours}


def told(differences: dict[str, tuple[Answer, Answer]]) -> str:
    """The differences, to be read by whoever has to mend them."""
    parts = []
    for line, (theirs, ours) in differences.items():
        rows = [
            f"  {name}: {row}"
            for name, answer in (("QEMU", theirs), ("qmon", ours))
            for row in _shown(answer)
        ]
        parts.append("\n".join([f"(qemu) {line}", *rows]))
    return "\n".join(parts)


def _shown(answer: Answer) -> list[str]:
    more = len(answer) - SHOWN_MAX
    return [*answer[:SHOWN_MAX], *([f"... {more} lines more"] if more > 0 else [])] or ["(nothing)"]
