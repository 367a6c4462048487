"""One qmon to which damaged recordings of NBD clients are played, and what must hold whatever they are."""

from __future__ import annotations

import contextlib
import random
import select
import socket
from collections.abc import Iterator
from pathlib import Path

from qmon.nbd.constants import IHAVEOPT, REQUEST_MAGIC
from tests.support.images import noise
from tests.support.nbd_crowd import Crowd, connect
from tests.support.nbd_house import House, Way
from tests.support.nbd_recorder import DISK, RECORDINGS
from tests.support.process_memory import MEMORY_MAX, peak
from tests.support.processes import Lab
from tests.support.waiting import PATIENCE

MARKS = (REQUEST_MAGIC.to_bytes(4, "big"), IHAVEOPT.to_bytes(8, "big"))
"""Where a field begins that is worth changing: of a request, of an option."""
EXTREMES = (0, 1, 0xFF, 0xFFFF, 1 << 16, (1 << 25) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LONGEST = 64 << 20
"""Bytes of answers that are read of one session."""


class BrokenPromiseError(Exception):
    """The server did what it must never do."""


def recordings() -> dict[str, bytes]:
    """All recordings by their names."""
    return {path.name: path.read_bytes() for path in sorted(RECORDINGS.iterdir())}


class Mutations:
    """Damages sessions at random, mostly in their headers."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._sessions = list(recordings().values())

    def session(self) -> bytes:
        """Return a recording with one to six damages."""
        data = bytearray(self._chance.choice(self._sessions))
        for _ in range(self._chance.randint(1, 6)):
            self._chance.choice(
                (self._flip, self._number, self._number, self._cut, self._repeat, self._splice)
            )(data)
        return bytes(data)

    def _place(self, data: bytearray) -> int:
        """A place, mostly in the 40 bytes from the beginning of a header on."""
        mark = self._chance.choice(MARKS)
        found = data.find(mark, self._chance.randrange(len(data) + 1))
        if found >= 0 and self._chance.random() < 0.8:
            return min(len(data), found + self._chance.randrange(40))
        return self._chance.randrange(len(data) + 1)

    def _flip(self, data: bytearray) -> None:
        at = self._place(data)
        data[at : at + 1] = bytes([self._chance.randrange(256)])

    def _number(self, data: bytearray) -> None:
        at, size = self._place(data), self._chance.choice((1, 2, 4, 8))
        data[at : at + size] = (self._chance.choice(EXTREMES) % (1 << 8 * size)).to_bytes(size, "big")

    def _cut(self, data: bytearray) -> None:
        at = self._place(data)
        del data[at : at + self._chance.choice((1, 4, 28, 1 << 20))]

    def _repeat(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = data[at : at + self._chance.choice((4, 16, 28, 200))] * self._chance.choice((1, 2, 50))

    def _splice(self, data: bytearray) -> None:
        other = self._chance.choice(self._sessions)
        data[self._place(data) :] = other[self._chance.randrange(len(other)) :]


class Trial:
    """A qmon with a disk for damaged sessions, a read-only one and one for others."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._victim = house.disk(noise(DISK), allocation_depth=True)
        self._kept = house.disk(noise(DISK), writable=False)
        self._others = Crowd(house, house.disk(DISK).name, 3)
        self._log = len(house.qmon.log())

    def close(self) -> None:
        self._others.__exit__()

    def play(self, seed: int) -> None:
        """Play the damaged session of a seed. Raises BrokenPromiseError."""
        chance = random.Random(seed)
        self.play_bytes(Mutations(chance).session(), chance)

    def play_bytes(self, data: bytes, chance: random.Random) -> int:
        """Play a session in pieces; return how many bytes came back. Raises BrokenPromiseError."""
        with connect(self._house) as sock:
            answered = self._talk(sock, data, chance)
        try:
            self._others.go_round()
        except (OSError, AssertionError) as error:
            raise BrokenPromiseError(f"another client was disturbed: {error}") from error
        self._check()
        return answered

    def _talk(self, sock: socket.socket, data: bytes, chance: random.Random) -> int:
        """Send everything, and read until the server has closed."""
        sock.setblocking(False)
        answered = 0
        with contextlib.suppress(ConnectionError):
            while answered < LONGEST:
                readable, writable, _ = select.select([sock], [sock] if data else [], [], PATIENCE)
                if not readable and not writable:
                    raise BrokenPromiseError("a client that had ended was not let go")
                if readable:
                    received = len(sock.recv(1 << 20))
                    if not received:
                        break
                    answered += received
                if writable:
                    sent = sock.send(data[: chance.choice((1, 4, 28, 1000, 1 << 16))])
                    data = data[sent:]
                    if not data:
                        sock.shutdown(socket.SHUT_WR)
        return answered

    def _check(self) -> None:
        qmon = self._house.qmon
        if qmon.process.poll() is not None:
            raise BrokenPromiseError(f"the program ended with {qmon.process.returncode}")
        if "Traceback" in qmon.log():
            raise BrokenPromiseError("a traceback in the log:\n" + qmon.log())
        if (held := peak(qmon)) > MEMORY_MAX:
            raise BrokenPromiseError(f"the program held {held >> 20} MiB")
        if self._kept.image.read_bytes() != noise(DISK):
            raise BrokenPromiseError("a read-only disk was written")
        if self._victim.image.stat().st_size != DISK:
            raise BrokenPromiseError("the disk has another size")

    def content(self) -> bytes:
        """What the disk holds that sessions write."""
        return self._victim.image.read_bytes()


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Trial]:
    """A trial in a folder of its own."""
    with Lab(folder) as lab, contextlib.closing(Trial(House(lab, Way.UNIX))) as trial:
        yield trial
