"""A qmon whose NBD server listens in one of the ways there are, with as many disks as a test wants."""

from __future__ import annotations

import enum
import itertools
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority
from tests.support.images import MIB
from tests.support.peers import lack
from tests.support.ports import free_port
from tests.support.processes import Lab
from tests.support.qcow2_images import run as run_img
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE

CLIENTS = Path("/opt/nbd-clients")
"""Clients that are no package of Debian (tools/install-nbd-clients)."""

SYSTEM = {**os.environ, "PATH": f"/usr/bin:{os.environ.get('PATH', '')}"}
"""nbdsh runs the first python3 on PATH, and only the system's has its module."""


class Way(enum.Enum):
    """How clients reach the server."""

    TCP = "tcp"
    TCP6 = "tcp6"
    UNIX = "unix"
    PASSED = "fd"
    """A TCP socket that a QMP client has passed."""
    TLS = "tls"
    """TCP with TLS."""


PLAIN = (Way.TCP, Way.TCP6, Way.UNIX, Way.PASSED)
"""The ways without TLS."""


@dataclass(frozen=True, slots=True)
class Disk:
    """An image behind an export: its name, and its address as clients take it."""

    name: str
    image: Path
    house: House

    @property
    def uri(self) -> str:
        return self.house.uri(self.name)


class House:
    """A qmon with an NBD server, in ``lab``; its disks come as tests need them."""

    def __init__(self, lab: Lab, way: Way, *, verify_peer: bool = True) -> None:
        """``verify_peer``: with TLS, whether clients prove who they are."""
        self.way = way
        self.folder = lab.folder
        self.qmon = lab.start("house")
        self.path = lab.folder / "house.nbd"
        self._numbers = itertools.count()
        self.certificates = lab.folder / "none"
        """With TLS: the folder of a client's certificates, in the layout of QEMU and libnbd."""
        match way:
            case Way.PASSED:
                self._pass_socket()
                self.qmon.quietly("nbd_server_start fd:house")
            case Way.TLS:
                self._start_with_tls("on" if verify_peer else "off")
            case _:
                self.qmon.quietly(f"nbd_server_start {self._where}")

    def _start_with_tls(self, verify: str) -> None:
        authority = Authority(self.folder)
        self.certificates = self.folder / ".pki" / "libnbd"
        self.certificates.parent.mkdir()
        authority.folder("client").rename(self.certificates)
        folder = authority.folder("server")
        self.qmon.quietly(
            f"object_add tls-creds-x509,id=tls0,dir={folder},endpoint=server,verify-peer={verify}"
        )
        address = {"type": "inet", "data": {"host": self.host, "port": str(self.port)}}
        self.qmon.qmp("nbd-server-start", addr=address, tls_creds="tls0")

    def _pass_socket(self) -> None:
        with QmpClient(self.qmon.qmp_path) as client, socket.create_server((self.host, self.port)) as sock:
            assert client.ask("getfd", None, [sock.fileno()], fdname="house") == {"return": {}}

    @cached_property
    def port(self) -> int:
        """Its port; for TCP only."""
        return free_port()

    @property
    def host(self) -> str:
        """Its host; for TCP only."""
        return "::1" if self.way is Way.TCP6 else "127.0.0.1"

    @property
    def socket_address(self) -> tuple[int, str | tuple[str, int]]:
        """The address family and the address, as sockets take them."""
        if self.way is Way.UNIX:
            return socket.AF_UNIX, str(self.path)
        family = socket.AF_INET6 if self.way is Way.TCP6 else socket.AF_INET
        return family, (self.host, self.port)

    @property
    def _where(self) -> str:
        match self.way:
            case Way.TCP | Way.PASSED | Way.TLS:
                return f"127.0.0.1:{self.port}"
            case Way.TCP6:
                return f"[::1]:{self.port}"
            case Way.UNIX:
                return f"unix:{self.path}"

    def uri(self, export: str) -> str:
        """The address of an export, "" for the server."""
        if self.way is Way.UNIX:
            return f"nbd+unix:///{export}?socket={self.path}"
        if self.way is Way.TLS:
            return f"nbds://{self._where}/{export}"
        return f"nbd://{self._where}/{export}"

    def run(self, *command: str | Path, status: int = 0) -> str:
        """Run a client of libnbd; the rest as ``run``. It finds its certificates in the home folder."""
        return run(*self.as_user, *command, status=status, environment={"HOME": str(self.folder)})

    @property
    def as_user(self) -> Sequence[str]:
        """What comes before a client of libnbd: for root it looks for certificates in /etc alone."""
        if self.way is not Way.TLS or os.geteuid():
            return ()
        if not _has_user_namespaces():
            lack("user namespaces")
        return ("unshare", "--user")

    def server_options(self) -> str:
        """The address as QEMU's block driver takes it."""
        if self.way is Way.UNIX:
            return f"driver=nbd,server.type=unix,server.path={self.path}"
        creds = ",tls-creds=tls0" if self.way is Way.TLS else ""
        return f"driver=nbd,server.type=inet,server.host={self.host},server.port={self.port}{creds}"

    def qemu_objects(self) -> list[str]:
        """What QEMU's programs need besides ``server_options``."""
        if self.way is not Way.TLS:
            return []
        return ["--object", f"tls-creds-x509,id=tls0,dir={self.certificates},endpoint=client,verify-peer=on"]

    def disk(
        self, content: bytes | int = 8 * MIB, *, format: str = "raw", writable: bool = True, **more: Any
    ) -> Disk:
        """Export a new image with this content, or of zeros; ``more`` is for block-export-add."""
        name = f"d{next(self._numbers)}"
        image = self.folder / f"{name}.img"
        with image.open("wb") as file:
            if isinstance(content, int):
                file.truncate(content)
            else:
                file.write(content)
        if format != "raw":
            raw = image.rename(image.with_suffix(".raw"))
            run_img("convert", "-f", "raw", "-O", format, raw, image)
            raw.unlink()
        return self.opened(name, image, format=format, writable=writable, **more)

    def opened(
        self, name: str, image: Path, *, format: str = "raw", writable: bool = True, **more: Any
    ) -> Disk:
        """Export an image that is there."""
        node = f"{name}-node"
        added = self.qmon.command(
            f"drive_add 0 file={image},format={format},id={name},node-name={node},if=none"
        )
        assert added == "OK", added
        if more:
            self.qmon.qmp(
                "block-export-add", type="nbd", id=name, name=name, node_name=node, writable=writable, **more
            )
        else:
            self.qmon.quietly(f"nbd_server_add {'-w ' if writable else ''}{name}")
        return Disk(name, image, self)


@cache
def _has_user_namespaces() -> bool:
    return subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode == 0


def run(
    *command: str | Path,
    status: int = 0,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    patience: float = 2 * PATIENCE,
) -> str:
    """Run a client to its end and return what it printed. It must end with ``status``."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=patience,
        env={**SYSTEM, **(environment or {})},
        cwd=cwd,
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def sparse(size: int, pieces: Sequence[tuple[int, bytes]]) -> bytes:
    """The content of a disk of zeros with pieces of data at their offsets."""
    content = bytearray(size)
    for offset, piece in pieces:
        content[offset : offset + len(piece)] = piece
    return bytes(content)
