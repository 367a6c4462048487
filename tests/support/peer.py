"""A QEMU or a qmon, started alike, so that the same lines can be put to both."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.hmp_client import HmpClient
from tests.support.images import MIB
from tests.support.processes import CHECKOUT, QMON
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE

QEMU_7 = ("qemu-system-x86_64",)
QEMU_10 = ("/opt/qemu10/run", "qemu-system-x86_64")
QMON_HERE = (*QMON, "-statedir", "state")

Answer = tuple[str, ...]
"""The lines that a command printed; one that printed nothing has none."""

CLOSED = ("<the monitor closed>",)

Pattern = tuple[re.Pattern[str], str]

NOISE: tuple[Pattern, ...] = (
    (re.compile(r"#block\d+"), "#blockN"),
    (re.compile(r"(_time_ns|idle_time_ns)=\d+"), r"\1=N"),
)
"""What differs from run to run, in any program, and what stands for it."""

MORE_NOISE = (
    *NOISE,
    (re.compile(r"( ops; ).*"), r"\1..."),
    (re.compile(r"(?m)^(\d+,1,)\d:.*"), r"\1..."),
    (re.compile(r"disk size: .*"), "disk size: N"),
    (re.compile(r"\nGLib: .*"), ""),
    (re.compile(r"(?m)^(\S[^\n]*?) -- .*"), r"\1 -- ..."),
)
"""The same with the figures of ``qemu-io``, the room that an image takes, and help sentences."""

_UNTERMINATED = "unterminated string"
"""What QEMU prints on its terminal of a line that ends within quotes, besides what its monitor says."""

MACHINE = ["-M", "none", "-nodefaults", "-display", "none"]


def options_of(*drives: str) -> list[str]:
    """The options that make drives."""
    return [word for each in drives for word in ("-drive", f"if=none,{each}")]


def two_drives(folder: Path) -> list[str]:
    """Images in ``folder``, and the options that make drives of them: d0 and the read-only ro."""
    (folder / "d0.img").write_bytes(b"x" * MIB + bytes(15 * MIB))
    (folder / "ro.img").write_bytes(bytes(16 * MIB))
    return options_of("id=d0,file=d0.img,format=raw", "id=ro,file=ro.img,format=raw,readonly=on")


def three_drives(folder: Path) -> list[str]:
    """The same with d0, d1 (an overlay) and ro, and files to be used by lines."""
    (folder / "d0.img").write_bytes(bytes(range(256)) * 4096 + bytes(15 * MIB))
    (folder / "base.img").write_bytes(b"B" * MIB + bytes(15 * MIB))
    (folder / "pattern.txt").write_bytes(b"as it is written")
    for name in ("ro.img", "fresh.img", "other.img"):
        (folder / name).write_bytes(bytes(16 * MIB))
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.img", "d1.qcow2"]
    subprocess.run(overlay, cwd=folder, check=True)
    return options_of(
        "id=d0,file=d0.img,format=raw",
        "id=d1,file=d1.qcow2,format=qcow2",
        "id=ro,file=ro.img,format=raw,readonly=on",
    )


class _Screen:
    """A terminal that a program prints on: nothing is held back in a buffer, and all is read at once."""

    _MARK, _END = b"\0that was all\0", b"\0the end\0"

    def __init__(self) -> None:
        self._reader, self.descriptor = os.openpty()
        self._printed = b""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._END not in self._printed:
            piece = os.read(self._reader, 65536)
            with self._news:
                self._printed += piece
                self._news.notify()

    def taken(self) -> str:
        """What has been printed since this was asked last."""
        # What is written to a terminal comes out of it a moment later, and in order.
        os.write(self.descriptor, self._MARK)
        with self._news:
            assert self._news.wait_for(lambda: self._MARK in self._printed, PATIENCE)
            printed, _, self._printed = self._printed.partition(self._MARK)
        return printed.decode(errors="replace").replace("\r", "").rstrip("\n")

    def close(self) -> None:
        os.write(self.descriptor, self._END)
        self._thread.join()
        os.close(self.descriptor)
        os.close(self._reader)


class Peer:
    """A program in a new folder, with its monitor, QMP, and a terminal that it prints on."""

    def __init__(
        self,
        program: Sequence[str],
        folder: Path,
        drives: Callable[[Path], list[str]] = two_drives,
        noise: Sequence[Pattern] = NOISE,
        *,
        options: Sequence[str] = (),
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.qmp_path = folder / "qmp"
        self._noise = noise
        self._command = [
            *program,
            *MACHINE,
            *drives(folder),
            *options,
            "-monitor",
            "unix:m,server,nowait",
            "-qmp",
            "unix:qmp,server,nowait",
        ]
        self.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, as its constructor does; it has ended before."""
        self._launch()
        try:
            self.monitor = HmpClient(self.folder / "m")
        except BaseException as error:
            self._end()
            raise AssertionError(f"it did not start: {self.log()}") from error

    def _launch(self) -> None:
        self._screen = _Screen()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=self._screen.descriptor,
                stderr=log,
            )

    def start_again(self) -> None:
        self._remove()
        self.start()

    def start_again_for_others(self) -> None:
        """Start it again, and leave its monitors to those that wait for them."""
        self._remove()
        self._launch()

    def _remove(self) -> None:
        self.close()
        for name in ("m", "qmp"):
            (self.folder / name).unlink(missing_ok=True)

    def log(self) -> str:
        """What it has printed on its standard error so far."""
        return (self.folder / "log").read_text()

    def lines(self, line: str, descriptors: Sequence[int] = ()) -> Answer:
        """Give a line, and descriptors along with it; return the lines that it prints, or ``CLOSED``.

        QEMU prints most of what ``qemu-io`` says on its terminal. While an ``aio_`` command works it goes on.
        """
        try:
            lines = self.monitor.lines(line, descriptors)
            if "aio_" in line:
                self.monitor.command('qemu-io d0 "aio_flush"')
        except ConnectionError:
            return CLOSED
        return self._whole(line, lines)

    def _whole(self, line: str, lines: list[str]) -> Answer:
        """Add what it has printed on its terminal; replace what differs from run to run."""
        printed = self._screen.taken()
        if printed and line.startswith("qemu-io"):
            lines += [each for each in printed.split("\n") if each != _UNTERMINATED]
        text = "".join(f"\n{each}" for each in lines)
        for pattern, mark in self._noise:
            text = pattern.sub(mark, text)
        return tuple(text.split("\n")[1:])

    def with_what_it_printed(self, line: str, answer: str) -> str:
        """What a line that came to it another way has printed: the answer, and what is on its terminal."""
        return "\n".join(self._whole(line, answer.split("\n") if answer else []))

    def command(self, line: str) -> str:
        """What a line prints as one text."""
        return "\n".join(self.lines(line))

    def qmp(self) -> QmpClient:
        """A new connection to its QMP server."""
        return QmpClient(self.qmp_path)

    def close(self) -> None:
        """End it, if it still runs."""
        self.monitor.close()
        self._end()

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._screen.close()
