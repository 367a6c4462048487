"""Peers that answer what nobody asked for, or connect in numbers and say nothing: they cost little."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from qmon.migration.destination.door import MAX_SILENT
from qmon.migration.wire import answers
from qmon.migration.wire.answers import AnswerReader, Type
from qmon.migration.wire.reader import Item, StreamReader
from qmon.migration.wire.stream import PREAMBLE, Go, Kind, Record, go
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon
from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import DOUBT

SIZE = 8 * MIB
SOON = 25.0
"""Seconds in which what is heard at once is heard on a busy machine; the timeouts on the way are longer."""

FLOOD = 100
"""So many connections of a flood are open at a time: more than the destination takes."""

ZEROS = answers.encode(Type.ZEROS, struct.pack(">HQQ", 0, 0, 4096))
BODIES = {
    Type.ZEROS: ZEROS,
    Type.APPLIED: answers.applied(1),
    Type.FLUSHED: answers.flushed(1),
    Type.PREPARED: answers.prepared(1, 1),
}


def message(kind: Type) -> bytes:
    """A message of some type that is right in itself."""
    return BODIES.get(kind) or answers.encode(kind)


class Destination:
    """A destination that does by hand what a test tells it to; ``play`` is given the connection."""

    def __init__(self, folder: Path, play: Callable[[Destination], None]) -> None:
        self.uri = f"unix:{folder / 'destination'}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "destination"))
        self._listener.listen(1)
        self._play = play
        self._items: Iterator[Item] = iter(())
        self._reader = StreamReader()
        self.socket = socket.socket()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Destination:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()
            self.socket, _ = self._listener.accept()
            self.socket.settimeout(PATIENCE)
            self._play(self)
            self._ended.wait(4 * PATIENCE)
        self.socket.close()

    def wait_for(self, holds: Callable[[Item], bool]) -> Item:
        """Read on up to an item of which something holds."""
        while True:
            for item in self._items:
                if holds(item):
                    return item
            count = self.socket.recv_into(self._reader.room())
            assert count, "the source has gone"
            self._reader.filled(count)
            self._items = self._reader.items()

    def wait_record(self, kind: Kind) -> Record:
        found = self.wait_for(lambda item: isinstance(item, Record) and item.kind is kind)
        assert isinstance(found, Record)
        return found

    def answer(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def wait_full(self) -> None:
        """Read nothing until nothing more comes: the buffers are full, and the source waits."""
        before = b""
        while (now := fcntl.ioctl(self.socket, termios.FIONREAD, bytes(4))) != before or not any(now):
            before = now
            time.sleep(0.3)

    def agree(self) -> None:
        self.wait_record(Kind.HELLO)
        self.answer(message(Type.AGREED))

    def prepare(self) -> None:
        """Be a right destination, up to PREPARED."""
        self.agree()
        while True:
            record = self.wait_for(lambda item: isinstance(item, Record))
            assert isinstance(record, Record)
            if record.kind is Kind.FLUSH:
                self.answer(answers.applied(record.sequence), answers.flushed(record.sequence))
            elif record.kind is Kind.END:
                self.answer(answers.applied(record.sequence))
            elif record.kind is Kind.FINISH:
                records, digest = record.finish.records, record.finish.digest
                self.answer(answers.prepared(records, digest))
                return


def source_of(lab: Lab, *, bandwidth: str = "1M") -> Qmon:
    """A running source with a disk of noise and an export, to be sent slowly."""
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.export("d0")
    source.quietly(f"migrate_set_parameter max-bandwidth {bandwidth}")
    return source


def fails(source: Qmon, destination: Destination, why: str) -> None:
    """A migration there ends soon with one line, and the source runs on."""
    source.quietly(f"migrate -d blk {destination.uri}")
    begun = time.monotonic()
    assert source.wait_migration("failed") == f"failed ({why})"
    assert time.monotonic() - begun < SOON
    assert source.status() == "running"
    with source.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)


def resident(qmon: Qmon) -> int:
    """MiB of memory that a process holds."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def threads(qmon: Qmon) -> int:
    return len(os.listdir(f"/proc/{qmon.process.pid}/task"))


OUT_OF_TURN = "the destination sent an unexpected answer {}"


