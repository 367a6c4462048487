"""A switchover that takes too long: the guests go on, nothing they wrote is lost, and it is tried again."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmon.migration.patience import Patience
from qmon.migration.wire.answers import AnswerReader, Type
from tests.support.guests import WritingGuest
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon, migrated
from tests.support.proxy import Fault, Place, Proxy, Rule, Way
from tests.support.waiting import PATIENCE, connected, eventually

SIZE = 2 * MIB
LIMIT = 1.2
"""Seconds that guests may stand still here with a downtime limit of 200 ms; a user's margin is 5 s."""

OVERDUE = "the switchover took longer than 1.2 s: guests continue"
LONGEST_WAIT = LIMIT + 20
"""Seconds that no write of a guest waits, on a busy machine too."""


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.patience = Patience(margin=0.8)
    return lab


class Hold:
    """What passes waits here until a test lets it go on, by ``end`` or by leaving it as a context."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._ended = threading.Event()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self) -> None:
        """Wait; returns at once when it has ended."""
        self.reached.set()
        self._ended.wait(2 * PATIENCE)

    def end(self) -> None:
        self._ended.set()


class Line:
    """A proxy before a destination on a Unix socket, whose line can be made slow, and its answers late."""

    def __init__(self, path: Path, target: Path) -> None:
        self.uri = f"unix:{path}"
        self.bytes_a_second = 0
        """Of the stream, 0 for no limit."""
        self.allowed: Callable[[], int] | None = None
        """So many bytes of the stream may have come by in all, besides that limit; None for any number."""
        self.carried = 0
        """Bytes of the stream that have come by."""
        self.before_answer: Callable[[Type], None] = lambda kind: None
        self._target = target
        self._ends: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.allowed = None
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):  # ended before
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the test is over
            while True:
                source, _ = self._listener.accept()
                target = connected(self._target)
                self._ends += [source, target]
                for way in (self._carry_stream, self._carry_answers):
                    thread = threading.Thread(target=way, args=(source, target))
                    self._threads.append(thread)
                    thread.start()

    def _carry_stream(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # an end has gone
            while data := source.recv(4096 if self.bytes_a_second else 1 << 16):
                left = memoryview(data)
                while left:
                    piece = max(1, self.bytes_a_second // 50) if self.bytes_a_second else len(left)
                    target.sendall(left[:piece])
                    self.carried += len(left[:piece])
                    left = left[piece:]
                    if self.bytes_a_second:
                        time.sleep(0.02)
                    while self.allowed is not None and self.carried > self.allowed():
                        time.sleep(0.02)
        self._end(source, target)

    def _carry_answers(self, source: socket.socket, target: socket.socket) -> None:
        reader = AnswerReader()
        with contextlib.suppress(OSError):
            while data := target.recv(1 << 16):
                for answer in reader.feed(data):
                    self.before_answer(answer.type)
                source.sendall(data)
        self._end(source, target)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def disks(lab: Lab, *, shared: bool = False) -> tuple[list[str], list[str], Path]:
    """The options of a source's and a destination's drive, and the image that is the destination's."""
    image = filled(lab.folder / "source.img", SIZE)
    if shared:
        (lab.folder / "link.img").symlink_to(image)
        return drive(image), drive(lab.folder / "link.img"), image
    target = blank(lab.folder / "target.img", SIZE)
    return drive(image), drive(target), target


def slow_pair(lab: Lab) -> tuple[Qmon, Qmon, Path, Path]:
    """A pair that stands still for at most LIMIT seconds; the destination's socket and image."""
    mine, theirs, image = disks(lab)
    source, target, uri = lab.pair(mine, theirs)
    source.export("d0")
    target.export("d0")
    source.quietly(
        "migrate_set_capability x-qmon-forward off"
    )  # the lines of these tests know no such messages
    source.quietly("migrate_set_parameter downtime-limit 200")
    return source, target, Path(uri.removeprefix("unix:")), image


def attempts(source: Qmon) -> int:
    """How many switchovers took too long."""
    return int(source.figures().get("switchovers that took too long", 0))


