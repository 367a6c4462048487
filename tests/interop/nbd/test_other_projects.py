"""Clients of other projects: of nbd, oVirt and Xen Orchestra, and libnbd's own tests."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.images import KIB, MIB, noise
from tests.support.nbd_house import CLIENTS, PLAIN, House, Way, run, sparse
from tests.support.peers import require
from tests.support.processes import Lab

SIZE = 8 * MIB


def reached_by(*ways: Way) -> pytest.MarkDecorator:
    """For a client that does not know all ways."""
    return pytest.mark.parametrize("house", ways, indirect=True, ids=lambda way: way.value)


TESTER = str(CLIENTS / "bin" / "nbd-tester-client")
STAND_IN = Path(__file__).with_name("nbdkit_stand_in.py")


@reached_by(Way.TCP, Way.TCP6, Way.TLS)
def test_nbd_client_lists_the_exports(house: House) -> None:
    require("nbd-client")
    disk = house.disk(SIZE, description="a disk")
    said = run(
        "nbd-client",
        "-l",
        house.host,
        str(house.port),
        *tls_options(house, "-certfile", "-keyfile", "-cacertfile", "-tlshostname"),
    )
    assert f"\n{disk.name}: a disk\n" in said, said


def tls_options(house: House, *names: str) -> list[str]:
    """What nbd's clients are told of TLS; ``names`` are those of the options."""
    if house.way is not Way.TLS:
        return []
    here = house.certificates
    files = [here / "client-cert.pem", here / "client-key.pem", here / "ca-cert.pem"]
    return [word for pair in zip(names, [*map(str, files), house.host], strict=True) for word in pair]


def nbd_tester(house: House, export: str, *options: str) -> str:
    """Run the tester, which knows no IPv6."""
    require(TESTER)
    to = ("-u", house.path) if house.way is Way.UNIX else (house.host, str(house.port))
    return run(
        TESTER,
        "-N",
        export,
        *options,
        *tls_options(house, *"-C -K -A -H".split()),
        *to,
        environment={"NBD_TEST_SILENT": "1"},
    )


@reached_by(Way.TCP, Way.UNIX, Way.TLS)
@pytest.mark.parametrize("options", ["", "-w", "-w -f", "-o"], ids=lambda each: each or "read")
def test_the_tester_of_the_nbd_project_is_content(house: House, options: str) -> None:
    nbd_tester(house, house.disk(4 * MIB).name, *options.split())


@reached_by(Way.TCP, Way.UNIX)
def test_the_tester_is_content_with_the_handshake(house: House) -> None:
    """It begins no TLS for that."""
    nbd_tester(house, house.disk(4 * MIB).name, "-h")


@reached_by(Way.TCP, Way.UNIX)
def test_the_tester_is_refused_writes_to_a_read_only_export(house: House) -> None:
    disk = house.disk(4 * MIB, writable=False)
    nbd_tester(house, disk.name, "-w", "-F")
    assert not disk.image.read_bytes().strip(b"\0")


@reached_by(Way.UNIX, Way.TLS)
def test_the_testers_recording_reads_what_was_written(house: House) -> None:
    """Its other one, integrityhuge-test, has requests of more than 32 MiB, which qemu-nbd refuses, too."""
    nbd_tester(house, house.disk(50 * MIB).name, "-i", "-t", str(CLIENTS / "tr" / "integrity-test.tr"))


# 010 to 140 and 580, 585, 610 need no server. 220, 230 and 460 are about scripts of nbdkit.
LIBNBD = "200 210 240 300 400 405 410 500 505 510 600"


@reached_by(Way.UNIX)
@pytest.mark.parametrize("number", LIBNBD.split())
def test_libnbds_own_python_tests_pass(house: House, tmp_path: Path, number: str) -> None:
    require(str(CLIENTS / "bin" / "python"))
    nbdkit = tmp_path / "nbdkit"
    nbdkit.write_text(
        f'#!/bin/sh\nexec {sys.executable} {STAND_IN} {house.qmon.qmp_path} {house.path} "$@"\n'
    )
    nbdkit.chmod(0o755)
    (script,) = (CLIENTS / "libnbd").glob(f"{number}-*.py")
    path = f"{tmp_path}:/usr/bin:{os.environ['PATH']}"
    try:
        run("/usr/bin/python3", script, cwd=tmp_path, environment={"PATH": path})
    finally:
        house.qmon.qmp("block-export-del", id="disk", mode="hard")
        house.qmon.qmp("blockdev-del", node_name="disk")


