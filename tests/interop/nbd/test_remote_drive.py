"""A drive on the export of another server: QEMU's of both versions, nbdkit's, and another qmon's."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from qmon.nbd.constants import EXTENDED_REQUEST_MAGIC, REQUEST_MAGIC, Command
from tests.support.certificates import Authority
from tests.support.guests import WritingGuest
from tests.support.nbd_client import NbdClient
from tests.support.nbd_recorder import Tap
from tests.support.nbd_servers import QEMU_7, QEMU_10, NbdProgram, nbdkit, qemu_nbd
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import PATIENCE, eventually

MIB = 1 << 20
SIZE = 16 * MIB
GUESTS = 4


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sparse image with data at 1 MiB."""
    path = tmp_path / "remote.img"
    with path.open("wb") as file:
        file.truncate(SIZE)
        os.pwrite(file.fileno(), b"r" * 4096, MIB)
    return path


@contextmanager
def of_qemu_7(folder: Path) -> Iterator[str]:
    with qemu_nbd(QEMU_7, folder) as server:
        yield server.uri


@contextmanager
def of_qemu_10(folder: Path) -> Iterator[str]:
    with qemu_nbd(QEMU_10, folder) as server:
        yield server.uri


@contextmanager
def of_nbdkit(folder: Path) -> Iterator[str]:
    with nbdkit(folder, "file", "remote.img") as server:
        yield server.uri


@contextmanager
def of_nbdkit_with_blocks(folder: Path) -> Iterator[str]:
    """Its smallest block is 4 KiB, its largest request 64 KiB."""
    policy = ("blocksize-error-policy=error", "blocksize-minimum=4096", "blocksize-maximum=65536")
    with nbdkit(folder, "--filter=blocksize-policy", "file", "remote.img", *policy) as server:
        yield server.uri


@contextmanager
def of_nbdkit_with_simple_replies(folder: Path) -> Iterator[str]:
    with nbdkit(folder, "--no-sr", "file", "remote.img") as server:
        yield server.uri


@contextmanager
def of_qmon(folder: Path) -> Iterator[str]:
    with Lab(folder) as lab:
        server = lab.start("server", "-drive", f"if=none,id=d0,format=raw,file={folder}/remote.img")
        server.export("d0")
        yield f"nbd+unix:///d0?socket={server.nbd}"


Server = Callable[[Path], AbstractContextManager[str]]
SERVERS: dict[str, Server] = {
    "qemu 7": of_qemu_7,
    "qemu 10": of_qemu_10,
    "nbdkit": of_nbdkit,
    "blocks of 4 KiB": of_nbdkit_with_blocks,
    "simple replies": of_nbdkit_with_simple_replies,
    "qmon": of_qmon,
}


@contextmanager
def a_drive(folder: Path, uri: str, options: str = "format=raw") -> Iterator[Qmon]:
    with Lab(folder) as lab:
        yield lab.start("client", "-drive", f"if=none,id=d0,file={uri},{options}")


@pytest.mark.parametrize("name", SERVERS)
def test_a_drive_reads_and_writes_a_remote_export(name: str, image: Path, tmp_path: Path) -> None:
    with SERVERS[name](tmp_path) as uri, a_drive(tmp_path, uri) as qmon:
        assert "read 4096/4096" in qmon.command('qemu-io d0 "read -P 0x72 1M 4k"')
        for line in ("write -P 1 2M 2M", "write -P 2 2049k 1k", "write -P 3 2099200 512", "flush"):
            assert "failed" not in qmon.command(f'qemu-io d0 "{line}"')
        for line in ("write -z 3M 100k", "discard 1M 4k", "flush"):
            assert "failed" not in qmon.command(f'qemu-io d0 "{line}"')
        assert "Pattern verification failed" not in qmon.command('qemu-io d0 "read -P 2 2049k 1k"')
        shown = qmon.command("info block")
        assert f"d0 (#block102): {uri} (raw)" in shown
    found = image.read_bytes()
    expected = bytearray(b"\1" * (2 * MIB))
    expected[1024:2048] = b"\2" * 1024
    expected[2048:2560] = b"\3" * 512
    expected[MIB : MIB + 100 * 1024] = bytes(100 * 1024)
    assert found[2 * MIB : 4 * MIB] == expected
    assert found[MIB : MIB + 4096] in (bytes(4096), b"r" * 4096)


