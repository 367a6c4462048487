"""The power fails: of what was written since the file was flushed last, any part may be there.

The file below an image writes down what is done to it. From that, files are made as a disk may hold them
after a power failure at any moment: all that was flushed, and any subset of the writes since, some torn.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qmon.block.file import FileNode
from qmon.block.image import open_image
from qmon.block.node import Buffer
from qmon.block.qcow2 import node as qcow2_node
from qmon.block.qcow2.header import REFCOUNT_TABLE_OFFSET
from tests.interop.peers import require
from tests.interop.qcow2_images import Recipe, check, read

SECTOR = 512
SIZE = 3 << 20
FAILURES = 10
"""Moments at which the power fails, for each run of a disk."""

Change = Callable[[bytearray], None]


def put(offset: int, data: bytes) -> Change:
    def change(image: bytearray) -> None:
        image.extend(bytes(max(0, offset + len(data) - len(image))))
        image[offset : offset + len(data)] = data

    return change


@dataclass(frozen=True)
class Event:
    """What was done to the file; ``parts`` are the changes of which each may land or not, none is a flush."""

    whole: Change | None = None
    parts: tuple[Change, ...] = ()
    offset: int = -1
    """Of a write."""


class Recorder:
    """Makes files that write down what is done to them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def file_type(self) -> type[FileNode]:
        events = self.events

        class RecordedFile(FileNode):
            def write(self, offset: int, data: Buffer) -> None:
                content = bytes(data)
                starts = range(offset - offset % SECTOR, offset + len(content), SECTOR)
                pieces = [
                    (max(start, offset), min(start + SECTOR, offset + len(content))) for start in starts
                ]
                parts = tuple(put(start, content[start - offset : end - offset]) for start, end in pieces)
                events.append(Event(put(offset, content), parts, offset))
                super().write(offset, data)

            def give_back(self, offset: int, length: int) -> None:
                def punch(image: bytearray) -> None:
                    count = max(0, min(offset + length, len(image)) - offset)
                    image[offset : offset + count] = bytes(count)

                events.append(Event(punch, (punch,)))
                super().give_back(offset, length)

            def flush(self) -> None:
                super().flush()
                events.append(Event())

        return RecordedFile


@dataclass(frozen=True)
class Moment:
    """The disk after one call: from event ``start`` on it was under way, at ``end`` it was over."""

    start: int
    end: int
    is_flushed: bool
    held: bytes


def use_disk(image: Path, held: bytes, chance: random.Random, events: list[Event]) -> list[Moment]:
    """Do this and that to a disk, and return what it held after each call."""
    model = bytearray(held)
    moments = [Moment(0, 0, True, held)]
    node = open_image(str(image), "qcow2")
    for _ in range(chance.randrange(3, 20)):
        offset = chance.randrange(SIZE // SECTOR) * SECTOR
        length = min(SIZE - offset, SECTOR * chance.choice([1, 2, 8, 100, chance.randrange(1, 400), 3000]))
        start = len(events)
        call = chance.choice("wwwwzuddf")
        match call:
            case "w":
                model[offset : offset + length] = chance.randbytes(length)
                node.write(offset, model[offset : offset + length])
            case "z" | "u":
                model[offset : offset + length] = bytes(length)
                node.zero(offset, length, unmap=call == "u")
            case "d":
                node.discard(offset, length)
                model[offset : offset + length] = read(node, offset, length)
            case "f":
                node.flush()
        moments.append(Moment(start, len(events), call == "f", bytes(model)))
    start = len(events)
    node.close()
    moments.append(Moment(start, len(events), True, bytes(model)))
    return moments


def after_failure(before: bytes, events: list[Event], moment: int, chance: random.Random) -> bytearray:
    """A file as the disk may hold it when the power fails at ``moment``."""
    image = bytearray(before)
    flushed = max((number for number in range(moment) if events[number].whole is None), default=-1)
    for event in events[: flushed + 1]:
        if event.whole is not None:
            event.whole(image)
    landed = chance.choice([0.1, 0.5, 0.9, 1.0])
    for event in events[flushed + 1 : moment]:
        if chance.random() < 0.3:
            for part in event.parts:
                if chance.random() < landed:
                    part(image)
        elif chance.random() < landed and event.whole is not None:
            event.whole(image)
    return image


def check_survivor(image: Path, moment: int, moments: list[Moment]) -> None:
    """It is sound, and each sector holds what was flushed, or something that was written there since."""
    check(image, leaks=True)
    last = max(number for number, each in enumerate(moments) if each.is_flushed and each.end <= moment)
    allowed = [each.held for number, each in enumerate(moments) if number >= last and each.start <= moment]
    node = open_image(str(image), "qcow2", read_only=True, lock=False)
    survived = read(node)
    node.close()
    for offset in range(0, SIZE, SECTOR):
        sector = survived[offset : offset + SECTOR]
        assert any(sector == held[offset : offset + SECTOR] for held in allowed), f"sector {offset // SECTOR}"


@pytest.mark.parametrize("seed", range(10))
def test_what_was_flushed_survives_a_power_failure(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    require("qemu-img", "qemu-io")
    chance = random.Random(seed)
    compat = chance.choice(["0.10", "1.1", "1.1"])
    recipe = Recipe(
        cluster_size=chance.choice([512, 512, 512, 4096, 65536]),
        size=SIZE,
        compat=compat,
        refcount_bits=chance.choice([2, 16, 64, 64, 64]) if compat == "1.1" else 16,
        backing=chance.choice([None, "raw"]),
        backing_size=SIZE,
        content=chance.choice(["none", "data", "snapshot", "zeros"]),
    )
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, held = recipe.make(Path(name))
        before = image.read_bytes()
        recorder = Recorder()
        with monkeypatch.context() as patch:
            patch.setattr(qcow2_node, "FileNode", recorder.file_type())
            moments = use_disk(image, held, chance, recorder.events)
        for _ in range(FAILURES):
            moment = chance.randrange(len(recorder.events) + 1)
            survivor = image.with_name("survivor.qcow2")
            survivor.write_bytes(after_failure(before, recorder.events, moment, chance))
            check_survivor(survivor, moment, moments)


@pytest.mark.parametrize("named_first", [True, False])
def test_a_moved_refcount_table_is_there_when_it_is_named_and_named_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_first: bool
) -> None:
    """Of what is not flushed, only the write that names the table lands, or all but that one."""
    require("qemu-img")
    image, _ = Recipe(cluster_size=512, size=SIZE, refcount_bits=64).make(tmp_path)
    before = image.read_bytes()
    recorder = Recorder()
    monkeypatch.setattr(qcow2_node, "FileNode", recorder.file_type())
    node = open_image(str(image), "qcow2")
    for offset in range(0, SIZE, SIZE // 4):
        node.write(offset, random.Random(offset).randbytes(SIZE // 4))
        node.flush()
    node.close()
    events = recorder.events
    flushes = [number for number, event in enumerate(events) if event.whole is None]
    naming = [number for number, event in enumerate(events) if event.offset == REFCOUNT_TABLE_OFFSET]
    assert naming
    for number in naming:
        for moment in [flush for flush in flushes if flush > number][:2]:
            flushed = max(flush for flush in flushes if flush < moment)
            disk = bytearray(before)
            for each, event in enumerate(events[:moment]):
                if event.whole is not None and (each < flushed or (each == number) is named_first):
                    event.whole(disk)
            survivor = tmp_path / "survivor.qcow2"
            survivor.write_bytes(disk)
            check(survivor, leaks=True)