@pytest.mark.parametrize(
    "kind",
    [Type.APPLIED, Type.FLUSHED, Type.PREPARED, Type.RUNNING, Type.UNKNOWN],
    ids=lambda kind: kind.name,
)
def test_an_answer_out_of_turn_before_the_agreement_ends_the_migration(lab: Lab, kind: Type) -> None:
    def play(destination: Destination) -> None:
        destination.wait_record(Kind.HELLO)
        destination.answer(message(kind))

    source = source_of(lab)
    with Destination(lab.folder, play) as destination:
        fails(source, destination, OUT_OF_TURN.format(kind.name))


@pytest.mark.parametrize(
    "kind",
    [
        Type.AGREED,
        Type.ZEROS,
        Type.BUSY,
        Type.FLUSHED,
        Type.PREPARED,
        Type.RUNNING,
        Type.UNKNOWN,
    ],
    ids=lambda kind: kind.name,
)
def test_an_answer_out_of_turn_during_the_copy_ends_the_migration(lab: Lab, kind: Type) -> None:
    """The source sends meanwhile, and does not wait for any answer."""

    def play(destination: Destination) -> None:
        destination.agree()
        destination.wait_record(Kind.DATA)
        destination.answer(message(kind))

    source = source_of(lab)
    with Destination(lab.folder, play) as destination:
        fails(source, destination, OUT_OF_TURN.format(kind.name))


@pytest.mark.parametrize("numbers", [[1 << 40], [2, 1], [2, 2]], ids=["beyond", "back", "again"])
def test_what_was_not_sent_can_not_be_applied(lab: Lab, numbers: list[int]) -> None:
    def play(destination: Destination) -> None:
        destination.agree()
        destination.wait_record(Kind.DATA)
        destination.answer(*map(answers.applied, numbers))

    source = source_of(lab)
    with Destination(lab.folder, play) as destination:
        fails(source, destination, OUT_OF_TURN.format("APPLIED"))


@pytest.mark.parametrize(
    ("ranges", "why"),
    [
        ([(0, 4096), (0, 4096)], OUT_OF_TURN.format("ZEROS")),
        ([(8192, 4096), (0, 4096)], OUT_OF_TURN.format("ZEROS")),
        ([(0, 1)], f"the destination reported 1 bytes of zeros at 0 of drive 'd0', which has {SIZE} bytes"),
        (
            [(SIZE, 4096)],
            f"the destination reported 4096 bytes of zeros at {SIZE} of drive 'd0', which has {SIZE} bytes",
        ),
    ],
    ids=["again", "back", "small", "outside"],
)
def test_zeros_go_through_a_drive_once(lab: Lab, ranges: list[tuple[int, int]], why: str) -> None:
    def play(destination: Destination) -> None:
        destination.wait_record(Kind.HELLO)
        destination.answer(*answers.zeros(0, ranges))

    source = source_of(lab)
    with Destination(lab.folder, play) as destination:
        fails(source, destination, why)