@pytest.mark.parametrize("name", ["qemu 10", "qmon"])
def test_a_drive_on_an_export_is_exported_again(name: str, image: Path, tmp_path: Path) -> None:
    require("nbdcopy", "nbdinfo")
    data = random.Random(1).randbytes(3 * MIB)
    (tmp_path / "new").write_bytes(bytes(MIB) + data + bytes(SIZE - 4 * MIB))
    with SERVERS[name](tmp_path) as uri, a_drive(tmp_path, uri) as qmon:
        qmon.export("d0")
        again = f"nbd+unix:///d0?socket={qmon.nbd}"
        extents = json.loads(output("nbdinfo", "--json", "--map", again))
        assert [(each["offset"], each["type"]) for each in extents] == [(0, 3), (MIB, 0), (MIB + 4096, 3)]
        output("nbdcopy", tmp_path / "new", again)
        output("nbdcopy", again, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == image.read_bytes() == (tmp_path / "new").read_bytes()


def test_info_says_what_qemu_says_of_such_a_drive(image: Path, tmp_path: Path) -> None:
    with of_qemu_7(tmp_path) as uri, a_drive(tmp_path, uri) as qmon:
        assert qmon.command("info block -v d0").splitlines()[4:] == [
            "Images:",
            f"image: {uri}",
            "file format: raw",
            "virtual size: 16 MiB (16777216 bytes)",
            "disk size: unavailable",
        ]
        assert f"#block101: {uri} (nbd)" in qmon.command("info block -n")
        stats = qmon.qmp("query-blockstats", query_nodes=True)
        assert [each["node-name"] for each in stats if "driver-specific" not in each]
        assert qmon.command("block_resize d0 32M") == "Error: Cannot grow NBD nodes"
        assert qmon.command("block_resize d0 8M") == "Error: Cannot resize NBD nodes"


def test_qcow2_images_and_backing_images_can_be_remote(image: Path, tmp_path: Path) -> None:
    """The drive's image is qcow2 on an export, and its backing image is an export too."""
    require("qemu-img")
    with of_qemu_7(tmp_path) as base:
        over = ("-f", "qcow2", "-b", base, "-F", "raw")
        output("qemu-img", "create", "-q", *over, tmp_path / "over.img")
        with (tmp_path / "over.img").open("r+b") as file:
            file.truncate(8 * MIB)
        with qemu_nbd(QEMU_10, tmp_path, "over.img", name="over") as server:
            with a_drive(tmp_path, server.uri, "format=qcow2") as qmon:
                assert "read 4096/4096" in qmon.command('qemu-io d0 "read -P 0x72 1M 4k"')
                assert "wrote" in qmon.command('qemu-io d0 "write -P 9 1M 512"')
                assert f"Backing file:     {base} (chain depth: 1)" in qmon.command("info block")
            output("qemu-img", "check", "-f", "qcow2", server.uri)
            copied = ("-f", "qcow2", "-O", "raw", server.uri, tmp_path / "copy")
            output("qemu-img", "convert", *copied)
    content = (tmp_path / "copy").read_bytes()[MIB : MIB + 4096]
    assert content == b"\x09" * 512 + b"r" * 3584


def test_errors_of_the_server_reach_who_asks(image: Path, tmp_path: Path) -> None:
    options = ("--filter=error", "file", "remote.img", "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
    with nbdkit(tmp_path, *options) as server, a_drive(tmp_path, server.uri) as qmon:
        assert qmon.command('qemu-io d0 "write 0 4k"') == "write failed: No space left on device"
        assert "read 4096/4096" in qmon.command('qemu-io d0 "read 0 4k"')
        assert "WRITE at 0 of 4096 bytes" in qmon.log()


def test_an_export_of_odd_length_ends_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "remote.img").write_bytes(b"a" * 1000)
    with nbdkit(tmp_path, "file", "remote.img") as server, a_drive(tmp_path, server.uri) as qmon:
        assert "d0" in qmon.command("info block")
        assert qmon.qmp("query-block")[0]["inserted"]["image"]["virtual-size"] == 1024
        assert "verification failed" not in qmon.command('qemu-io d0 "read -P 0x61 512 488"')
        assert "verification failed" not in qmon.command('qemu-io d0 "read -P 0 1000 24"')


def test_a_read_only_export_is_a_read_only_drive(image: Path, tmp_path: Path) -> None:
    options = "format=raw,read-only=on"
    with (
        nbdkit(tmp_path, "-r", "file", "remote.img") as server,
        a_drive(tmp_path, server.uri, options) as qmon,
    ):
        assert "read 4096/4096" in qmon.command('qemu-io d0 "read -P 0x72 1M 4k"')
        said = qmon.command(f"drive_add 0 if=none,id=d1,format=raw,file={server.uri}")
        assert said == "request on write denied without write permission"


def test_many_requests_use_several_connections_where_the_server_allows_it(
    image: Path, tmp_path: Path
) -> None:
    require("fio")
    log = tmp_path / "nbdkit.log"
    filters = ("--filter=log", "--filter=delay", "file", "remote.img", f"logfile={log}", "delay-read=100ms")
    with nbdkit(tmp_path, *filters) as server, a_drive(tmp_path, server.uri) as qmon:
        qmon.export("d0")

        def are_several() -> bool:
            fio(qmon, "--rw=randread", "--numjobs=8", "--number_ios=24")
            return len(set(re.findall(r"connection=(\d+) Read", log.read_text()))) > 1

        eventually(are_several, "more than one connection is read from")


@pytest.mark.parametrize("name", SERVERS)
def test_a_client_has_many_requests_under_way_on_such_a_drive(name: str, image: Path, tmp_path: Path) -> None:
    require("fio")
    with SERVERS[name](tmp_path) as uri, a_drive(tmp_path, uri) as qmon:
        qmon.export("d0")
        verify = ("--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--fsync=64")
        fio(qmon, "--rw=randwrite", "--bsrange=4k-128k", "--iodepth=32", *verify)


def test_requests_of_one_client_wait_for_a_slow_server_together(image: Path, tmp_path: Path) -> None:
    require("fio")
    log = tmp_path / "nbdkit.log"
    filters = ("--filter=log", "--filter=delay", "file", "remote.img", f"logfile={log}", "delay-read=300ms")
    with nbdkit(tmp_path, *filters) as server, a_drive(tmp_path, server.uri) as qmon:
        qmon.export("d0")
        fio(qmon, "--rw=randread", "--number_ios=16")
    most = under_way = 0
    for line in log.read_text().splitlines():
        under_way += bool(re.search(r" Read id=.*\.\.\.$", line)) - bool(re.search(r"\.\.\.Read id=", line))
        most = max(most, under_way)
    assert most > 4


@pytest.mark.parametrize(("name", "is_extended"), [("qemu 7", False), ("qemu 10", True), ("qmon", True)])
def test_headers_are_extended_where_the_server_has_them(
    name: str, is_extended: bool, image: Path, tmp_path: Path
) -> None:
    size = 5 << 30  # more than 32 bits of a header can say
    os.truncate(image, size)
    with SERVERS[name](tmp_path) as uri:
        tap = Tap(tmp_path / "tap", Path(uri.split("socket=")[1]))
        with a_drive(tmp_path, f"nbd+unix:///d0?socket={tmp_path}/tap") as qmon:
            qmon.export("d0")
            with NbdClient(qmon.nbd).go("d0", extended=True, allocation=True) as guest:
                assert guest.ask(Command.WRITE, MIB, data=b"x" * 65536).error == 0
                assert guest.ask(Command.WRITE_ZEROES, 0, size).error == 0
                assert guest.ask(Command.READ, MIB, 65536).data == bytes(65536)
                assert guest.ask(Command.BLOCK_STATUS, 0, size).error == 0
                assert guest.ask(Command.TRIM, 0, size).error == 0
        sent = b"".join(tap.sent)
    magic = EXTENDED_REQUEST_MAGIC if is_extended else REQUEST_MAGIC
    other = REQUEST_MAGIC if is_extended else EXTENDED_REQUEST_MAGIC
    assert magic.to_bytes(4, "big") in sent
    assert other.to_bytes(4, "big") not in sent
    zeroed = sent.count(magic.to_bytes(4, "big") + struct.pack(">HH", 0, Command.WRITE_ZEROES))
    assert zeroed == (1 if is_extended else 5)


def test_requests_wait_for_a_server_that_comes_back(image: Path, tmp_path: Path) -> None:
    with qemu_nbd(QEMU_7, tmp_path) as server, Lab(tmp_path) as lab:
        qmon = lab.start("client", *node(server, "reconnect-delay=600"))
        qmon.export("d0")
        with ExitStack() as stack:
            places = range(0, SIZE, SIZE // GUESTS)
            parts = (image.read_bytes()[place:][: SIZE // GUESTS] for place in places)
            guests = [WritingGuest([qmon.nbd], *each) for each in zip(parts, places, strict=True)]
            for guest in guests:
                stack.enter_context(guest).wait_for(20)
            server.kill()
            qmon.wait_log("can't connect again")
            server.start()
            for guest in guests:
                guest.wait_for(20)
    is_same = image.read_bytes() == b"".join(guest.content for guest in guests)
    assert is_same  # on its own: what differs is too much to be shown


def test_requests_fail_without_reconnect_delay_until_the_server_is_back(image: Path, tmp_path: Path) -> None:
    with qemu_nbd(QEMU_7, tmp_path) as server, Lab(tmp_path) as lab:
        qmon = lab.start("client", *node(server))
        assert "wrote" in qmon.command('qemu-io d0 "write 0 4k"')
        server.kill()
        assert qmon.command('qemu-io d0 "write 0 4k"') == "write failed: Input/output error"
        server.start()
        eventually(lambda: "wrote" in qmon.command('qemu-io d0 "write 0 4k"'), "it is connected")


def test_another_export_is_not_taken_for_the_lost_one(image: Path, tmp_path: Path) -> None:
    with qemu_nbd(QEMU_7, tmp_path) as server, Lab(tmp_path) as lab:
        qmon = lab.start("client", *node(server, "reconnect-delay=600"))
        server.kill()
        with image.open("r+b") as file:
            file.truncate(SIZE // 2)
        server.start()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(qmon.command, 'qemu-io d0 "write 0 4k"')
            qmon.wait_log(f"the export has {SIZE // 2} bytes now, not {SIZE}")
            server.kill()
            with image.open("r+b") as file:
                file.truncate(SIZE)
            server.start()
            assert "wrote" in answer.result()


def test_a_server_may_come_within_open_timeout(image: Path, tmp_path: Path) -> None:
    with qemu_nbd(QEMU_7, tmp_path) as server, Lab(tmp_path) as lab:
        server.kill()
        server.socket.unlink()
        qmon = lab.launch("client", *node(server, "open-timeout=600"))
        server.start()
        assert "d0" in qmon.command("info block")


def node(server: NbdProgram, *options: str) -> tuple[str, str]:
    given = ",".join(("driver=nbd,node-name=d0,export=d0", *options))
    return "-blockdev", f"{given},server.type=unix,server.path={server.socket}"


def fio(qmon: Qmon, *options: str) -> None:
    uri = f"--uri=nbd+unix:///d0?socket={qmon.nbd}"
    output("fio", "--name=guest", "--ioengine=nbd", uri, "--bs=4k", "--iodepth=8", "--size=16M", *options)


def output(*command: str | Path) -> str:
    found = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_drives_on_exports_are_migrated(image: Path, tmp_path: Path) -> None:
    """From an export to another one, which is then what it was; then to a file of this host."""
    with (tmp_path / "other.img").open("wb") as file:
        file.truncate(SIZE)
    before = image.read_bytes()
    with qemu_nbd(QEMU_7, tmp_path) as one, nbdkit(tmp_path, "file", "other.img", name="two") as two:
        for source, target in ((one.uri, two.uri), (two.uri, f"{tmp_path}/third.img")):
            (tmp_path / "third.img").touch()
            os.truncate(tmp_path / "third.img", SIZE)
            with Lab(tmp_path) as lab:
                pair = (f"if=none,id=d0,format=raw,file={each}" for each in (source, target))
                first, second, uri = lab.pair(*(("-drive", each) for each in pair))
                migrated(first, second, f"migrate -d -b {uri}")
    assert (tmp_path / "other.img").read_bytes() == (tmp_path / "third.img").read_bytes() == before


def test_both_sides_of_a_migration_may_use_one_export(image: Path, tmp_path: Path) -> None:
    """Without ``-b`` it is the same disk, which both sides compare."""
    with qemu_nbd(QEMU_7, tmp_path) as server, Lab(tmp_path) as lab:
        drive = ("-drive", f"if=none,id=d0,format=raw,file={server.uri}")
        first, second, uri = lab.pair(drive, drive)
        assert "wrote" in first.command('qemu-io d0 "write -P 5 2M 64k"')
        migrated(first, second, f"migrate -d {uri}")
        assert "verification failed" not in second.command('qemu-io d0 "read -P 5 2M 64k"')


def test_tls_protects_a_drive_on_an_export(image: Path, tmp_path: Path) -> None:
    require("qemu-nbd")
    authority = Authority(tmp_path / "pki")
    given = ("--object", f"tls-creds-x509,id=t,endpoint=server,dir={authority.folder('server')}")
    ours = ("-object", f"tls-creds-x509,id=t,endpoint=client,dir={authority.folder('client')}")
    with qemu_nbd(QEMU_7, tmp_path, "remote.img", *given, "--tls-creds=t") as server, Lab(tmp_path) as lab:
        qmon = lab.start("client", *ours, *node(server, "tls-creds=t", "tls-hostname=localhost"))
        assert "wrote" in qmon.command('qemu-io d0 "write -P 4 2M 1M"')
        assert "read 4096/4096" in qmon.command('qemu-io d0 "read -P 0x72 1M 4k"')
        assert f"nbds+unix:///d0?socket={server.socket} (nbd)" in qmon.command("info block")
        said = qmon.command(f"drive_add 0 if=none,id=d1,format=raw,file={server.uri}")
        assert said == "the NBD server requires TLS: connect with TLS credentials"
    assert image.read_bytes()[2 * MIB : 3 * MIB] == b"\x04" * MIB
