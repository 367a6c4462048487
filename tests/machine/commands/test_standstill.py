"""A switchover that takes too long, at the machine's edge: who goes on, and what a destination takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from qmon.migration.patience import Patience
from qmon.migration.wire.answers import AnswerReader, Type
from qmon.migration.wire.offer import DriveOffer, Mode, Offer
from qmon.migration.wire.stream import PREAMBLE, go, section_end, section_footer, section_part, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support.embedded_lab import SIZE, EmbeddedLab, LabMachine, Play
from tests.support.waiting import connected

ID = UUID(int=7)


class Stranger:
    """A source that does by hand what it is told; its calls block."""

    def __init__(self, path: Path) -> None:
        self._socket = connected(path)
        self._socket.settimeout(20)
        self._answers = AnswerReader()
        self.heard: list[Type] = []
        self.why = ""
        self.digest = 0
        self.writer = RecordWriter()
        self.writer.raw(PREAMBLE + section_start())
        self.writer.hello(Offer(ID, Mode.FULL, (DriveOffer("d0", SIZE, False, None),)).encode())
        self.end_part()

    def end_part(self) -> None:
        self.writer.end()
        self.writer.raw(section_footer())
        self.send()

    def send(self) -> None:
        self._socket.sendall(b"".join(self.writer.buffers))
        self.writer.clear()

    def finish(self) -> None:
        self.writer.raw(section_end())
        self.digest = self.writer.finish(True)[1]
        self.end_part()

    def go_back(self, *pieces: tuple[int, bytes]) -> None:
        self.writer.raw(section_part())
        self.writer.back()
        self.add(*pieces)

    def go_on(self, *pieces: tuple[int, bytes]) -> None:
        self.writer.raw(section_part())
        self.add(*pieces)

    def add(self, *pieces: tuple[int, bytes]) -> None:
        for offset, piece in pieces:
            self.writer.data(0, offset, memoryview(piece))
        self.end_part()

    def hear(self, wanted: Type) -> None:
        """Wait for an answer; forget those before it."""
        while wanted not in self.heard:
            data = self._socket.recv(1 << 16)
            assert data, self.heard
            for answer in self._answers.feed(data):
                self.heard.append(answer.type)
                self.why = answer.text if answer.type is Type.REFUSED else self.why
        del self.heard[: self.heard.index(wanted) + 1]

    def close(self) -> None:
        self._socket.close()


async def prepared(lab: EmbeddedLab) -> tuple[LabMachine, Stranger]:
    """A destination that has been brought everything, and who did so."""
    target = await lab.start(lab.settings(lab.image("b.img")), incoming=f"unix:{lab.folder}/in")
    stranger = await asyncio.to_thread(Stranger, lab.folder / "in")
    await asyncio.to_thread(stranger.hear, Type.AGREED)
    stranger.finish()
    await asyncio.to_thread(stranger.hear, Type.PREPARED)
    await target.wait_migration("device")
    return target, stranger


def test_a_source_may_go_back_and_bring_more(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target, stranger = await prepared(lab)
        for number in (1, 2):
            stranger.go_back((number * 4096, b"x" * 512))
            await asyncio.to_thread(stranger.hear, Type.BACK)
            await target.wait_migration("active")
            stranger.finish()
            await asyncio.to_thread(stranger.hear, Type.PREPARED)
        stranger.writer.raw(go(ID.bytes, stranger.digest))
        stranger.send()
        await asyncio.to_thread(stranger.hear, Type.RUNNING)
        stranger.close()
        await target.wait_status("running")
        await target.close()
        content = (lab.folder / "b.img").read_bytes()
        assert content[4096 : 4096 + 512] == content[8192 : 8192 + 512] == b"x" * 512

    play(scene)


def test_the_digest_of_before_runs_nothing_once_the_source_has_gone_back(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target, stranger = await prepared(lab)
        before = stranger.digest
        stranger.go_back((0, b"x" * 512))
        await asyncio.to_thread(stranger.hear, Type.BACK)
        stranger.finish()
        await asyncio.to_thread(stranger.hear, Type.PREPARED)
        stranger.writer.raw(go(ID.bytes, before))
        stranger.send()
        await target.wait_migration("device", "failed")
        stranger.close()
        assert await target.status() == "inmigrate"

    play(scene)


@pytest.mark.parametrize("action", ["keep", "release"])
def test_a_source_that_goes_back_is_refused_where_somebody_has_decided(play: Play, action: str) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target, stranger = await prepared(lab)
        await target.qmp("x-qmon-migrate-resolve", action=action)
        stranger.go_back((0, b"x" * 512))
        await asyncio.to_thread(stranger.hear, Type.REFUSED)
        stranger.close()
        assert stranger.why == "the source continues, but an operator has resolved the migration here"
        assert await target.status() == ("running" if action == "keep" else "inmigrate")
        await target.close()
        assert (lab.folder / "b.img").read_bytes() == bytes(SIZE)

    play(scene)


def test_what_was_sent_and_not_applied_is_found_before_the_destination_is_prepared(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target = await lab.start(lab.settings(lab.image("b.img")), incoming=f"unix:{lab.folder}/in")
        stranger = await asyncio.to_thread(Stranger, lab.folder / "in")
        await asyncio.to_thread(stranger.hear, Type.AGREED)
        stranger.go_on((0, b"x" * 512))
        stranger.writer.chains.add(0, 4096, 512, 1)
        stranger.finish()
        await asyncio.to_thread(stranger.hear, Type.REFUSED)
        stranger.close()
        assert stranger.why == (
            "what was written to the drives here differs from what the source has sent: migrate again"
        )
        await target.wait_migration("failed")
        assert await target.status() == "inmigrate"

    play(scene)


def test_a_source_that_never_finished_can_not_go_back(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        target = await lab.start(lab.settings(lab.image("b.img")), incoming=f"unix:{lab.folder}/in")
        stranger = await asyncio.to_thread(Stranger, lab.folder / "in")
        stranger.writer.raw(section_end())
        stranger.end_part()
        stranger.go_back()
        await asyncio.to_thread(stranger.hear, Type.REFUSED)
        stranger.close()
        assert stranger.why == "not a valid migration stream: BACK came without FINISH"
        await target.wait_migration("failed")

    play(scene)


def test_a_request_that_does_not_finish_keeps_the_other_guests_waiting_for_a_while_only(
    play: Play,
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        uri = f"unix:{lab.folder}/in"
        settings = [
            [lab.settings(lab.image(f"{side}.{name}", b"data" * (SIZE // 4)), name) for name in ("d0", "d1")]
            for side in "ab"
        ]
        source = await lab.start(*settings[0], patience=Patience(margin=0.5))
        target = await lab.start(*settings[1], incoming=uri)
        await source.qmp("migrate-set-parameters", max_bandwidth=1 << 20)
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("active")

        async def overdue() -> str:
            return str((await source.qmp("query-migrate")).get("x-qmon-overdue-switchovers"))

        drives = source.embedded._machine.drives
        hanging = drives["d1"].gate
        hanging.enter()
        try:
            await source.qmp("migrate-set-parameters", max_bandwidth=0)
            await source.until(overdue, "1")
            assert await source.migration() == "active"
            assert await source.status() == "running"
            assert all(drive.gate.is_open for drive in drives.values())
        finally:
            hanging.leave()
        await source.wait_migration("completed")
        await target.wait_status("running")
        assert source.told == ["setup", "active", "STOP", "device", "completed"]

    play(scene)
