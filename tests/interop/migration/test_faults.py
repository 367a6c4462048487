"""The connection is cut or held at each step of a migration: at most one side runs, and doubt is said."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qmon.migration.wire.answers import AnswerReader, Type
from qmon.migration.wire.reader import StreamReader
from qmon.migration.wire.stream import Go
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import connected

SIZE = 2 * MIB
DOUBT = "it is not known whether the destination runs: "


class Cut(Exception):  # noqa: N818 - it is an order, not an error
    """Raised by a hook: both connections are to end here and now."""


class Wire:
    """A proxy between source and destination that asks a hook before it lets a message by."""

    def __init__(
        self,
        path: Path,
        target: Path,
        on_answer: Callable[[Type], None] = lambda kind: None,
        on_go: Callable[[], None] = lambda: None,
    ) -> None:
        self.uri = f"unix:{path}"
        self._target = target
        self._on_answer = on_answer
        self._on_go = on_go
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Carry one connection meanwhile."""
        accepting = threading.Thread(target=self._carry)
        accepting.start()
        try:
            yield
        finally:
            accepting.join(30)
            self._listener.close()
            assert not accepting.is_alive()

    def _carry(self) -> None:
        source, _ = self._listener.accept()
        with source, connected(self._target) as target:
            ways = [
                threading.Thread(target=self._pump, args=(source, target, self._look_for_go())),
                threading.Thread(target=self._pump, args=(target, source, self._look_at_answers())),
            ]
            for way in ways:
                way.start()
            for way in ways:
                way.join()

    def _pump(self, one: socket.socket, other: socket.socket, look: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError, Cut):
            while data := one.recv(1 << 16):
                look(data)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _look_at_answers(self) -> Callable[[bytes], None]:
        reader = AnswerReader()

        def look(data: bytes) -> None:
            for answer in reader.feed(data):
                self._on_answer(answer.type)

        return look

    def _look_for_go(self) -> Callable[[bytes], None]:
        reader = StreamReader()

        def look(data: bytes) -> None:
            view = memoryview(data)
            while view:
                room = reader.room()
                count = min(len(room), len(view))
                room[:count] = view[:count]
                reader.filled(count)
                view = view[count:]
                for item in reader.items():
                    if isinstance(item, Go):
                        self._on_go()

        return look


def pair(lab: Lab, *, shared: bool = False) -> tuple[Qmon, Qmon, Path, str]:
    """A pair, the destination's socket, and the line that migrates to a proxy in front of it."""
    image = filled(lab.folder / "source.img", SIZE)
    (lab.folder / "link.img").symlink_to(image)
    theirs = lab.folder / "link.img" if shared else blank(lab.folder / "target.img", SIZE)
    source, target, uri = lab.pair(drive(image), drive(theirs))
    source.export("d0")
    target.export("d0")
    mode = "" if shared else "blk "
    return source, target, Path(uri.removeprefix("unix:")), f"migrate -d {mode}unix:{lab.folder / 'wire'}"


def runs_on(source: Qmon) -> None:
    """The source serves its guests, with its data."""
    assert source.status() == "running"
    with source.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)
        guest.write(0, noise(512, 9))
        guest.write(0, noise(SIZE)[:512])


@pytest.mark.parametrize(
    ("step", "shared"),
    [
        (Type.AGREED, False),
        (Type.AGREED, True),
        (Type.FLUSHED, False),
        (Type.PREPARED, False),
        (Type.PREPARED, True),
    ],
)
def test_a_connection_that_is_cut_before_go_leaves_the_source_running(
    lab: Lab, step: Type, shared: bool
) -> None:
    source, target, there, line = pair(lab, shared=shared)

    def cut(kind: Type) -> None:
        if kind is step:
            raise Cut

    wire = Wire(lab.folder / "wire", there, on_answer=cut)
    with wire.once():
        source.quietly(line)
        source.wait_migration("failed")
    runs_on(source)
    # A destination that is prepared can't know that the source has gone back: it waits, or takes another.
    target.wait_migration("device" if step is Type.PREPARED else "failed")
    assert target.status() == "paused (inmigrate)"
    migrated(source, target, line.replace(wire.uri, f"unix:{there}"))
    assert shared or same(lab.folder / "source.img", lab.folder / "target.img")


def doubt(lab: Lab, *, shared: bool = False, heard: bool) -> tuple[Qmon, Qmon, Path]:
    """A source in doubt: the destination has heard GO and its answer was lost, or has not heard it."""
    source, target, there, line = pair(lab, shared=shared)

    def cut_answer(kind: Type) -> None:
        if kind is Type.RUNNING:
            raise Cut

    def cut_go() -> None:
        raise Cut

    path = lab.folder / "wire"
    wire = Wire(path, there, on_answer=cut_answer) if heard else Wire(path, there, on_go=cut_go)
    with wire.once():
        source.quietly(line)
        source.wait_log(DOUBT)
    path.unlink()
    assert source.status() == "paused (finish-migrate)"
    assert source.migration().startswith(f"device ({DOUBT}")
    assert source.command("cont") == "Error: Migration is not finalized yet"
    assert source.command("migrate_cancel").startswith("Error: ")
    return source, target, there


