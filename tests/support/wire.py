"""Cuts or holds a migration's connection at a message, and brings a source in doubt by it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from qmon.migration.wire.answers import AnswerReader, Type
from qmon.migration.wire.reader import StreamReader
from qmon.migration.wire.stream import Go
from tests.support.images import MIB, blank, drive, filled
from tests.support.processes import Lab, Qmon
from tests.support.waiting import PATIENCE, connected

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
        self._listener.settimeout(PATIENCE)
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Carry one connection meanwhile."""
        accepting = threading.Thread(target=self._carry)
        accepting.start()
        try:
            yield
        finally:
            accepting.join(2 * PATIENCE)
            self._listener.close()
            assert not accepting.is_alive()

    def _carry(self) -> None:
        source, _ = self._listener.accept()
        self._listener.close()  # whoever asks again finds nobody, and does not wait for an answer here
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


def wired_pair(lab: Lab, *, shared: bool = False) -> tuple[Qmon, Qmon, Path, str]:
    """A pair, the destination's socket, and the line that migrates to a proxy in front of it."""
    image = filled(lab.folder / "source.img", SIZE)
    (lab.folder / "link.img").symlink_to(image)
    theirs = lab.folder / "link.img" if shared else blank(lab.folder / "target.img", SIZE)
    source, target, uri = lab.pair(drive(image), drive(theirs))
    source.export("d0")
    target.export("d0")
    # so that the switchover is not given up while a test holds it
    source.quietly(f"migrate_set_parameter downtime-limit {PATIENCE * 1000:.0f}")
    mode = "" if shared else "blk "
    return source, target, Path(uri.removeprefix("unix:")), f"migrate -d {mode}unix:{lab.folder / 'wire'}"


def doubt(lab: Lab, *, shared: bool = False, heard: bool) -> tuple[Qmon, Qmon, Path]:
    """A source in doubt: the destination has heard GO and its answer was lost, or has not heard it."""
    source, target, there, line = wired_pair(lab, shared=shared)

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
