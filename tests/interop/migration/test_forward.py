"""Clients stay connected when their disk moves: the source works on for them at the destination."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from qmon.nbd.constants import Command, CommandFlag
from tests.support.certificates import Authority
from tests.support.guest import Guest
from tests.support.guests import WritingGuest
from tests.support.images import KIB, MIB, blank, drive, filled, noise
from tests.support.nbd_client import NbdClient, request
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon
from tests.support.pump import pump
from tests.support.vms.machine import Version
from tests.support.vms.on_export import GuestOnExport
from tests.support.waiting import PATIENCE, connected, eventually

SIZE = 4 * MIB
OVER = (errno.EIO, errno.ESHUTDOWN, None)
"""How a request may end when the disk can't be reached any more; None is a closed connection."""


def forwarded(side: Qmon, key: str = "x-qmon-forwarded") -> dict[str, int]:
    """What query-migrate says of the clients that stay; nothing where there are none, or none yet."""
    found: dict[str, int] = side.qmp("query-migrate").get(key, {})
    return found


def forwarded_here(side: Qmon) -> dict[str, int]:
    """The same of a destination that serves them."""
    return forwarded(side, "x-qmon-forwarded-here")


def moves(source: Qmon, target: Qmon, uri: str, *, blk: bool = True) -> None:
    """Move the disk while clients are connected."""
    source.quietly(f"migrate -d {'blk ' * blk}{uri}")
    source.wait_migration("completed")
    eventually(lambda: target.status() in ("running", "paused"), "the destination has taken over")


def ending(ask: Guest) -> int | None:
    """How a read ends: with an errno, or None for a closed connection. It must not succeed."""
    try:
        ask.read(0, 512)
    except ConnectionError:
        return None
    except OSError as error:
        return error.errno
    raise AssertionError("a read was served although the disk can't be reached")


@pytest.mark.parametrize("link", ["unix", "tls"])
def test_clients_that_stay_write_on_through_the_source(lab: Lab, link: str) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    if link == "tls":
        authority, uri = Authority(lab.folder), f"tcp:127.0.0.1:{free_port()}"
        for side, endpoint in ((source, "client"), (target, "server")):
            folder = authority.folder(endpoint)
            side.quietly(f"object_add tls-creds-x509,id=tls0,dir={folder},endpoint={endpoint}")
            side.quietly("migrate_set_parameter tls-creds tls0")
        target.close()
        target = lab.start(
            "over_tls",
            *drive(lab.folder / "target.img"),
            "-object",
            f"tls-creds-x509,id=tls0,dir={authority.folder('server')},endpoint=server",
            "-incoming",
            "defer",
        )
        target.quietly("migrate_set_parameter tls-creds tls0", f"migrate_incoming {uri}")
    half = SIZE // 2
    first = WritingGuest([source.nbd], noise(SIZE)[:half])
    second = WritingGuest([source.nbd], noise(SIZE)[half:], half)
    with first, second:
        first.wait_for(20)
        moves(source, target, uri)
        for guest in (first, second):
            guest.wait_for(100)
        assert forwarded(source)["clients"] == 2
        assert forwarded(source)["requests"] >= 100
        eventually(lambda: forwarded_here(target).get("clients") == 2, "both sides count")
    assert (first.error, second.error) == (None, None)
    eventually(lambda: not forwarded(source), "the last client has left")
    eventually(lambda: not forwarded_here(target), "the connection is closed")
    assert (lab.folder / "target.img").read_bytes() == bytes(first.content + second.content)
    if link == "unix":
        assert int(target.qmp("query-blockstats")[0]["stats"]["wr_operations"]) >= 100


@pytest.fixture
def pair(lab: Lab) -> tuple[Qmon, Qmon, str]:
    """A source with an export, and a destination."""
    return lab.disk_pair(SIZE)


Pair = tuple[Qmon, Qmon, str]