@pytest.mark.parametrize("heard", [False, True], ids=["go lost", "answer lost"])
@pytest.mark.parametrize("shared", [False, True], ids=["copied", "shared"])
def test_a_source_in_doubt_asks_again_until_it_hears(lab: Lab, shared: bool, heard: bool) -> None:
    source, target, there = doubt(lab, shared=shared, heard=heard)
    assert target.status() == ("running" if heard else "paused (inmigrate)")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")
        target.wait_status("running")
    assert source.status() == "paused (postmigrate)"
    with target.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)


def test_the_operator_gives_the_disks_to_the_source(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=False)
    target.quietly("migrate_resolve release")
    target.wait_migration("failed")
    source.quietly("migrate_resolve keep")
    runs_on(source)
    assert target.status() == "paused (inmigrate)"
    migrated(source, target, f"migrate -d blk unix:{there}")


def test_the_operator_gives_the_disks_to_the_destination(lab: Lab) -> None:
    source, target, _ = doubt(lab, heard=False)
    source.quietly("migrate_resolve release")
    source.wait_migration("completed")
    target.quietly("migrate_resolve keep")
    target.wait_status("running")
    assert source.status() == "paused (postmigrate)"
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_destination_that_was_told_to_release_refuses_when_it_is_asked(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=False)
    target.quietly("migrate_resolve release")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("failed")
    runs_on(source)


def test_a_source_that_has_handed_over_runs_again_only_by_force(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    assert source.command("cont").startswith("Error: The disks have been handed over by a migration")
    target.close()
    source.quietly("cont -f")
    runs_on(source)


def test_where_nothing_is_in_doubt_there_is_nothing_to_resolve(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    nothing = "Error: There is nothing to resolve: "
    assert source.command("migrate_resolve keep") == f"{nothing}no migration is known"
    assert target.command("migrate_resolve keep") == f"{nothing}the migration is none"
    migrated(source, target, f"migrate -d blk {uri}")
    assert target.command("migrate_resolve keep") == f"{nothing}the migration is completed"
    assert target.command("migrate_resolve release") == f"{nothing}the migration is completed"


def test_whoever_waits_for_the_end_is_told_of_doubt(lab: Lab) -> None:
    source, _, there, line = pair(lab)

    def cut(kind: Type) -> None:
        if kind is Type.RUNNING:
            raise Cut

    with Wire(lab.folder / "wire", there, on_answer=cut).once():
        answer = source.command(line.replace("-d ", ""))
    assert answer.splitlines()[-1].startswith(f"Error: {DOUBT}the destination closed the connection.")


def test_a_destination_that_can_not_open_the_shared_image_refuses_and_the_source_runs_on(lab: Lab) -> None:
    source, target, there, line = pair(lab, shared=True)
    link = lab.folder / "link.img"

    def remove(kind: Type) -> None:
        if kind is Type.PREPARED:
            link.rename(lab.folder / "away")

    with Wire(lab.folder / "wire", there, on_answer=remove).once():
        source.quietly(line)
        status = source.wait_migration("failed")
    assert status == (
        "failed (the destination refused to run: drive 'd0' can't be opened at the destination:"
        " No such file or directory)"
    )
    runs_on(source)
    assert target.status() == "paused (inmigrate)"
    target.wait_log("No such file or directory")
    (lab.folder / "away").rename(link)
    migrated(source, target, line.replace(str(lab.folder / "wire"), str(there)))


def test_a_cancel_while_the_destination_prepares_takes_effect(lab: Lab) -> None:
    source, target, there, line = pair(lab)
    held, go_on = threading.Event(), threading.Event()

    def hold(kind: Type) -> None:
        if kind is Type.PREPARED:
            held.set()
            go_on.wait(10)

    wire = Wire(lab.folder / "wire", there, on_answer=hold)
    with wire.once():
        source.quietly(line)
        assert held.wait(10)
        assert source.status() == "paused (finish-migrate)"
        source.quietly("migrate_cancel")
        source.wait_migration("cancelled")
        go_on.set()
    runs_on(source)
    migrated(source, target, line.replace(wire.uri, f"unix:{there}"))
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_stop_during_the_switchover_is_refused_not_lost(lab: Lab) -> None:
    source, _, there, line = pair(lab)
    held, go_on = threading.Event(), threading.Event()

    def hold(kind: Type) -> None:
        if kind is Type.PREPARED:
            held.set()
            go_on.wait(10)

    with Wire(lab.folder / "wire", there, on_answer=hold).once():
        source.quietly(line)
        assert held.wait(10)
        assert source.command("stop") == "Error: Migration is not finalized yet"
        go_on.set()
        source.wait_migration("completed")


def test_a_guest_that_waits_at_the_switchover_is_served_when_it_fails(lab: Lab) -> None:
    source, _, there, line = pair(lab)
    written = threading.Event()

    def write() -> None:
        with source.guest() as guest:
            guest.write(MIB, noise(4096, 8))
        written.set()

    writer = threading.Thread(target=write)

    def hold(kind: Type) -> None:
        if kind is Type.PREPARED:
            writer.start()
            assert not written.wait(0.2)
            raise Cut

    with Wire(lab.folder / "wire", there, on_answer=hold).once():
        source.quietly(line)
        source.wait_migration("failed")
    assert written.wait(10)
    writer.join()
    assert (lab.folder / "source.img").read_bytes()[MIB : MIB + 4096] == noise(4096, 8)
