"""A disk that several threads write at once, each its own sectors."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from qmon.block.image import ImageNode, look_at_image, open_image
from tests.fuzz.power_loss_disk import Call
from tests.fuzz.power_loss_images import Made
from tests.fuzz.power_loss_judge import check_sound, compare, read_alone
from tests.support.power_loss import SECTOR, Recorder
from tests.support.qcow2_images import read

THREADS = 4
_PATIENCE = 60


class Threads:
    """Blocks of the disk go round among the threads, so that they meet in clusters and tables."""

    def __init__(self, made: Made, recorder: Recorder, chance: random.Random) -> None:
        self._made = made
        self._recorder = recorder
        self._block = chance.choice([512, 2048, 20480, 65536])
        self._seeds = [chance.getrandbits(32) for _ in range(THREADS)]
        begin = Call("begin", 0, 0, True, False, made.image, made.held, {})
        self._lines = [[begin] for _ in range(THREADS)]

    @property
    def calls(self) -> list[Call]:
        """Of all threads."""
        return [call for line in self._lines for call in line]

    def use(self, calls: int) -> None:
        """Have each thread do so many things; then close the disk."""
        node = open_image(str(self._made.image), "qcow2")
        together = threading.Barrier(THREADS)

        def work(number: int) -> None:
            together.wait(_PATIENCE)
            self._work(node, number, calls)

        try:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(work, range(THREADS)))
        finally:
            begun = self._recorder.tick()
            node.close()
            ended = self._recorder.tick()
        for line in self._lines:
            line.append(Call("close", begun, ended, True, False, self._made.image, line[-1].held, {}))

    def _work(self, node: ImageNode, number: int, calls: int) -> None:
        chance = random.Random(self._seeds[number])
        held = bytearray(self._made.held)
        own = range(number * self._block, len(held) - SECTOR, THREADS * self._block)

        def note(name: str, call: Callable[[], None]) -> None:
            begun = self._recorder.tick()
            call()
            ended = self._recorder.tick()
            image = self._made.image
            self._lines[number].append(
                Call(name, begun, ended, name == "flush", False, image, bytes(held), {})
            )

        for _ in range(calls):
            start = chance.choice(own)
            end = min(start + self._block, len(held))
            if chance.random() < 0.5:
                start += chance.randrange((end - start) // SECTOR) * SECTOR
                end -= chance.randrange((end - start) // SECTOR) * SECTOR
            match chance.choice("wwwwzudff"):
                case "w":
                    held[start:end] = chance.randbytes(end - start)
                    note("write", partial(node.write, start, held[start:end]))
                case "z" | "u" as call:
                    held[start:end] = bytes(end - start)
                    note("zero", partial(node.zero, start, end - start, unmap=call == "u"))
                case "d":

                    def discard(start: int = start, end: int = end) -> None:
                        node.discard(start, end - start)
                        held[start:end] = read(node, start, end - start)

                    note("discard", discard)
                case _:
                    note("flush", node.flush)

    def check(self, moment: int, chance: random.Random) -> None:
        """Each thread's sectors hold what it flushed, or what it put there since. Raises AssertionError."""
        image = self._made.image
        header = look_at_image(str(image), "qcow2")[0].header
        assert header is not None
        check_sound(image, header)
        survived = read_alone(image, "qcow2")
        for number, line in enumerate(self._lines):
            last = max(place for place, call in enumerate(line) if call.is_flushed and call.ended <= moment)
            states = [call.held for call in line[last:] if call.begun <= moment]
            for start in range(0, len(survived), SECTOR):
                if start // self._block % THREADS == number:
                    sector = survived[start : start + SECTOR]
                    assert any(sector == held[start : start + SECTOR] for held in states), (
                        f"sector {start // SECTOR} of thread {number}"
                    )
        if chance.random() < 0.3:
            compare(image, "qcow2", survived)
