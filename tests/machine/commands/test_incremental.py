"""Incremental copies at the machine's edge: what a destination says, and what it does after one broke off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

from qmon.block.image import open_image
from qmon.block.node import Kind
from qmon.block.qcow2.create import create_overlay
from qmon.block.qcow2.node import LOCKS
from qmon.migration.backing import checksum
from qmon.migration.patience import Patience
from qmon.migration.wire.answers import AnswerReader, Type
from qmon.migration.wire.offer import BackingOffer, DriveOffer, Mode, Offer, Sample
from qmon.migration.wire.stream import PREAMBLE, section_end, section_footer, section_start
from qmon.migration.wire.writer import RecordWriter
from qmon.notation.drive_options import DriveOptions
from tests.support.embedded_lab import SIZE, EmbeddedLab, LabMachine, Play
from tests.support.waiting import connected

CLUSTER = 65536


def overlay(lab: EmbeddedLab, name: str) -> DriveOptions:
    """A drive of an empty overlay over an image of data, the same for all."""
    base = lab.folder / "base.img"
    if not base.exists():
        base.write_bytes(b"base" * (SIZE // 4))
    image = lab.folder / name
    create_overlay(str(image), SIZE, base.name, "raw", LOCKS)
    return DriveOptions("d0", str(image), "qcow2", "none", False)


def held(path: str) -> list[tuple[int, int]]:
    """What an image holds itself, as (offset, length)."""
    node = open_image(path, "qcow2", read_only=True, lock=False)
    try:
        return [
            (extent.offset, extent.length)
            for extent in node.extents(0, node.size)
            if extent.kind is not Kind.BACKING
        ]
    finally:
        node.close()


class Stranger:
    """A source that does by hand what it is told; its calls block."""

    def __init__(self, path: Path, backing: BackingOffer) -> None:
        self._socket = connected(path)
        self._socket.settimeout(20)
        self._answers = AnswerReader()
        self.heard: list[Type] = []
        self._writer = RecordWriter()
        self._writer.raw(PREAMBLE + section_start())
        drive = DriveOffer("d0", SIZE, False, backing)
        self._writer.hello(Offer(UUID(int=5), Mode.INCREMENTAL, (drive,)).encode())
        self._send()

    def finish(self) -> None:
        """Bring one cluster, and say that this was all."""
        self._writer.raw(section_end())
        self._writer.data(0, 0, memoryview(b"x" * CLUSTER))
        self._writer.finish(True)
        self._send()

    def _send(self) -> None:
        self._writer.end()
        self._writer.raw(section_footer())
        self._socket.sendall(b"".join(self._writer.buffers))
        self._writer.clear()

    def wait(self, wanted: Type) -> None:
        while wanted not in self.heard:
            data = self._socket.recv(1 << 16)
            assert data, self.heard
            self.heard += [answer.type for answer in self._answers.feed(data)]

    def close(self) -> None:
        self._socket.close()


def describe(path: Path) -> BackingOffer:
    """A backing image by the checksum of all of it."""
    node = open_image(str(path), "raw", read_only=True, lock=False)
    try:
        return BackingOffer(SIZE, (Sample(0, SIZE, checksum(node, 0, SIZE, lambda: None)),))
    finally:
        node.close()


LIVELY = Patience(sign=0)
"""Signs of life come as often as they can."""


async def waiting(lab: EmbeddedLab, **options: Any) -> tuple[LabMachine, str]:
    uri = f"unix:{lab.folder}/in"
    return await lab.start(overlay(lab, "b.qcow2"), incoming=uri, **options), uri


async def moved(source: LabMachine, target: LabMachine, uri: str) -> None:
    await source.qmp("migrate", uri=uri, blk=True, inc=True)
    await source.wait_migration("completed")
    await target.wait_status("running")
    await source.close()
    await target.close()


async def with_data(lab: EmbeddedLab, **options: Any) -> LabMachine:
    """A machine whose overlay holds its third cluster."""
    settings = overlay(lab, "a.qcow2")
    node = open_image(settings.file, "qcow2", lock=False)
    node.write(2 * CLUSTER, b"y" * CLUSTER)
    node.close()
    return await lab.start(settings, **options)


def test_a_destination_that_reads_what_backs_it_shows_that_it_is_there(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        await waiting(lab, patience=LIVELY)
        stranger = Stranger(lab.folder / "in", describe(lab.folder / "base.img"))
        await asyncio.to_thread(stranger.wait, Type.AGREED)
        assert Type.BUSY in stranger.heard
        assert Type.ZEROS not in stranger.heard, "of an overlay nothing is known to be zeros"
        stranger.close()

    play(scene)


def test_a_source_waits_while_it_is_shown_so(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target, uri = await waiting(lab, patience=LIVELY)
        source = await with_data(lab, patience=LIVELY)
        await source.qmp("migrate-set-parameters", x_qmon_verify_backing="full")
        await moved(source, target, uri)
        assert held(f"{lab.folder}/b.qcow2") == [(2 * CLUSTER, CLUSTER)]

    play(scene)


def test_a_migration_that_takes_the_place_of_one_that_stands_prepared_finds_an_empty_overlay(
    play: Play,
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target, uri = await waiting(lab)
        stranger = Stranger(lab.folder / "in", describe(lab.folder / "base.img"))
        await asyncio.to_thread(stranger.wait, Type.AGREED)
        stranger.finish()
        await asyncio.to_thread(stranger.wait, Type.PREPARED)
        stranger.close()
        await target.wait_migration("device")
        await moved(await with_data(lab), target, uri)
        assert held(f"{lab.folder}/b.qcow2") == [(2 * CLUSTER, CLUSTER)]

    play(scene)
