"""A raw image behind qmon's NBD server, in this process."""

from __future__ import annotations

from pathlib import Path

from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.image import open_image
from qmon.block.node import Node
from qmon.host.sockets import listen
from qmon.nbd.server import Export, NbdServer
from qmon.notation.address import UnixAddress
from tests.support.images import MIB


class RawDisk:
    """A drive of one raw image."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.gate = Gate()
        self.accounts = Accounts()
        self.node: Node = open_image(str(path), "raw", read_only=read_only)


class Served:
    """A sparse image behind a running server, and its address as a client takes it."""

    def __init__(self, folder: Path, size: int = 64 * MIB) -> None:
        self.image = folder / "disk.img"
        with self.image.open("wb") as file:
            file.truncate(size)
        self.disk = RawDisk(self.image)
        self.socket = folder / "nbd.sock"
        self.server = NbdServer(listen(UnixAddress(str(self.socket))))
        self.server.add(Export("d0", self.disk, writable=True, description="a test's disk"))
        self.server.start()
        self.uri = f"nbd+unix:///d0?socket={self.socket}"

    def close(self) -> None:
        self.server.stop()
        self.disk.node.close()