IMAGEIO = """
import json, sys
from urllib.parse import urlparse
from ovirt_imageio._internal import nbd, nbdutil
from ovirt_imageio._internal.backends import nbd as backend

url = urlparse(sys.argv[1])
size = 8 << 20
with nbd.open(url, dirty=True) as client:
    said = [client.export_size, client.minimum_block_size]
    said += [client.preferred_block_size, client.maximum_block_size]
    said += [client.has_base_allocation, client.has_allocation_depth, client.dirty_bitmap]
    client.write(64 << 10, b"x" * (1 << 20))
    client.zero(4 << 20, 1 << 20)
    client.flush()
    said.append(client.read(64 << 10, 1 << 20) == b"x" * (1 << 20))
    said.append(bytes(client.read(4 << 20, 4096)) == bytes(4096))
    for name in ("base:allocation", client.dirty_bitmap):
        extents = list(nbdutil.extents(client, dirty=name != "base:allocation"))
        said.append([(each.length, each.zero, getattr(each, "dirty", False)) for each in extents])
with backend.open(url, mode="r+", sparse=True) as disk:
    disk.seek(6 << 20)
    disk.write(b"y" * 65536)
    disk.zero(65536)
    disk.flush()
    disk.seek(6 << 20)
    buffer = bytearray(131072)
    disk.readinto(buffer)
    said.append(buffer == b"y" * 65536 + bytes(65536))
print(json.dumps(said))
"""


@reached_by(*PLAIN)
def test_ovirts_client_reads_writes_zeroes_and_maps(house: House, tmp_path: Path) -> None:
    python = str(CLIENTS / "bin" / "python")
    require(python)
    disk = house.disk(sparse(SIZE, [(0, b"old" * 20000)]), format="qcow2")
    house.qmon.quietly(f"nbd_server_remove {disk.name}")
    node = f"{disk.name}-node"
    house.qmon.qmp("block-dirty-bitmap-add", node=node, name="backup")
    arguments = {"node_name": node, "writable": True, "bitmaps": ["backup"], "allocation_depth": True}
    house.qmon.qmp("block-export-add", type="nbd", id=disk.name, name=disk.name, **arguments)
    where = f"unix:{house.path}" if house.way is Way.UNIX else f"{house.host}:{house.port}"
    said = json.loads(run(python, "-c", IMAGEIO, f"nbd:{where}:exportname={disk.name}"))
    size, *blocks, base, depth, bitmap, written, zeroed, zeros, dirty, after = said
    assert (size, blocks) == (SIZE, [1, 4096, 32 * MIB])
    assert (base, depth, bitmap) == (True, True, "qemu:dirty-bitmap:backup")
    assert (written, zeroed, after) == (True, True, True)
    assert sum(length for length, zero, _ in zeros if not zero) == 64 * KIB + MIB
    assert sum(length for length, _, changed in dirty if changed) == 2 * MIB


VATES = """
import NbdClient from '@vates/nbd-client'
import { createHash } from 'node:crypto'
const [address, port, exportname, tls] = process.argv.slice(2)
const cert = tls === 'tls' ? '' : undefined
const client = new NbdClient({ address, port: Number(port), exportname, cert })
await client.connect()
const hash = createHash('sha256')
const block = 64 * 1024
const pending = []
const size = Number(client.exportSize)
for (let index = 0; index * block < size; index++) pending.push(client.readBlock(index, block))
for (const data of await Promise.all(pending)) hash.update(data)
if (cert === undefined) await client.getMap()
await client.disconnect()
console.log(JSON.stringify([Number(client.exportSize), hash.digest('hex')]))
"""


def vates_reads(house: House, folder: Path, *more: str) -> None:
    """Xen Orchestra's client reads a whole disk in blocks."""
    require("node", "nbdinfo", TESTER)  # the tester comes with the client
    content = sparse(SIZE + 4096, [(MIB, noise(2 * MIB)), (SIZE, noise(4096))])
    disk = house.disk(content)
    program = folder / "read.mjs"
    program.write_text(VATES)
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    said = json.loads(run("node", program, house.host, str(house.port), disk.name, *more))
    assert said == [len(content), hashlib.sha256(content).hexdigest()]


@reached_by(Way.TCP)
def test_xen_orchestras_client_reads_many_blocks_at_once(house: House, tmp_path: Path) -> None:
    vates_reads(house, tmp_path)


def test_xen_orchestras_client_reads_over_tls(lab: Lab, tmp_path: Path) -> None:
    vates_reads(House(lab, Way.TLS, verify_peer=False), tmp_path, "tls")
