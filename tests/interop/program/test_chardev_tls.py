"""Monitors, QMP servers and other character devices over TLS, with clients that use other libraries."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from qmon.host.tls import Tls
from tests.support.certificates import Authority, tls_of
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import QMON
from tests.support.runs import one_line, run_in
from tests.support.waiting import PATIENCE, eventually

QEMU = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"]
CONNECTED = re.compile(r"k: filename=tcp:\S+ <-> \S+")


@dataclass
class Folders:
    """The folders of credentials of one authority."""

    server: Path
    client: Path

    def client_tls(self) -> Tls:
        return tls_of(self.client, "client")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    authority = Authority(tmp_path / "pki")
    return Folders(authority.folder("server"), authority.folder("client"))


def credentials(folders: Folders) -> list[str]:
    """Options of qmon and of QEMU alike."""
    return [
        "-object",
        f"tls-creds-x509,id=s,dir={folders.server},endpoint=server",
        "-object",
        f"tls-creds-x509,id=c,dir={folders.client},endpoint=client",
    ]


class Process:
    """A qmon or a QEMU whose monitor is its standard input; ``log`` is what it says on standard error."""

    def __init__(self, program: Sequence[str], folder: Path, *options: str) -> None:
        self._log = folder / "stderr"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*program, "-monitor", "stdio", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output += line

    @property
    def log(self) -> str:
        return self._log.read_text()

    def give(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def shows(self, wanted: re.Pattern[str]) -> bool:
        self.give("info chardev")
        return wanted.search(self._output) is not None

    def end(self) -> None:
        self._process.terminate()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._reader.join()
        self._process.stdout.close()


@contextlib.contextmanager
def running(program: Sequence[str], folder: Path, *options: str) -> Iterator[Process]:
    folder.mkdir()
    process = Process(program, folder, *options)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def served(
    folder: Path, folders: Folders, mode: str, more: str = "", *options: str
) -> Iterator[tuple[int, Process]]:
    """A qmon with a monitor over TLS; yields its port."""
    port = free_port()
    device = f"socket,id=k,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=s{more}"
    options = (*credentials(folders), *options, "-chardev", device, "-mon", f"k,mode={mode}")
    with running([*QMON, "-statedir", str(folder / "state")], folder / "qmon", *options) as process:
        eventually(lambda: process.shows(re.compile("k: filename")), "it listens")
        yield port, process


def asked(port: int, tls: Tls, *commands: str) -> list[dict[str, object]]:
    """The messages of a QMP server after its greeting, one for each command."""
    with socket.create_connection(("localhost", port), PATIENCE) as sock:
        secured = tls.wrap_blocking(sock, hostname="localhost", seconds=PATIENCE)
        with secured, secured.makefile("rw") as lines:
            assert "QMP" in json.loads(lines.readline())
            found = []
            for command in ("qmp_capabilities", *commands):
                lines.write(json.dumps({"execute": command}) + "\n")
                lines.flush()
                found.append(json.loads(lines.readline()))
            return found[1:]


def test_a_qmp_server_answers_over_tls(tmp_path: Path, folders: Folders) -> None:
    with served(tmp_path, folders, "control") as (port, _):
        clients = [folders.client_tls() for _ in range(3)]
        assert all("return" in asked(port, each, "query-status")[0] for each in clients)
        (schema,) = asked(port, clients[0], "query-qmp-schema")
        assert len(json.dumps(schema)) > 1 << 16, "more than a record of TLS"


def test_a_monitor_serves_openssl(tmp_path: Path, folders: Folders) -> None:
    require("openssl")
    own = [f"-{what}={folders.client}/client-{what}.pem" for what in ("cert", "key")]
    ca = f"-CAfile={folders.client}/ca-cert.pem"
    with served(tmp_path, folders, "readline") as (port, _):
        command = ["openssl", "s_client", "-quiet", "-verify_return_error", f"-connect=localhost:{port}"]
        with subprocess.Popen(
            [word for option in (*command, ca, *own) for word in option.split("=")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"info status\n")
            process.stdin.flush()
            seen = b""
            while b"VM status: running" not in seen:
                piece = os.read(process.stdout.fileno(), 1 << 12)
                assert piece, seen
                seen += piece
            process.kill()


@pytest.mark.parametrize("is_server", [True, False], ids=["QEMU connects", "qmon connects"])
def test_a_qemu_is_at_the_other_end(tmp_path: Path, folders: Folders, is_server: bool) -> None:
    require(QEMU[0])
    port = free_port()
    listens = f"socket,id=k,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=s"
    connects = f"socket,id=k,host=localhost,port={port},tls-creds=c,reconnect=1"
    ours, theirs = (listens, connects) if is_server else (connects, listens)
    here = [*QMON, "-statedir", str(tmp_path / "state"), *credentials(folders), "-chardev", ours]
    there = [*QEMU, *credentials(folders), "-chardev", theirs, "-mon", "k"]
    with running(here, tmp_path / "qmon") as qmon, running(there, tmp_path / "qemu") as qemu:
        eventually(lambda: qmon.shows(CONNECTED), "qmon is connected")
        eventually(lambda: qemu.shows(CONNECTED), "the QEMU is connected")


def test_who_does_not_belong_is_refused_in_one_line(tmp_path: Path, folders: Folders) -> None:
    strange = Authority(tmp_path / "strange", "somebody else's authority")
    rule = ["-object", "authz-simple,id=a,identity=CN=nobody"]
    with served(tmp_path, folders, "control", ",tls-authz=a", *rule) as (port, process):
        with pytest.raises((OSError, ValueError, AssertionError)):
            asked(port, folders.client_tls(), "query-status")
        _come_as(strange.folder("client"), folders.client / "ca-cert.pem", port)
        with socket.create_connection(("localhost", port), PATIENCE) as sock:
            sock.sendall(b'{"execute": "qmp_capabilities"}\n')
            read_to_its_end(sock)
        reasons = (
            "TLS: the client's certificate of 'CN=laptop' is not authorized",
            "TLS: the client's certificate is not signed by the authority in ca-cert.pem",
            "TLS: the client does not speak TLS: turn TLS on there, or off here",
        )
        eventually(lambda: all(each in process.log for each in reasons), "each is told")
        lines = process.log.splitlines()
        assert len(lines) == len(reasons)
        assert all(line.startswith("qmon: character device 'k': a client was refused (") for line in lines)


def read_to_its_end(sock: socket.socket) -> None:
    """Read what comes until the other side has closed, be it without reading all."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(1 << 10):
            pass