@pytest.mark.parametrize("form", ["simple", "structured", "extended"])
def test_every_command_is_done_at_the_destination(lab: Lab, pair: Pair, form: str) -> None:
    source, target, uri = pair
    here = (lab.folder / "source.img").read_bytes()
    expected = bytearray(here)
    structured, extended = form != "simple", form == "extended"
    with NbdClient(source.nbd).go(
        "d0", structured=structured, extended=extended, allocation=structured
    ) as client:
        moves(source, target, uri)
        for number, (command, flags) in enumerate(
            (
                (Command.WRITE, 0),
                (Command.WRITE, CommandFlag.FUA),
                (Command.WRITE_ZEROES, CommandFlag.NO_HOLE),
                (Command.WRITE_ZEROES, CommandFlag.FUA),
                (Command.TRIM, 0),
            )
        ):
            offset, length = number * 512 * KIB + 512, 200 * KIB
            data = noise(length, number) if command == Command.WRITE else b""
            assert client.ask(command, offset, length, flags=flags, data=data).error == 0
            expected[offset : offset + length] = data or bytes(length)
            assert client.ask(Command.READ, offset, length).data == expected[offset : offset + length]
        assert client.ask(Command.FLUSH).error == 0
        assert client.ask(Command.CACHE, 0, MIB).error == 0
        assert client.ask(Command.READ, 0, SIZE).data == expected
        data = noise(3 * MIB, 77)
        assert client.ask(Command.WRITE, 512, 3 * MIB, data=data).error == 0
        expected[512 : 512 + 3 * MIB] = data
        if structured:
            kinds = client.ask(Command.BLOCK_STATUS, 0, SIZE).extents
            assert sum(length for length, _ in kinds) == SIZE
        assert client.ask(Command.READ, SIZE, 512).error == errno.EINVAL
        assert client.ask(Command.WRITE, SIZE, 512, data=bytes(512)).error == errno.ENOSPC
    assert (lab.folder / "target.img").read_bytes() == bytes(expected)
    assert (lab.folder / "source.img").read_bytes() == here


