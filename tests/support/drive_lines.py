"""Lines about drives, put to a real QEMU and to a qmon that have the same ones."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.monitor import Monitor
from tests.support.processes import CHECKOUT, QMON
from tests.support.waiting import PATIENCE

MIB = 1 << 20
QEMU = ("qemu-system-x86_64",)

_NOISE = (
    (re.compile(r"#block\d+"), "#blockN"),
    (re.compile(r"(_time_ns|idle_time_ns)=\d+"), r"\1=N"),
    (re.compile(r"( ops; ).*"), r"\1..."),
    (re.compile(r"(?m)^(\d+,1,)\d:.*"), r"\1..."),
    (re.compile(r"disk size: .*"), "disk size: N"),
    (re.compile(r"(?m)^GLib: .*\n?"), ""),
    (re.compile(r"(?m)^(\S[^\n]*?) -- .*"), r"\1 -- ..."),
)
"""What differs from run to run, and each program's own words in a help line."""


def make_drives(folder: Path) -> list[str]:
    """Images in ``folder``, and the options that make drives of them: d0, d1 (an overlay) and ro."""
    (folder / "d0.img").write_bytes(bytes(range(256)) * 4096 + bytes(15 * MIB))
    (folder / "base.img").write_bytes(b"B" * MIB + bytes(15 * MIB))
    (folder / "pattern.txt").write_bytes(b"as it is written")
    for name in ("ro.img", "fresh.img", "other.img"):
        (folder / name).write_bytes(bytes(16 * MIB))
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.img", "d1.qcow2"]
    subprocess.run(overlay, cwd=folder, check=True)
    drives = ("id=d0,file=d0.img,format=raw", "id=d1,file=d1.qcow2,format=qcow2")
    read_only = "id=ro,file=ro.img,format=raw,readonly=on"
    return [word for each in (*drives, read_only) for word in ("-drive", f"if=none,{each}")]


class Peer:
    """A QEMU or a qmon in a new folder, with its monitor and what it prints on its terminal."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._terminal, theirs = os.openpty()  # a terminal, so that nothing is held back in a buffer
        os.set_blocking(self._terminal, False)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *command,
                    *("-M", "none", "-nodefaults", "-display", "none"),
                    *make_drives(folder),
                    *("-monitor", "unix:m,server,nowait"),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=log,
            )
        os.close(theirs)
        try:
            self.monitor = Monitor(folder / "m", PATIENCE)
        except BaseException:
            self._end()
            raise

    def ask(self, line: str) -> str:
        """What a line prints, on the monitor and, for ``qemu-io``, on the terminal."""
        text = self.monitor.command(line)
        if line.startswith("qemu-io"):
            if "aio_" in line:  # QEMU goes on while it works
                self.monitor.command('qemu-io d0 "aio_flush"')
            text = "\n".join(filter(None, (text, self._printed())))
        for pattern, mark in _NOISE:
            text = pattern.sub(mark, text)
        return text.rstrip("\n")

    def _printed(self) -> str:
        data = b""
        try:
            while piece := os.read(self._terminal, 65536):
                data += piece
        except BlockingIOError:
            pass  # that was all
        return data.decode(errors="replace").replace("\r", "").rstrip("\n")

    def close(self) -> None:
        """End it."""
        self.monitor.__exit__(None, None, None)
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._terminal)


def answers(command: Sequence[str], folder: Path, lines: Sequence[str]) -> list[str]:
    """What a program, started anew, answers to the lines one after another."""
    peer = Peer(command, folder)
    try:
        return [peer.ask(line) for line in lines]
    finally:
        peer.close()


def both(folder: Path, lines: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each line with QEMU's answer and qmon's."""
    theirs = answers(QEMU, folder / "qemu", lines)
    ours = answers([*QMON, "-statedir", "state"], folder / "qmon", lines)
    return list(zip(lines, theirs, ours, strict=True))
