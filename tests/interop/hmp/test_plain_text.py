"""What peers, images and file systems say, with escape sequences in it, and what people are shown of that."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qmon.migration.wire.answers import Type, encode
from qmon.nbd.constants import Option
from tests.support.images import MIB, blank, drive
from tests.support.nbd_client import NbdClient, option
from tests.support.processes import CHECKOUT, QMON, Lab
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE, connected, eventually

FORGED = "VM status: forged"
EVIL = f"evil\x1b[31mred\x1b]0;title\x07\x9b2J\u202eback\x7f\r\n{FORGED}"
SHOWN = r"evil\x1b[31mred\x1b]0;title\x07\x9b2J\u202eback\x7f"
HARM = [b"\x1b[31mred", b"\x1b]0;title", b"title\x07", b"\xc2\x9b", "\u202e".encode(), b"back\x7f"]
ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def assert_harmless(data: bytes, times: int = 1) -> None:
    """What was said is there, so many times at least, and does nothing."""
    assert not [harm for harm in HARM if harm in data], data
    text = ANSI.sub(b"", data)
    assert not re.search(rb"^%s" % FORGED.encode(), text, re.MULTILINE), data
    assert text.count(SHOWN.encode()) >= times, data


class Terminal:
    """A qmon on a terminal of its own, and every byte that it has written there."""

    def __init__(self, folder: Path, *options: str, **environ: str) -> None:
        self.written = b""
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (50, 500))
        self._master = master
        self.process = subprocess.Popen(
            [*QMON, "-statedir", str(folder / "state"), *options],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "500", **environ},
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            deadline = time.monotonic() + PATIENCE
            while self.process.poll() is None and time.monotonic() < deadline:
                self.look()  # what nobody reads would hold it up
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._master)

    def look(self) -> bytes:
        """Read what there is; return all that was written."""
        while select.select([self._master], [], [], 0.02)[0]:
            try:
                self.written += os.read(self._master, 1 << 16)
            except OSError:  # it has ended
                break
        return self.written

    def wait(self, holds: Callable[[bytes], object], wanted: str) -> None:
        try:
            eventually(lambda: holds(ANSI.sub(b"", self.look())), wanted)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.written[-2000:]!r}") from None

    def line(self, line: str, wanted: bytes) -> None:
        """Give a line, and wait until something that it prints is there, and behind it a prompt."""
        mark = len(self.look())
        os.write(self._master, line.encode() + b"\r")
        done = re.compile(wanted + rb".*\(qemu\)", re.DOTALL)
        self.wait(lambda _: done.search(ANSI.sub(b"", self.written[mark:])), f"'{line}' has run")


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """A destination that refuses whatever comes, in its own words."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.sendall(encode(Type.REFUSED, EVIL.encode()))
                    while sock.recv(1 << 16):
                        pass

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def say_evil(qmp: QmpClient, folder: Path) -> None:
    """Have names with escape sequences wherever QMP takes one."""
    overlay = str(folder / "overlay.qcow2")
    qmp.run("blockdev-snapshot-sync", device="d0", snapshot_file=overlay, format="qcow2")
    qmp.run("blockdev-snapshot-internal-sync", device="d0", name=EVIL)
    qmp.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(folder / "nbd")}})
    (node,) = (each["inserted"]["node-name"] for each in qmp.run("query-block") if each["device"] == "d0")
    qmp.run("block-export-add", type="nbd", id="e0", node_name=node, name=EVIL)


@contextlib.contextmanager
def evil_client(folder: Path) -> Iterator[None]:
    """An NBD client that uses the export, after one that asked for none that is there."""
    with NbdClient(folder / "nbd") as client:
        client.greet()
        client.socket.sendall(option(Option.EXPORT_NAME, f"no {EVIL}".encode()))
        assert client.at_end()
    with NbdClient(folder / "nbd") as client:
        client.go(EVIL)
        yield


def evil_image(folder: Path) -> Path:
    return blank(folder / f"{EVIL}.img", 16 * MIB)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@pytest.mark.parametrize("logged", [False, True], ids=["on the terminal", "in a file"])