def take_time(source: Qmon) -> None:
    """Let the next switchovers take as long as a busy machine needs for them."""
    source.quietly("migrate_set_parameter downtime-limit 60000")


def complete(source: Qmon) -> None:
    """Bring a migration that pauses before each switchover to its good end."""
    take_time(source)

    def is_over() -> bool:
        status = source.migration()
        if status == "pre-switchover":
            source.command("migrate_continue pre-switchover")
        assert not status.startswith("failed")
        return status == "completed"

    eventually(is_over, "it completes")


def test_guests_stand_still_for_5_s_and_twice_the_downtime_limit(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        source, target, there, _ = slow_pair(lab)
        migrated(source, target, f"migrate -d blk unix:{there}")
        assert "switchover: at most 5.4 s" in source.command("info migrate -t")


@pytest.mark.parametrize(
    ("place", "shared"),
    [
        (Place(Way.STREAM, 8, "FINISH"), False),
        (Place(Way.ANSWERS, 0, "PREPARED"), False),
        (Place(Way.ANSWERS, 0, "PREPARED"), True),
    ],
    ids=["FINISH is late", "PREPARED is late", "PREPARED is late on shared storage"],
)
def test_guests_go_on_when_the_destination_is_not_prepared_in_time(
    lab: Lab, place: Place, shared: bool
) -> None:
    mine, theirs, image = disks(lab, shared=shared)
    port, hold = free_port(), Hold()
    target = lab.start("target", *theirs, "-incoming", f"tcp:127.0.0.1:{port}")
    source = lab.start("source", *mine)
    source.export("d0")
    target.export("d0")
    source.quietly("migrate_set_parameter downtime-limit 200")
    with (
        Proxy(port, [Rule(place, Fault.SIGNAL)], on_signal=hold.wait) as proxy,
        WritingGuest([source.nbd, target.nbd], noise(SIZE)) as guest,
        hold,
    ):
        guest.wait_for(10)
        source.quietly(f"migrate -d {'' if shared else 'blk '}tcp:127.0.0.1:{proxy.port}")
        assert hold.reached.wait(PATIENCE)
        source.wait_log(OVERDUE)
        eventually(lambda: source.status() == "running", "the machine runs again")
        assert source.migration() == "active"
        guest.wait_for(10)
        take_time(source)
        hold.end()
        source.wait_migration("completed")
        guest.wait_for(10)
    assert guest.error is None
    assert guest.longest < LONGEST_WAIT
    assert proxy.acted
    assert attempts(source) >= 1
    assert source.status() == "paused (postmigrate)"
    assert image.read_bytes() == guest.content


def test_guests_go_on_when_the_line_becomes_slow_and_wait_no_more_until_it_is_fast_again(lab: Lab) -> None:
    """The rate is learned: with the same left over it is not tried again."""
    source, target, there, image = slow_pair(lab)
    source.quietly("migrate_set_capability pause-before-switchover on")
    with (
        Line(lab.folder / "line", there) as line,
        WritingGuest([source.nbd, target.nbd], noise(SIZE)) as guest,
    ):
        source.quietly(f"migrate -d blk {line.uri}")
        source.wait_migration("pre-switchover")
        line.bytes_a_second, line.allowed = 2000, lambda: 0  # even a small rest does not get through
        source.quietly("migrate_continue pre-switchover")
        source.wait_log(f"{OVERDUE} (attempt 1 of 3)")
        carried, written = line.carried, guest.written
        line.allowed = lambda: carried + (guest.written - written) // 2  # the line is slower than the guest
        line.bytes_a_second = 1_000_000

        def carries_the_disk_twice() -> bool:
            assert source.migration() == "active"
            return line.carried > carried + 2 * SIZE

        eventually(carries_the_disk_twice, "what is sent arrives", 180)
        guest.wait_for(100)
        assert source.migration() == "active"
        assert attempts(source) == 1
        line.bytes_a_second, line.allowed = 0, None
        complete(source)
        guest.wait_for(10)
    assert guest.error is None
    assert guest.longest < LONGEST_WAIT
    assert image.read_bytes() == guest.content


def test_after_some_attempts_the_migration_fails_and_the_source_runs_on(lab: Lab) -> None:
    lab.patience = Patience(margin=0.1)
    source, target, there, image = slow_pair(lab)
    source.quietly("migrate_set_parameter downtime-limit 50")

    def dawdle(kind: Type) -> None:
        """Let no PREPARED through before guests continue."""
        if kind is Type.PREPARED:
            eventually(lambda: source.qmp("query-status")["running"], "guests continue")

    with (
        Line(lab.folder / "line", there) as line,
        WritingGuest([source.nbd, target.nbd], noise(SIZE)) as guest,
    ):
        line.before_answer = dawdle
        source.quietly(f"migrate -d blk {line.uri}")
        eventually(lambda: source.migration().startswith("failed"), "it is given up")
        guest.wait_for(10)
        assert source.migration().startswith("failed (the switchover took more than 0.2 s, 3 times: ")
        assert source.status() == "running"
        assert target.status() == "paused (inmigrate)"
        take_time(source)
        source.quietly(f"migrate -d blk unix:{there}")
        source.wait_migration("completed")
        guest.wait_for(10)
    assert guest.error is None
    assert guest.longest < LONGEST_WAIT
    assert image.read_bytes() == guest.content


def test_a_pause_that_somebody_asked_for_may_last(lab: Lab) -> None:
    """If it counted, each attempt would take too long, and the third one would be the last."""
    source, target, there, _ = slow_pair(lab)
    source.quietly("migrate_set_capability pause-before-switchover on", f"migrate -d blk unix:{there}")
    for _ in range(3):  # a busy machine may take too long, too
        if source.wait_migration("pre-switchover", "completed") == "completed":
            break
        before = attempts(source)
        time.sleep(LIMIT + 0.3)
        assert (source.migration(), attempts(source)) == ("pre-switchover", before)
        source.quietly("migrate_continue pre-switchover")
        while source.migration() == "pre-switchover" and attempts(source) == before:
            time.sleep(0.01)
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_destination_that_was_prepared_once_is_not_so_after_a_restart(lab: Lab) -> None:
    """Its disk is a mixture: neither the operator nor a source in doubt may take it for whole."""
    source, target, there, image = slow_pair(lab)
    with Line(lab.folder / "line", there) as line, Hold() as hold:
        line.before_answer = lambda kind: hold.wait() if kind is Type.PREPARED else None
        source.quietly(f"migrate -d blk {line.uri}")
        assert hold.reached.wait(PATIENCE)
        source.wait_log(OVERDUE)
        eventually(lambda: source.status() == "running", "the machine runs again")
        with source.guest() as guest:
            guest.write(0, noise(MIB, 9))
        carried = line.carried
        line.allowed = lambda: carried + 4096  # that it goes back, and not all that was written
        hold.end()
        eventually(lambda: target.migration() == "active", "the destination has heard of it")
        target.kill()
        source.wait_migration("failed")
    assert source.status() == "running"
    again = lab.start("again", *drive(image), "-incoming", f"unix:{lab.folder / 'again.in'}")
    assert "have arrived" not in again.log()
    assert again.command("migrate_resolve keep").startswith("Error: There is nothing to resolve")
    assert again.status() == "paused (inmigrate)"
    take_time(source)
    source.quietly(f"migrate -d blk unix:{lab.folder / 'again.in'}")
    source.wait_migration("completed")
    assert same(lab.folder / "source.img", image)


def test_a_switchover_that_takes_too_long_can_be_cancelled(lab: Lab) -> None:
    source, _, there, _ = slow_pair(lab)
    with Line(lab.folder / "line", there) as line, Hold() as hold:
        line.before_answer = lambda kind: hold.wait() if kind is Type.PREPARED else None
        source.quietly(f"migrate -d blk {line.uri}")
        source.wait_log(OVERDUE)
        source.quietly("migrate_cancel")
        source.wait_migration("cancelled")
        with source.guest() as guest:
            guest.write(0, noise(512, 9))
    assert source.status() == "running"
