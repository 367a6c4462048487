"""A read, write, flush or hole of the file below a qcow2 image fails, in the middle of each thing that can be
done to it: nothing is lost, and the image is good for whoever opens it next. qemu-img is the judge."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from qmon.block import image_file
from qmon.block.file import FileNode
from qmon.block.node import Buffer
from qmon.block.qcow2.node import Qcow2Node
from tests.support.peers import require
from tests.support.qcow2_images import check, content, read, run, run_io
from tests.support.qcow2_model import opened
from tests.support.thoroughness import a_chance

SIZE = (300 << 10) + 512
FAILURES = 5
"""Of the calls of one kind that one thing to do makes, so many are tried, one by one."""


@pytest.fixture(scope="module", autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


class Failing:
    """Counts the calls of one kind to files, and has one of them fail."""

    def __init__(self) -> None:
        self.kind = ""
        self.made = 0
        self.last = -1
        self.code = errno.EIO

    def call(self, kind: str) -> None:
        if kind == self.kind:
            self.made += 1
            if self.made == self.last:
                raise OSError(self.code, os.strerror(self.code))

    def begin(self, kind: str, last: int, code: int) -> None:
        self.kind, self.last, self.code, self.made = kind, last, code, 0

    def file_type(self) -> type[FileNode]:
        call = self.call

        class FailingFile(FileNode):
            def read_into(self, offset: int, buffer: memoryview) -> None:
                call("read")
                super().read_into(offset, buffer)

            def write(self, offset: int, data: Buffer) -> None:
                call("write")
                super().write(offset, data)

            def give_back(self, offset: int, length: int) -> None:
                call("hole")
                super().give_back(offset, length)

            def flush(self) -> None:
                call("flush")

        return FailingFile


@dataclass(frozen=True)
class State:
    """What a disk and its snapshots, by name, hold."""

    held: bytes
    snapshots: dict[str, bytes]


def names(node: Qcow2Node) -> set[str]:
    return {each.name for each in node.snapshots}


def take(node: Qcow2Node, before: State) -> State:
    node.internal.take("new", 1, 2)
    return replace(before, snapshots=before.snapshots | {"new": before.held})


def take_another(node: Qcow2Node, before: State) -> State:
    node.internal.take("large", 1, 2, instead_of=[each for each in node.snapshots if each.name == "large"])
    return replace(before, snapshots=before.snapshots | {"large": before.held})


def delete(node: Qcow2Node, before: State) -> State:
    node.internal.delete([each for each in node.snapshots if each.name == "small"])
    return replace(before, snapshots={"large": before.snapshots["large"]})


def delete_all(node: Qcow2Node, before: State) -> State:
    node.internal.delete(node.snapshots)
    return replace(before, snapshots={})


def apply(name: str) -> Callable[[Qcow2Node, State], State]:
    def change(node: Qcow2Node, before: State) -> State:
        node.internal.apply(next(each for each in node.snapshots if each.name == name))
        return replace(before, held=before.snapshots[name])

    return change


def resize(size: int) -> Callable[[Qcow2Node, State], State]:
    def change(node: Qcow2Node, before: State) -> State:
        node.resize(size)
        return replace(before, held=before.held[:size] + bytes(max(0, size - len(before.held))))

    return change


CHANGES: dict[str, Callable[[Qcow2Node, State], State]] = {
    "take": take,
    "take another": take_another,
    "delete": delete,
    "delete all": delete_all,
    "apply a small one": apply("small"),
    "apply a large one": apply("large"),
    "grow": resize(3 << 20),
    "shrink": resize(100 << 10),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    chance = a_chance("an image with snapshots")
    folder = tmp_path_factory.mktemp("good")
    return make(folder, cluster_size=chance.choice([512, 4096]), backed=chance.random() < 0.5)


def make(folder: Path, *, cluster_size: int, backed: bool) -> tuple[Path, State]:
    """An image with two snapshots of other sizes."""
    image = folder / "good.qcow2"
    (folder / "base").write_bytes(random.Random(2).randbytes(200 << 10))
    more = ["-b", "base", "-F", "raw"] if backed else []
    options = f"cluster_size={cluster_size}"
    run("create", "-q", "-f", "qcow2", "-o", options, *more, image, 60 << 10)
    run_io(image, "write -P 3 1k 40k")
    run("snapshot", "-c", "small", image)
    run("resize", "-q", image, 500 << 10)
    run_io(image, "write -P 4 30k 50k", "write -P 5 400k 20k")
    run("snapshot", "-c", "large", image)
    snapshots = {"large": content(image)}
    snapshots["small"] = content(image, "small")[: 60 << 10]
    run("resize", "-q", "--shrink", image, SIZE)
    run_io(image, "write -P 6 35k 20k", "write -z 250k 20k")
    return image, State(content(image), snapshots)


def either(node: Qcow2Node, before: State, after: State) -> list[State]:
    """What of both a disk is after a change that failed."""
    now = (read(node), names(node))
    found = [state for state in (before, after) if now == (state.held, set(state.snapshots))]
    assert found
    return found


def judge(image: Path, states: list[State]) -> None:
    """Whoever opens the image next finds one of the states, sound."""
    opened(image).close()  # sets right what has to be
    check(image, leaks=True)
    node = opened(image, read_only=True)
    there = names(node)
    held = read(node)
    node.close()
    assert held in [state.held for state in states]
    assert content(image) == held
    for name in there:
        shown = content(image, name)  # as much as the disk is long now
        wanted = [state.snapshots[name] for state in states if name in state.snapshots]
        assert any(shown[: len(each)] == each[: len(shown)] for each in wanted)
    assert there in [set(state.snapshots) for state in states]


def used(node: Qcow2Node) -> bytes:
    """Write and discard something, all of which is in the file then; returns what the disk holds."""
    node.write(5000, b"x" * 100)
    node.discard(270 << 10, 20 << 10)
    node.flush()
    return read(node)


def moments(made: int, chance: random.Random) -> Iterator[int]:
    """Which of the calls fail: all of few, some of many."""
    wanted = range(1, made + 1)
    yield from wanted if made <= FAILURES else sorted(chance.sample(wanted, FAILURES))


def goes_on(node: Qcow2Node) -> Callable[[State], State] | None:
    """Use a disk after a failure, where it has no table yet; returns what that changes of a state.

    None where the disk takes no writes any more.
    """
    offset = min(150 << 10, node.size - 100)
    try:
        node.write(offset, b"y" * 100)
        node.flush()
    except OSError:
        return None
    return lambda state: replace(state, held=state.held[:offset] + b"y" * 100 + state.held[offset + 100 :])


@pytest.mark.parametrize("kind", ["read", "write", "flush", "hole"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_fails_half_way_is_done_or_is_not(
    name: str, kind: str, made: tuple[Path, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    change, chance = CHANGES[name], a_chance(f"{name}: {kind}")
    good, before = made
    failing = Failing()
    monkeypatch.setattr(image_file, "FileNode", failing.file_type())
    image = good.with_name("disk.qcow2")
    shutil.copy(good, image)
    node = opened(image)
    before = replace(before, held=used(node))
    failing.begin(kind, -1, 0)
    after = change(node, before)
    calls = failing.made
    node.close()
    for moment in moments(calls, chance):
        shutil.copy(good, image)
        node = opened(image)
        assert used(node) == before.held
        failing.begin(kind, moment, chance.choice([errno.EIO, errno.ENOSPC]))
        try:
            change(node, before)
            states = [after]  # it failed where that does no harm
        except OSError:
            states = either(node, before, after)
            if kind in ("flush", "write"):  # nobody knows what has landed
                states = [before, after]
        failing.begin("", -1, 0)
        more = goes_on(node)
        node.close()
        if more is not None:
            check(image, leaks=True)  # what could not be finished was done on closing
            states = [more(state) for state in states]
        judge(image, states)