def test_nothing_that_is_said_reaches_a_terminal_or_a_log_as_more_than_text(
    tmp_path: Path, term: str, logged: bool
) -> None:
    log = tmp_path / "log"
    options = [*drive(evil_image(tmp_path)), "-monitor", "stdio"]
    options += ["-qmp", f"unix:{tmp_path / 'qmp'},server,nowait"]
    if logged:
        options += ["-D", str(log)]
    with Terminal(tmp_path, *options, TERM=term, PAGER="") as terminal:
        terminal.wait(lambda text: b"(qemu)" in text, "a prompt")
        terminal.line("info block", b"Cache mode")
        assert_harmless(terminal.look())
        with QmpClient(tmp_path / "qmp") as qmp:
            say_evil(qmp, tmp_path)
        terminal.line("info snapshots", FORGED.encode())
        terminal.line("info block -v", b"Snapshot list")
        with evil_client(tmp_path):
            terminal.wait(lambda text: b"connected to export 'evil" in text, "the client is told of")
        with refusing(tmp_path / "there"):
            terminal.line(f"migrate -d unix:{tmp_path / 'there'}", b"(Error|Migration failed): evil")
            terminal.line("info migrate", b"Migration: +failed")
        assert_harmless(terminal.look(), 5)
        if logged:
            assert_harmless(log.read_bytes())


def test_nothing_that_is_said_reaches_a_monitors_client_as_more_than_text(lab: Lab) -> None:
    log, transcript = lab.folder / "a.log", lab.folder / "a.transcript"
    qmon = lab.start("qmon", *drive(evil_image(lab.folder)), "-D", str(log))
    qmon.quietly(f"transcript {transcript}")
    with QmpClient(qmon.qmp_path) as qmp:
        say_evil(qmp, lab.folder)
    with evil_client(lab.folder):
        assert qmon.status() == "running"
    said = [
        qmon.command(line) for line in ("info block", "info snapshots", "info block -v", "info block-jobs")
    ]
    with refusing(lab.folder / "there"):
        said.append(qmon.command(f"migrate unix:{lab.folder / 'there'}"))
    said.append(qmon.command("info migrate"))
    assert_harmless("\n".join(said).encode(), 5)
    assert_harmless(log.read_bytes())
    qmon.quietly("transcript off")
    assert_harmless(transcript.read_bytes(), 4)


def test_a_monitors_client_sees_no_more_than_text_of_what_it_sends_and_completes(lab: Lab) -> None:
    for name in (f"one-{EVIL}", f"two-{EVIL}"):
        (lab.folder / name).touch()
    qmon = lab.start("qmon")
    with connected(lab.folder / "qmon.sock") as client:
        client.sendall("print \x9b2J\u202eback\x7f\xa0\n".encode())
        client.sendall(f"change ide0 {lab.folder}/\t\t\x15".encode())
        client.sendall(f"logfile {lab.folder}/one\t\n".encode())
        client.sendall(b"info status\n")
        seen = b""
        while b"VM status: running" not in seen:
            seen += client.recv(1 << 16)
    assert not [harm for harm in HARM if harm in seen], seen
    assert qmon.status() == "running"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*QMON, "-statedir", str(folder / "state"), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=3 * PATIENCE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )


def test_nothing_that_is_said_reaches_a_scripts_output_or_error_as_more_than_text(tmp_path: Path) -> None:
    image = evil_image(tmp_path)
    assert_harmless(run(tmp_path, *drive(image), "-c", "info block").stdout)
    with refusing(tmp_path / "there"):
        done = run(tmp_path, *drive(image), "-c", f"migrate unix:{tmp_path / 'there'}")
        assert_harmless(done.stderr)
    (tmp_path / f"{EVIL}.hmp").write_text(f"nosuch\nscreendump \x9b2J\u202e{FORGED}\n")
    for options in (
        ["-script", f"no {EVIL}"],
        ["-keep-going", "-script", f"{EVIL}.hmp"],
        ["-c", f"include '{EVIL}'"],
        ["-drive", f"file={EVIL}"],
        ["-D", f"{EVIL}/log"],
        ["-trace-qmp", "-c", f"screendump '{EVIL}'"],
        [f"-{EVIL}"],
    ):
        done = run(tmp_path, *options)
        assert done.returncode, options
        said = done.stdout + done.stderr
        assert b"evil" in said, options
        assert not [harm for harm in HARM if harm in said], said
