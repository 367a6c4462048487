"""Monitors on sockets, terminals and pipes in real processes: what a client sees, and what it can't spoil."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT, QMON, Lab
from tests.support.waiting import PATIENCE, connect_when_there, eventually

PROMPT = b"(qemu) "
ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
TELNET_GREETING = b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00"
QEMU = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"]


def connected(address: Path | tuple[str, int]) -> socket.socket:
    """A connection to a listener, once it is there."""
    if isinstance(address, Path):
        sock = connect_when_there(address, PATIENCE)
    else:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                sock = socket.create_connection(address)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    sock.settimeout(PATIENCE)
    return sock


def read_to(sock: socket.socket, end: bytes = PROMPT) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = sock.recv(1 << 16)
        assert piece, f"closed after {data[-200:]!r}"
        data += piece
    return data


def answer(sock: socket.socket, line: bytes) -> str:
    """Give a line at a prompt; return what is printed."""
    sock.sendall(line + b"\n")
    text = ANSI.sub(b"", read_to(sock)).replace(b"\r", b"").decode()
    return "\n".join(text.split("\n")[1:-1])


@contextlib.contextmanager
def running(program: Sequence[str], *options: str, cwd: Path = CHECKOUT) -> Iterator[subprocess.Popen[str]]:
    """A process whose output can be read, ended with the block if it has not ended by itself."""
    process = subprocess.Popen(
        [*program, *options],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            said, _ = process.communicate(timeout=3 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert "Traceback" not in said, said


class TestKinds:
    def test_tcp_telnet_and_unix_at_once_with_many_clients_each(self, lab: Lab) -> None:
        tcp, telnet = free_port(), free_port()
        lab.start(
            "one",
            "-monitor",
            f"tcp:127.0.0.1:{tcp},server,nowait",
            "-monitor",
            f"telnet:127.0.0.1:{telnet},server=on,wait=off",
        )
        addresses: list[Path | tuple[str, int]] = [
            lab.folder / "one.sock",
            ("127.0.0.1", tcp),
            ("127.0.0.1", telnet),
        ]
        clients = [connected(address) for address in addresses * 3]
        for client in clients:
            read_to(client)
        for client in clients:
            assert answer(client, b"info status") == "VM status: running"
        for client in clients:
            client.close()

    def test_telnet_is_negotiated_as_qemu_does_it(self, lab: Lab) -> None:
        require(QEMU[0])
        ours, theirs = free_port(), free_port()
        lab.start("one", "-monitor", f"telnet:127.0.0.1:{ours},server,nowait")
        said = []
        with running([*QEMU, "-monitor"], f"telnet:127.0.0.1:{theirs},server,nowait"):
            for port in (ours, theirs):
                client = connected(("127.0.0.1", port))
                greeting = read_to(client)
                assert greeting.startswith(TELNET_GREETING)
                client.sendall(b"\xff\xfd\x01\xff\xfb\x1fpri\xff\xf3nt 1\xff\xfe\x00\r\0what\r\n")
                said.append(read_to(client, b"what'\r\n(qemu) \r\n(qemu) "))
                client.close()
        assert said[0] == said[1]

    def test_it_connects_out_and_again(self, lab: Lab, tmp_path: Path) -> None:
        with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
            tcp.bind(("127.0.0.1", 0))
            unix.bind(str(tmp_path / "there"))
            for listener in (tcp, unix):
                listener.listen()
                listener.settimeout(PATIENCE)
            port = tcp.getsockname()[1]
            lab.launch(
                "one",
                "-monitor",
                f"tcp:127.0.0.1:{port},reconnect=1",
                "-chardev",
                f"socket,id=c,path={tmp_path / 'there'}",
                "-mon",
                "c",
            )
            for listener in (tcp, unix, tcp):
                client, _ = listener.accept()
                with client:
                    client.settimeout(PATIENCE)
                    read_to(client)
                    assert answer(client, b"info status") == "VM status: running"

    def test_a_terminal_serves_one_after_the_other(self, lab: Lab) -> None:
        qmon = lab.start("one", "-monitor", "pty")
        qmon.wait_log("(label compat_monitor0)")
        found = re.search(r"redirected to (\S+) ", qmon.log())
        assert found is not None
        for _ in range(2):
            terminal = os.open(found[1], os.O_RDWR | os.O_NOCTTY)
            os.write(terminal, b"\r")  # without a gap after the last one there is no greeting
            data = b""
            while not data.endswith(PROMPT):
                assert select.select([terminal], [], [], PATIENCE)[0]
                data += os.read(terminal, 4096)
            os.write(terminal, b"info status\r")
            while not data.endswith(b"running\r\n(qemu) "):
                assert select.select([terminal], [], [], PATIENCE)[0]
                data += os.read(terminal, 4096)
            os.close(terminal)
            eventually(lambda: qmon.command("info chardev"), "it answers")

    def test_a_pipe(self, lab: Lab, tmp_path: Path) -> None:
        for end in ("in", "out"):
            os.mkfifo(tmp_path / f"p.{end}")
        lab.start("one", "-monitor", f"pipe:{tmp_path / 'p'}")
        with (
            open(tmp_path / "p.in", "wb", buffering=0) as keys,
            open(tmp_path / "p.out", "rb", buffering=0) as out,
        ):
            keys.write(b"info status\n")
            data = b""
            while b"VM status: running\r\n(qemu) " not in data:
                assert select.select([out], [], [], PATIENCE)[0]
                data += out.read(4096)

    def test_the_machine_protocol_speaks_on_them_too(self, lab: Lab) -> None:
        port, other = free_port(), free_port()
        lab.start(
            "one",
            "-qmp",
            f"tcp:127.0.0.1:{port},server,nowait",
            "-chardev",
            f"socket,id=c,host=127.0.0.1,port={other},server=on,wait=off",
            "-mon",
            "chardev=c,mode=control,pretty=on",
        )
        for each, lines in ((port, 1), (port, 1), (other, 13)):
            client = connected(("127.0.0.1", each))
            text = read_to(client, b"}\r\n" if lines == 1 else b"\r\n}\r\n").decode()
            assert "QMP" in json.loads(text)
            assert text.count("\r\n") >= lines
            client.close()

    def test_several_may_name_a_multiplexer(self, lab: Lab, tmp_path: Path) -> None:
        path = tmp_path / "mux"
        option = f"socket,id=m,path={path},server=on,wait=off,mux=on"
        one = lab.start("one", "-chardev", option, "-mon", "m", "-mon", "m")
        client = connected(path)
        read_to(client)
        assert answer(client, b"info name") == ""
        listed = one.command("info chardev").splitlines()
        assert {"m: filename=mux", f"m-base: filename=unix:{path},server=on"} <= set(listed)
        client.close()


class TestStart:
    def test_a_server_that_waits_has_its_first_client_before_all_else(self, tmp_path: Path) -> None:
        port = free_port()
        line = [
            *QMON,
            "-drive",
            f"file={tmp_path / 'none'},id=d0",
            "-monitor",
            f"tcp:127.0.0.1:{port},server",
        ]
        with running(line) as process:
            assert process.stdout is not None
            waits = f"qmon: info: waiting for connection on: disconnected:tcp:127.0.0.1:{port},server=on\n"
            assert process.stdout.readline() == waits
            connected(("127.0.0.1", port)).close()
            assert "Could not open" in process.stdout.readline()
            assert process.wait(PATIENCE) == 1

    def test_waiting_ends_by_a_signal(self, tmp_path: Path) -> None:
        with running(QMON, "-monitor", f"unix:{tmp_path / 'm'},server") as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        assert not (tmp_path / "m").exists()

    @pytest.mark.parametrize(
        "options",
        [
            "-monitor tcp:127.0.0.1:{taken},server,nowait",
            "-monitor tcp:127.0.0.1:{free}",
            "-monitor unix:{folder}/none",
            "-qmp unix:{folder}/none/m,server,nowait",
            "-monitor pipe:{folder}/none",
            "-chardev file,id=c,path={folder}/none/f",
            "-chardev ringbuf,id=c,size=3",
            "-chardev socket,id=c,path={folder}/m,wait=on",
            "-chardev socket,id=c,path={folder}/m,server=on,reconnect=1",
            "-chardev nothing,id=c",
            "-mon nothing",
        ],
    )
    def test_what_can_not_be_is_told_in_qemu_s_words(self, options: str, tmp_path: Path) -> None:
        require(QEMU[0])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            places = {"taken": taken.getsockname()[1], "free": free_port(), "folder": tmp_path}
            line = options.format(**places)
            ends = []
            for name, program in (("qmon", QMON), (QEMU[0], QEMU)):
                done = subprocess.run(
                    [*program, *line.split()],
                    cwd=CHECKOUT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=3 * PATIENCE,
                )
                assert done.returncode == 1
                ends.append(done.stderr.removeprefix(f"{name}: "))
            assert ends[0] == ends[1]
            assert ends[0].count("\n") == 1


class TestHarm:
    """Whatever one client does, another one is answered."""

    def test_clients_that_break_off_send_halves_floods_and_noise(self, lab: Lab) -> None:
        qmon = lab.start("one")
        path = lab.folder / "one.sock"
        for spoil in (
            b"info sta",
            b"info block\n" * 200,
            b"x" * (1 << 20),
            b"x" * (1 << 20) + b"\ninfo status\n",
            bytes(range(256)).replace(b"\t", b"") * 50,
            b"\x1b[" * 1000,
            b"help\n" * 50,
        ):
            for linger in (b"\0" * 8, b"\1\0\0\0\0\0\0\0"):
                client = connected(path)
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    client.send(spoil)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.close()
            assert qmon.status() == "running"

    def test_one_that_reads_nothing_is_read_no_more(self, lab: Lab) -> None:
        qmon = lab.start("one")
        mute = connected(lab.folder / "one.sock")
        mute.setblocking(False)
        before = memory_kib(qmon.process.pid)
        line = b"help\n" * 1000
        sent, idle = 0, 0
        while idle < 20:  # until qmon has taken nothing more for a while
            try:
                sent += mute.send(line)
                idle = 0
            except BlockingIOError:
                idle += 1
                assert qmon.status() == "running"
                time.sleep(0.02)
            assert sent < 64 << 20
        assert memory_kib(qmon.process.pid) < before + (32 << 10)
        mute.close()

    def test_a_thousand_connects(self, lab: Lab) -> None:
        qmon = lab.start("one")
        path = lab.folder / "one.sock"
        for _ in range(20):
            clients = [connected(path) for _ in range(50)]
            assert all(read_to(client) for client in clients[:5])
            for client in clients:
                client.close()
        eventually(lambda: len(os.listdir(f"/proc/{qmon.process.pid}/fd")) < 40, "no descriptor is left")
        assert qmon.status() == "running"

    def test_a_long_command_keeps_its_own_monitor_only(self, lab: Lab) -> None:
        qmon = lab.start("one")
        busy = connected(lab.folder / "one.sock")
        read_to(busy)
        gate = lab.folder / "gate"
        busy.sendall(f"chardev-add socket,id=gate,path={gate},server=on\ninfo name\n".encode())
        qmon.wait_log("waiting for connection on")
        assert qmon.status() == "running"
        assert "gate" not in qmon.command("info chardev")
        assert qmon.command("chardev-add null,id=gate").startswith("Error: ")
        connected(gate).close()
        read_to(busy, b"info name\x1b[K\r\n(qemu) ")
        busy.close()

    def test_quit_ends_all(self, lab: Lab) -> None:
        port = free_port()
        qmon = lab.start("one", "-monitor", f"tcp:127.0.0.1:{port},server,nowait")
        clients = [
            connected(lab.folder / "one.sock"),
            connected(("127.0.0.1", port)),
            connected(qmon.qmp_path),
        ]
        clients[1].sendall(b"quit\n")
        assert qmon.process.wait(PATIENCE) == 0
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                while client.recv(4096):
                    pass
            client.close()
        assert not (lab.folder / "one.sock").exists()


def memory_kib(process: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1])
