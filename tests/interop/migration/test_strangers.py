"""A source that reaches something else than a destination, and a destination that something else reaches."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qmon.migration.progress import Progress
from qmon.migration.source.errors import LateAnswerError
from qmon.migration.source.link import Link
from qmon.migration.source.work_queue import WorkQueue
from qmon.migration.wire.answers import Type
from tests.support.images import MIB, blank, drive, filled
from tests.support.peer import MACHINE, QEMU_7, QEMU_10
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import Lab
from tests.support.visitors import visitor
from tests.support.waiting import PATIENCE, eventually

NOT_ONE = "before an answer: is {} a qmon with -incoming, of this version?"


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A program that answers each connection with these bytes and closes it; its URI."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the listener is closed
                while True:
                    sock, _ = listener.accept()
                    with sock:
                        sock.recv(1)
                        sock.sendall(answer)
                        sock.shutdown(socket.SHUT_WR)
                        while sock.recv(1 << 16):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


@contextlib.contextmanager
def running(*command: str, port: int, cwd: Path) -> Iterator[str]:
    """A real program that listens on a port; the URI of that port."""
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def listens() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f":{port:04X} " in Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()

    try:
        eventually(listens, f"{command[0]} listens")
        yield f"tcp:127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def why_failed(lab: Lab, uri: str) -> str:
    source = lab.start("source", *drive(filled(lab.folder / "a", MIB)))
    source.quietly(f"migrate -d blk {uri}")
    status = source.wait_migration("failed")
    assert source.status() == "running"
    return status.removeprefix("failed (").removesuffix(")")


@pytest.mark.parametrize(
    ("answer", "who"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "as an SSH server"),
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "as an HTTP server"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "as a TLS server"),
        (b"\x1b[2Jhello\n", "with '\\x1b[2Jhello'"),
        (b"!", "with '!'"),
    ],
)
def test_a_source_names_what_answers_instead_of_a_destination(lab: Lab, answer: bytes, who: str) -> None:
    with answering(answer) as uri:
        assert why_failed(lab, uri) == f"{uri} answers {who}, not as a migration destination"


def test_a_source_says_that_nothing_was_answered(lab: Lab) -> None:
    with answering(b"") as uri:
        assert why_failed(lab, uri) == f"the destination closed the connection {NOT_ONE.format(uri)}"


def test_a_source_says_that_nothing_was_sent() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, Progress(), "tcp:b:80", WorkQueue())
    link.expect(Type.AGREED)
    with pytest.raises(LateAnswerError) as caught:
        link.wait_for(Type.AGREED, timeout=0.01)
    link.close()
    theirs.close()
    assert str(caught.value) == (
        "tcp:b:80 has sent nothing for 0.01 s: is it a qmon with -incoming, of this version?"
    )


def qemu(*options: str) -> Sequence[str]:
    return (*QEMU_7, *MACHINE, *options)


@pytest.mark.parametrize("peer", ["nbd", "vnc", "qmp"])
def test_a_source_names_real_servers(lab: Lab, peer: str) -> None:
    port = free_port()
    vnc = port - 5900
    image = str(blank(lab.folder / "nbd.img", MIB))
    command, who = {
        "nbd": (("qemu-nbd", "-f", "raw", "-t", "-p", str(port), image), "an NBD"),
        "vnc": (("qemu-system-x86_64", "-M", "none", "-nodefaults", "-vnc", f"127.0.0.1:{vnc}"), "a VNC"),
        "qmp": (qemu("-qmp", f"tcp:127.0.0.1:{port},server=on,wait=off"), "a QMP"),
    }[peer]
    require(command[0])
    with running(*command, port=port, cwd=lab.folder) as uri:
        assert why_failed(lab, uri) == f"{uri} answers as {who} server, not as a migration destination"


@pytest.mark.parametrize("version", [QEMU_7, QEMU_10], ids=["QEMU 7.2", "QEMU 10"])
def test_a_source_asks_whether_a_waiting_qemu_is_a_qmon(lab: Lab, version: Sequence[str]) -> None:
    require(version[0])
    port = free_port()
    options = (*MACHINE, "-incoming", f"tcp:127.0.0.1:{port}")
    with running(*version, *options, port=port, cwd=lab.folder) as uri:
        assert why_failed(lab, uri).endswith(NOT_ONE.format(uri))


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "an HTTP client has sent 'GET / HTTP/1.1'"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH client has sent 'SSH-2.0-OpenSSH_9.2'"),
        (
            b"\x16\x03\x01\x02\x00\x01",
            "the source uses TLS, and this destination does not: set the parameter tls-creds here",
        ),
        (b"QEVM\0\0\0\3\7\0\0\0\2pc", "it is QEMU's own stream, or one of another version of qmon"),
    ],
)
def test_a_destination_names_what_reaches_it(lab: Lab, sent: bytes, why: str) -> None:
    uri = f"unix:{lab.folder}/in"
    target = lab.start("target", *drive(blank(lab.folder / "b", MIB)), "-incoming", uri)
    with visitor(uri, sent):
        target.wait_log(f"not a valid migration stream at byte 0: {why}")
    assert target.status() == "paused (inmigrate)"


def test_a_destination_names_a_real_qemu(lab: Lab) -> None:
    require(*QEMU_7)
    uri = f"unix:{lab.folder}/in"
    target = lab.start("target", *drive(blank(lab.folder / "b", MIB)), "-incoming", uri)
    done = subprocess.run(
        qemu("-monitor", "stdio"),
        input=f"migrate {uri}\nquit\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    target.wait_log("it is QEMU's own stream, or one of another version of qmon")