def test_many_requests_are_under_way_at_once(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    chance, expected = random.Random(3), bytearray(noise(SIZE))
    with NbdClient(source.nbd).go("d0") as client:
        moves(source, target, uri)
        blocks = chance.sample(range(SIZE // (4 * KIB)), 300)
        for start in range(0, len(blocks), 100):
            writes = {}
            for cookie, block in enumerate(blocks[start : start + 100]):
                data = chance.randbytes(4 * KIB)
                expected[block * 4 * KIB : (block + 1) * 4 * KIB] = data
                writes[cookie] = (block * 4 * KIB, data)
            client.send(
                *(
                    request(Command.WRITE, at, cookie=cookie, data=data)
                    for cookie, (at, data) in writes.items()
                )
            )
            assert {client.reply().cookie for _ in writes} == set(writes)
            client.send(
                *(request(Command.READ, at, 4 * KIB, cookie=cookie) for cookie, (at, _) in writes.items())
            )
            for _ in writes:
                reply = client.reply(4 * KIB)
                assert (reply.error, reply.data) == (0, writes[reply.cookie][1])
    assert (lab.folder / "target.img").read_bytes() == bytes(expected)


def test_a_client_that_takes_no_replies_holds_up_no_other(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    with NbdClient(source.nbd).go("d0") as slow, source.guest() as guest:
        moves(source, target, uri)
        slow.send(*(request(Command.READ, 0, MIB, cookie=cookie) for cookie in range(16)))
        guest.write(0, noise(4 * KIB, 6))
        eventually(lambda: forwarded(source).get("requests", 0) >= 4, "the slow one's requests are done")
        for offset in range(0, 64 * KIB, 4 * KIB):
            guest.write(offset, noise(4 * KIB, 6))
            assert guest.read(offset, 4 * KIB) == noise(4 * KIB, 6)
        expected = noise(4 * KIB, 6) * 16 + noise(SIZE)[64 * KIB : MIB]
        replies = [slow.reply(MIB) for _ in range(16)]
        assert not any(reply.error for reply in replies)
        assert replies[-1].data == expected
    assert (lab.folder / "target.img").read_bytes()[:MIB] == expected


def test_requests_that_were_held_go_to_the_destination(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    with NbdClient(source.nbd).go("d0") as client:
        source.quietly("stop")
        client.send(request(Command.WRITE, 512, cookie=5, data=noise(512, 5)))
        moves(source, target, uri)
        assert target.status() == "paused"
        target.quietly("cont")
        reply = client.reply()
        assert (reply.error, reply.cookie) == (0, 5)
    assert (lab.folder / "target.img").read_bytes()[512:1024] == noise(512, 5)


def test_the_destination_stops_and_throttles_as_for_its_own_guests(pair: Pair) -> None:
    source, target, uri = pair
    with NbdClient(source.nbd).go("d0") as client:
        moves(source, target, uri)
        target.quietly("stop")
        client.send(request(Command.READ, 0, 512, cookie=7))
        eventually(lambda: forwarded_here(target).get("in-flight") == 1, "it is held there")
        target.quietly("cont")
        assert client.reply(512).data == noise(SIZE)[:512]
        target.quietly("block_set_io_throttle d0 0 0 0 1 0 0")
        client.send(*(request(Command.READ, 0, 512, cookie=cookie) for cookie in range(2)))
        assert client.reply(512).error == 0
        target.quietly("block_set_io_throttle d0 0 0 0 0 0 0")
        assert client.reply(512).error == 0


def test_new_clients_are_refused_with_a_line(pair: Pair) -> None:
    source, target, uri = pair
    with source.guest() as guest:
        moves(source, target, uri)
        with pytest.raises(OSError, match="the disk of export 'd0' has moved to another host"):
            source.guest()
        assert guest.read(0, 512) == noise(SIZE)[:512]
        assert "the disk has moved" in source.command('qemu-io d0 "read 0 512"')


def test_without_the_capability_at_the_destination_clients_are_turned_away(pair: Pair) -> None:
    source, target, uri = pair
    target.quietly("migrate_set_capability x-qmon-forward off")
    with source.guest() as guest:
        moves(source, target, uri)
        assert ending(guest) in (errno.ESHUTDOWN, None)
    assert source.qmp("query-migrate")["x-qmon-turned-away"] == [{"export": "d0", "clients": 1}]


def test_with_shared_disks_clients_stay_as_well(lab: Lab) -> None:
    image = filled(lab.folder / "shared.img", SIZE)
    source, target, uri = lab.pair(drive(image), drive(image))
    source.export("d0")
    with WritingGuest([source.nbd], noise(SIZE)) as guest:
        guest.wait_for(5)
        moves(source, target, uri, blk=False)
        guest.wait_for(50)
        assert forwarded(source)["clients"] == 1
    assert guest.error is None
    assert image.read_bytes() == bytes(guest.content)


def test_where_the_disk_moves_on_requests_follow_it(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    there = f"unix:{lab.folder}/third.migration"
    third = lab.start("third", *drive(blank(lab.folder / "third.img", SIZE)), "-incoming", there)
    with WritingGuest([source.nbd], noise(SIZE)) as guest:
        guest.wait_for(5)
        moves(source, target, uri)
        guest.wait_for(20)
        moves(target, third, there)
        guest.wait_for(50)
        assert forwarded(target)["clients"] == 1
        eventually(lambda: forwarded_here(third).get("clients") == 1, "the third serves it")
    assert guest.error is None
    assert (lab.folder / "third.img").read_bytes() == bytes(guest.content)
    eventually(lambda: not forwarded(source), "the chain ends with its client")
    eventually(lambda: not forwarded(target), "its second part as well")


@pytest.mark.parametrize("how", ["kill", "quit"])
def test_when_the_destination_ends_requests_fail_and_clients_are_closed(
    lab: Lab, pair: Pair, how: str
) -> None:
    source, target, uri = pair
    here = (lab.folder / "source.img").read_bytes()
    with source.guest() as guest, NbdClient(source.nbd).go("d0") as held:
        moves(source, target, uri)
        guest.write(0, noise(512, 8))
        if how == "kill":
            target.quietly("stop")
            held.send(request(Command.WRITE, 4096, data=noise(512, 9)))
            eventually(lambda: forwarded(source).get("in-flight") == 1, "its outcome is not known")
            target.kill()
            assert held.reply().error == errno.EIO
        else:
            target.close()
        assert ending(guest) in OVER
        eventually(lambda: not forwarded(source), "it is over")
        eventually(lambda: "x-qmon-clients': 0" in str(source.qmp("query-block-exports")), "all are closed")
    source.wait_log("are not forwarded to")
    assert (lab.folder / "target.img").read_bytes()[:512] == noise(512, 8)
    assert (lab.folder / "target.img").read_bytes()[512:] == here[512:]
    assert (lab.folder / "source.img").read_bytes() == here


def test_when_the_source_is_killed_nothing_wrong_is_written(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    guest = WritingGuest([source.nbd, target.nbd], noise(SIZE))
    with guest:
        guest.wait_for(5)
        moves(source, target, uri)
        guest.wait_for(20)
        source.kill()
        guest.wait_for(20)
    assert guest.error is None
    assert guest.moved_with == [None]
    assert (lab.folder / "target.img").read_bytes() == bytes(guest.content)
    eventually(lambda: not forwarded_here(target), "the destination has noticed")


class Line:
    """A connection between two Unix sockets that can be cut."""

    def __init__(self, path: Path, target: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._target = target
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ends = (self._listener.accept()[0], connected(self._target))
                self._ends += ends
                pump(*ends)

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        for end in self._ends:
            end.close()


def test_when_the_line_is_lost_requests_fail_and_the_destination_runs_on(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    line = Line(lab.folder / "line", Path(uri.removeprefix("unix:")))
    guest = WritingGuest([source.nbd, target.nbd], noise(SIZE))
    with contextlib.closing(line), guest:
        guest.wait_for(5)
        moves(source, target, f"unix:{lab.folder / 'line'}")
        guest.wait_for(20)
        line.cut()
        guest.wait_for(20)
    assert guest.error is None
    assert guest.moved_with[0] in OVER
    assert target.status() == "running"
    assert (lab.folder / "target.img").read_bytes() == bytes(guest.content)


def test_when_the_disk_is_taken_back_no_client_sees_the_old_one(lab: Lab, pair: Pair) -> None:
    source, target, uri = pair
    with source.guest() as guest:
        moves(source, target, uri)
        guest.write(0, noise(512, 8))
        target.close()
        source.quietly("cont -f")
        assert ending(guest) in OVER
    assert source.status() == "running"
    with source.guest() as guest:
        assert guest.read(0, 512) == noise(SIZE)[:512]


def test_a_drive_that_is_removed_ends_what_waits_for_the_destination(pair: Pair) -> None:
    source, target, uri = pair
    with NbdClient(source.nbd).go("d0") as client:
        moves(source, target, uri)
        target.quietly("stop")
        client.send(request(Command.READ, 0, 512))
        eventually(lambda: forwarded(source).get("in-flight") == 1, "it is on its way")
        source.quietly("drive_del d0")
        target.quietly("cont")
    eventually(lambda: not forwarded(source), "nobody is left")


def test_what_fio_writes_over_a_whole_migration_verifies(lab: Lab) -> None:
    """It is held back so that it outlasts the migration, and then until it was seen at work."""
    require("fio")
    source, target, uri = lab.disk_pair(8 * MIB)
    words = ["--name=guest", "--ioengine=nbd", "--rw=randrw", "--bs=4k", "--iodepth=16", "--size=8m"]
    words += ["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--verify_backlog=64"]
    words += ["--loops=2", "--minimal", "--thread"]
    source.quietly("block_set_io_throttle d0 0 0 0 50 0 0")
    target.quietly("block_set_io_throttle d0 0 0 0 200 0 0")
    fio = subprocess.Popen(
        ["fio", *words, f"--uri=nbd+unix:///d0?socket={source.nbd}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=lab.folder,
    )
    eventually(lambda: source.qmp("query-block-exports")[0]["x-qmon-clients"] == 1, "fio is there")
    moves(source, target, uri)
    eventually(lambda: forwarded(source).get("requests", 0) > 100, "fio works on")
    target.quietly("block_set_io_throttle d0 0 0 0 0 0 0")
    said, _ = fio.communicate(timeout=3 * PATIENCE)
    assert fio.returncode == 0, said
    eventually(lambda: not forwarded(source), "fio has left")


def test_a_real_guest_sees_one_pause_and_works_on_through_the_source(lab: Lab) -> None:
    require(Version.TEN.program[0])
    image = GuestOnExport.fill(lab.folder / "source.img")
    copied = blank(lab.folder / "target.img", image.stat().st_size)
    source, target, uri = lab.pair(drive(image), drive(copied))
    source.export("d0")
    server = f"driver=nbd,server.type=unix,server.path={source.nbd},export=d0"
    guest = GuestOnExport(lab.folder, Version.TEN, server)
    with contextlib.closing(guest.machine):
        guest.machine.wait_to_count()
        source.quietly("migrate_set_parameter max-bandwidth 20M")
        moves(source, target, uri)
        size = guest.machine.said_size()
        eventually(lambda: guest.machine.said_size() >= size + 100, "the guest counts on")
        assert guest.machine.status() == "running"
        assert forwarded(source)["clients"] >= 1
        assert guest.wrong(copied) == []