def _come_as(own: Path, authority: Path, port: int) -> None:
    """Connect with a certificate, and be sent away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    context.load_cert_chain(own / "client-cert.pem", own / "client-key.pem")
    with (
        socket.create_connection(("localhost", port), PATIENCE) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as secured,
        pytest.raises(ssl.SSLError, match="unknown ca"),
    ):
        secured.recv(1)


def test_a_client_names_what_is_wrong_with_the_server(tmp_path: Path, folders: Folders) -> None:
    with served(tmp_path, folders, "control") as (port, _):
        device = f"socket,id=k,host=127.0.0.1,port={port},tls-creds=c"
        other = Folders(folders.server, Authority(tmp_path / "other").folder("client"))
        said = one_line(run_in(tmp_path, *credentials(other), "-chardev", device))
    assert said.startswith(f"-chardev {device}: Failed to connect to '127.0.0.1:{port}': TLS: ")
    assert "the server's certificate is not signed by the authority in ca-cert.pem" in said
    with socket.create_server(("127.0.0.1", 0)) as listener:
        device = f"socket,id=k,host=127.0.0.1,port={listener.getsockname()[1]},tls-creds=c"
        thread = threading.Thread(target=_greet_in_plain_text, args=[listener])
        thread.start()
        said = one_line(run_in(tmp_path, *credentials(folders), "-chardev", device))
        thread.join()
    assert said.endswith("TLS: the server does not speak TLS: turn TLS on there, or off here")


def _greet_in_plain_text(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.sendall(b'{"QMP": {}}\r\n')
        read_to_its_end(sock)


INET = "socket,id=k,host=127.0.0.1,port=1"


@pytest.mark.parametrize(
    "device",
    [
        "socket,id=k,path=u,server=on,wait=off,tls-creds=s",
        f"{INET},server=on,wait=off,tls-creds=nosuch",
        f"{INET},server=on,wait=off,tls-creds=x",
        f"{INET},server=on,wait=off,tls-creds=c",
        f"{INET},tls-creds=s",
        f"{INET},server=on,wait=off,tls-authz=a",
        f"{INET},server=on,reconnect=1,tls-creds=nosuch",
        "socket,id=k,fd=0,tls-creds=c",
    ],
)
def test_options_are_refused_in_the_words_of_qemu(tmp_path: Path, folders: Folders, device: str) -> None:
    require(QEMU[0])
    options = [*credentials(folders), "-object", "secret,id=x,data=y", "-chardev", device]
    theirs = subprocess.run(
        [*QEMU, *options], capture_output=True, text=True, timeout=3 * PATIENCE, cwd=tmp_path
    )
    said = theirs.stderr.strip().partition(": ")[2]
    assert one_line(run_in(tmp_path, *options)) == said


@pytest.mark.parametrize("mode", ["control", "readline"])
def test_a_console_connects_over_tls(tmp_path: Path, folders: Folders, mode: str) -> None:
    with served(tmp_path, folders, mode) as (port, _):
        address = f"{'hmp:' if mode == 'readline' else ''}127.0.0.1:{port},tls-creds=c"
        options = ["-require-tls", *credentials(folders), "-c", "info status", "-connect"]
        done = run_in(tmp_path, *options, f"{address},tls-hostname=localhost")
        assert (done.stdout, done.stderr, done.returncode) == ("VM status: running\n", "", 0)
        said = one_line(run_in(tmp_path, *options, f"{address},tls-hostname=other.example"))
        assert "TLS: the server's certificate is not for 'other.example'" in said
        bare = tmp_path / "nothing"
        bare.mkdir()
        (bare / "ca-cert.pem").write_bytes((folders.client / "ca-cert.pem").read_bytes())
        own = Folders(folders.server, bare)
        said = one_line(run_in(tmp_path, *credentials(own), "-c", "info status", "-connect", address))
        assert "TLS: the server wants a certificate, and we have none" in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("unix:q,tls-creds=c", "tls-creds is for HOST:PORT: a Unix socket has no TLS"),
        ("localhost:1,tls-hostname=h", "tls-hostname is used with tls-creds only"),
    ],
)
def test_an_address_that_has_no_tls_is_told(tmp_path: Path, address: str, said: str) -> None:
    assert one_line(run_in(tmp_path, "-connect", address)) == f"-connect {address}: {said}"


def test_credentials_that_a_console_does_not_have_are_told(tmp_path: Path, folders: Folders) -> None:
    said = one_line(run_in(tmp_path, *credentials(folders), "-connect", "localhost:1,tls-creds=nosuch"))
    assert said == "No TLS credentials with id 'nosuch'"