@pytest.mark.parametrize(
    ("kind", "agrees"),
    [
        (Type.ZEROS, False),
        (Type.BUSY, False),
        (Type.FLUSHED, True),
        (Type.APPLIED, True),
        (Type.REFUSED, True),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_flood_of_answers_takes_no_memory(lab: Lab, kind: Type, agrees: bool) -> None:
    flood = message(kind) * (MIB // len(message(kind)))

    def play(destination: Destination) -> None:
        destination.wait_record(Kind.HELLO)
        if agrees:
            destination.answer(message(Type.AGREED))
        for _ in range(2000):
            destination.answer(flood)

    source = source_of(lab)
    before = resident(source)
    with Destination(lab.folder, play) as destination:
        source.quietly(f"migrate -d blk {destination.uri}")
        status = source.wait_migration("failed")
        assert kind is Type.REFUSED or OUT_OF_TURN.format(kind.name) in status
        assert resident(source) - before < 30
    assert source.status() == "running"


@pytest.mark.parametrize("closes", [False, True], ids=["refused", "end of the return path"])
def test_a_source_that_can_not_send_hears_the_end_at_once(lab: Lab, closes: bool) -> None:
    """The destination reads nothing: the source is blocked in the midst of a send."""

    def play(destination: Destination) -> None:
        destination.agree()
        destination.wait_full()
        if closes:
            destination.socket.shutdown(socket.SHUT_WR)
        else:
            destination.answer(answers.refused("no room"))

    source = source_of(lab, bandwidth="0")
    with Destination(lab.folder, play) as destination:
        fails(source, destination, "the destination closed the connection" if closes else "no room")


def test_a_source_at_a_low_rate_hears_a_no_at_once(lab: Lab) -> None:
    def play(destination: Destination) -> None:
        destination.agree()
        destination.wait_record(Kind.DATA)
        destination.answer(answers.refused("no room"))

    source = source_of(lab, bandwidth="1")
    with Destination(lab.folder, play) as destination:
        fails(source, destination, "no room")


@pytest.mark.parametrize("kind", [Type.PREPARED, Type.AGREED, Type.FLUSHED], ids=lambda kind: kind.name)
def test_after_go_an_answer_out_of_turn_is_doubt(lab: Lab, kind: Type) -> None:
    def play(destination: Destination) -> None:
        destination.prepare()
        destination.wait_for(lambda item: isinstance(item, Go))
        destination.answer(message(kind))

    source = source_of(lab, bandwidth="0")
    with Destination(lab.folder, play) as destination:
        source.quietly(f"migrate -d blk {destination.uri}")
        source.wait_log(OUT_OF_TURN.format(kind.name))
        assert source.status() == "paused (finish-migrate)"
        assert source.migration().startswith("device (it is not known whether the destination runs: ")
    source.quietly("migrate_resolve keep")
    assert source.status() == "running"


def test_a_destination_that_prepares_twice_is_in_doubt_or_not_told_to_run(lab: Lab) -> None:
    """The second PREPARED may come before GO, or behind it: the source never runs once GO was sent."""
    got_go = threading.Event()

    def play(destination: Destination) -> None:
        destination.prepare()
        destination.answer(answers.prepared(1, 1))
        with contextlib.suppress(AssertionError, OSError):
            destination.wait_for(lambda item: isinstance(item, Go))
            got_go.set()

    source = source_of(lab, bandwidth="0")
    with Destination(lab.folder, play) as destination:
        source.quietly(f"migrate -d blk {destination.uri}")
        status = source.wait_migration("failed", "device")
        while status.startswith("device") and DOUBT not in status:
            status = source.wait_migration("failed", "device")
        assert OUT_OF_TURN.format("PREPARED") in status
        if status.startswith("failed"):
            assert source.status() == "running"
            assert not got_go.is_set()
        else:
            assert source.status() == "paused (finish-migrate)"


# What comes to a destination.


class Place:
    """A destination on a TCP port, and a source for it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.port = free_port()
        self.uri = f"tcp:127.0.0.1:{self.port}"
        image = blank(lab.folder / "target.img", SIZE)
        self.target = lab.start("target", *drive(image), "-incoming", self.uri)
        self.target.export("d0")
        self.source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))

    def connect(self, said: bytes = b"") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        with contextlib.suppress(OSError):  # sent away already
            sock.sendall(said)
        return sock

    def migrate(self) -> None:
        """Bring the disk here."""
        self.source.quietly(f"migrate -d blk {self.uri}")
        self.source.wait_migration("completed")
        self.target.wait_status("running")
        assert same(self.lab.folder / "source.img", self.lab.folder / "target.img")


@pytest.fixture
def place(lab: Lab) -> Place:
    return Place(lab)


@contextlib.contextmanager
def flooding(place: Place, *openings: bytes) -> Iterator[None]:
    """New connections without end meanwhile, each with the next opening, of which the last ones stay.

    A source has half a second between its connection and its first bytes: a host may be busy.
    """
    ended, is_full = threading.Event(), threading.Event()

    def flood() -> None:
        held: list[socket.socket] = []
        number = 0
        while not ended.is_set():
            with contextlib.suppress(OSError):
                held.append(place.connect(openings[number % len(openings)]))
                number += 1
            if len(held) > FLOOD:
                held.pop(0).close()
                is_full.set()
                time.sleep(0.01)
        for each in held:
            each.close()

    flooder = threading.Thread(target=flood)
    flooder.start()
    try:
        assert is_full.wait(PATIENCE)
        yield
    finally:
        ended.set()
        flooder.join()


OPENINGS = [b"", b"GET / HTTP/1.1\r\n\r\n", b"Q", PREAMBLE, PREAMBLE[:-1], bytes(100)]


def test_connections_that_say_nothing_keep_no_source_out(place: Place) -> None:
    silent = [place.connect() for _ in range(3 * MAX_SILENT)]
    place.migrate()
    for each in silent:
        each.close()


@pytest.mark.parametrize(
    "opening", OPENINGS, ids=["silent", "http", "Q", "preamble", "short preamble", "zeros"]
)
def test_a_flood_of_connections_keeps_no_source_out(place: Place, opening: bytes) -> None:
    with flooding(place, opening):
        place.migrate()


def test_a_flood_of_connections_keeps_no_source_in_doubt_out(place: Place) -> None:
    """Its first question gets no answer; those behind it come among strangers."""
    wire = socket.create_server(("127.0.0.1", 0))
    port = wire.getsockname()[1]
    ended = threading.Event()

    def carry() -> None:
        """Carry what the source sends, and no answer of the kind RUNNING the first time."""
        loses = True
        while not ended.is_set():
            with contextlib.suppress(OSError):
                here, _ = wire.accept()
                there = place.connect()
                back = threading.Thread(target=_pump, args=(there, here, loses))
                back.start()
                _pump(here, there, False)
                back.join()
                here.close()
                there.close()
                loses = False

    carrier = threading.Thread(target=carry, daemon=True)
    with flooding(place, *OPENINGS):
        carrier.start()
        place.source.quietly(f"migrate -d blk tcp:127.0.0.1:{port}")
        place.source.wait_log("it is not known whether the destination runs")
        place.source.wait_migration("completed")
    ended.set()
    wire.shutdown(socket.SHUT_RDWR)
    wire.close()
    carrier.join(PATIENCE)
    assert place.target.status() == "running"


def _pump(one: socket.socket, other: socket.socket, loses_running: bool) -> None:
    reader = AnswerReader()
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            if loses_running and any(each.type is Type.RUNNING for each in reader.feed(data)):
                break
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def test_600_connections_cost_little_and_what_they_cost_is_given_back(place: Place) -> None:
    target = place.target
    before, threads_before = resident(target), threads(target)
    junk = []
    most = 0
    for number in range(600):
        junk.append(place.connect(OPENINGS[number % len(OPENINGS)]))
        most = max(most, threads(target))
    assert most - threads_before <= 20
    assert resident(target) - before < 40
    assert resident(target) < 200
    place.migrate()
    for each in junk:
        each.close()
    eventually(lambda: threads(target) <= threads_before, "the threads have ended")
    assert resident(target) - before < 20
    with target.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)


def test_a_question_that_arrives_damaged_is_not_answered_by_a_refusal(lab: Lab) -> None:
    """A source in doubt runs on when it hears REFUSED. But this destination runs."""
    port = free_port()
    uri = f"tcp:127.0.0.1:{port}"
    target = lab.start("target", *drive(blank(lab.folder / "target.img", SIZE)), "-incoming", uri)
    source = source_of(lab, bandwidth="0")
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("completed")
    assert target.status() == "running"
    question = PREAMBLE + go(uuid4().bytes, 1)
    for position in range(len(question)):
        damaged = bytearray(question)
        damaged[position] ^= 1 << position % 8
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as asks:
            asks.sendall(damaged)
            asks.shutdown(socket.SHUT_WR)
            told = b"".join(iter(lambda: asks.recv(4096), b""))
        kinds = {answer.type for answer in AnswerReader().feed(told)}
        assert kinds <= {Type.DISMISSED, Type.UNKNOWN}, position


def test_a_source_in_doubt_stays_so_when_its_connection_is_dismissed(lab: Lab) -> None:
    def play(destination: Destination) -> None:
        destination.prepare()
        destination.wait_for(lambda item: isinstance(item, Go))
        destination.answer(answers.dismissed("its place was needed"))

    source = source_of(lab, bandwidth="0")
    with Destination(lab.folder, play) as destination:
        source.quietly(f"migrate -d blk {destination.uri}")
        source.wait_log("its place was needed")
        assert source.status() == "paused (finish-migrate)"
        assert source.migration().startswith("device (it is not known whether the destination runs: ")
