"""A real QEMU counts on a disk that moves from one qmon to another: no acknowledged number is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.images import blank, drive
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon
from tests.support.vms.machine import Version
from tests.support.vms.on_export import GuestOnExport
from tests.support.waiting import eventually


class Way:
    """How the guest reaches its disk, and the disk its new host."""

    def __init__(self, folder: Path) -> None:
        self.address = {"type": "unix", "data": {"path": str(folder / "disk.nbd")}}
        self.guest = f"driver=nbd,server.type=unix,server.path={folder}/disk.nbd,export=d0,reconnect-delay=60"
        self.guest_options: Sequence[str] = ()
        self.export_arguments: dict[str, str] = {}
        self.uri = f"unix:{folder}/migration"

    def prepare(self, source: Qmon, target: Qmon) -> None:
        """Nothing is to be prepared."""

    def serve(self, side: Qmon) -> None:
        """Export the disk at the address that the guest knows."""
        side.qmp("nbd-server-start", addr=self.address, **self.export_arguments)
        side.quietly("nbd_server_add -w d0")


class OverTls(Way):
    """By TCP and TLS, both the guest and the migration; all prove who they are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        authority = Authority(folder)
        self._server, self._client = authority.folder("server"), authority.folder("client")
        self._port, port = free_port(), free_port()
        self.address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(self._port)}}
        where = f"server.type=inet,server.host=127.0.0.1,server.port={self._port}"
        self.guest = f"driver=nbd,{where},export=d0,reconnect-delay=60,tls-creds=tls0"
        self.guest_options = ["-object", f"tls-creds-x509,id=tls0,dir={self._client},endpoint=client"]
        self.export_arguments = {"tls_creds": "server"}
        self.uri = f"tcp:127.0.0.1:{port}"

    def prepare(self, source: Qmon, target: Qmon) -> None:
        for side in (source, target):
            for endpoint, folder in (("server", self._server), ("client", self._client)):
                side.quietly(f"object_add tls-creds-x509,id={endpoint},dir={folder},endpoint={endpoint}")
        source.quietly("migrate_set_parameter tls-creds client")
        target.quietly("migrate_set_parameter tls-creds server")


@pytest.fixture(params=[Way, OverTls], ids=["plain", "tls"])
def way(request: pytest.FixtureRequest, lab: Lab) -> Way:
    require(Version.TEN.program[0])
    made: Way = request.param(lab.folder)
    return made


def test_a_guest_goes_on_where_its_disk_has_gone(lab: Lab, way: Way) -> None:
    image = GuestOnExport.fill(lab.folder / "source.img")
    copied = blank(lab.folder / "target.img", image.stat().st_size)
    target = lab.launch("target", *drive(copied), "-incoming", "defer")
    source = lab.start("source", *drive(image))
    way.prepare(source, target)
    target.quietly(f"migrate_incoming {way.uri}")
    way.serve(source)
    guest = GuestOnExport(lab.folder, Version.TEN, way.guest, way.guest_options)
    with contextlib.closing(guest.machine):
        guest.machine.wait_to_count()
        source.quietly("migrate_set_parameter max-bandwidth 20M", f"migrate -d blk {way.uri}")
        source.wait_migration("completed")
        eventually(lambda: target.status() == "running", "the destination runs")
        source.quietly("nbd_server_stop")
        way.serve(target)
        guest.go_on()
        assert guest.wrong(copied) == []
