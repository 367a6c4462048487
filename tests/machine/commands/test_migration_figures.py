"""The figures of query-migrate: rates, time left, whether it converges, and what stays after the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmon.migration.patience import Patience
from tests.support.embedded_lab import SIZE, EmbeddedLab, LabMachine, Play
from tests.support.guest import Guest
from tests.support.images import KIB, noise

EVENT = "X_QMON_MIGRATION_NOT_CONVERGING"


@contextlib.contextmanager
def writing(path: Path, rate: int) -> Iterator[None]:
    """A guest that writes so many bytes a second, all over the disk, until it is sent away."""
    done = threading.Event()

    def write() -> None:
        with Guest(path, "d0") as guest, contextlib.suppress(OSError, ConnectionError):
            number = 0
            while not done.wait(64 * KIB / rate):
                guest.write(number * 64 * KIB % SIZE, bytes([number % 255 + 1]) * (64 * KIB))
                number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


async def moving(lab: EmbeddedLab, bandwidth: int) -> tuple[LabMachine, LabMachine]:
    """A full disk that moves at a low bandwidth, and an export of it at ``nbd``."""
    uri = f"unix:{lab.folder}/in"
    source = await lab.start(lab.settings(lab.image("a.img", noise(SIZE))), patience=Patience(gain=2))
    target = await lab.start(lab.settings(lab.image("b.img")), incoming=uri)
    await source.export(lab.folder / "nbd", "d0")
    await source.qmp("migrate-set-parameters", max_bandwidth=bandwidth)
    await source.qmp("migrate", uri=uri, blk=True)
    return source, target


async def until(machine: LabMachine, field: str) -> dict[str, Any]:
    """Wait for a field of query-migrate; return all of them."""

    async def has() -> str:
        return str(field in await machine.qmp("query-migrate"))

    await machine.until(has, "True")
    info: dict[str, Any] = await machine.qmp("query-migrate")
    return info


def test_a_copy_that_guests_outrun_says_so_and_what_would_do(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target = await moving(lab, 256 * KIB)
        with writing(lab.folder / "nbd", 2048 * KIB):
            info = await until(source, "x-qmon-not-converging")
            assert "x-qmon-remaining-time" not in info
            assert info["x-qmon-guest-write-rate"] > info["x-qmon-send-rate"] > 0
            advice = info["x-qmon-not-converging"]
            assert advice["parameter"] == "max-bandwidth"
            assert advice["value"] > info["x-qmon-guest-write-rate"]
            [event] = [each for each in source.events if each.name == EVENT]
            assert event.data.items() >= advice.items()
            assert event.data["guest-write-rate"] > event.data["send-rate"] > 0
            [told] = [text for text in caplog.messages if "does not converge" in text]
            assert told.endswith(f"; max-bandwidth {advice['value']} would do")
            await source.qmp("migrate-set-parameters", max_bandwidth=advice["value"])
            await source.wait_migration("completed")
        info = await source.qmp("query-migrate")
        assert "x-qmon-not-converging" not in info
        assert "x-qmon-guest-write-rate" not in info
        await target.wait_status("running")

    play(scene)


def test_a_copy_that_gains_says_when_it_will_be_done(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target = await moving(lab, 128 * KIB)
        assert "x-qmon-remaining-time" not in await source.qmp("query-migrate"), "nothing was measured yet"
        info = await until(source, "x-qmon-remaining-time")
        assert info["x-qmon-peer"] == f"unix:{lab.folder}/in"
        assert info["x-qmon-guest-write-rate"] == 0
        assert 1000 < info["x-qmon-remaining-time"] < 60_000
        await source.qmp("migrate-set-parameters", max_bandwidth=0)
        await source.wait_migration("completed")
        assert "x-qmon-remaining-time" not in await source.qmp("query-migrate")
        await target.wait_status("running")

    play(scene)


def test_the_figures_of_the_disks_stay_after_the_end(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair()
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("completed")
        await target.wait_status("running")
        for side in (source, target):
            info = await side.qmp("query-migrate")
            assert (info["disk"]["remaining"], info["disk"]["total"]) == (0, SIZE)
            [disk] = info["x-qmon-disks"]
            assert disk["transferred"] >= 4 * KIB
            assert {**disk, "transferred": 0} == {
                "drive": "d0",
                "transferred": 0,
                "remaining": 0,
                "total": SIZE,
            }
            assert info["x-qmon-verified"] == "checksums of every record, flushed"

    play(scene)


def test_the_clients_that_were_turned_away_are_counted(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair()
        await source.export(lab.folder / "nbd", "d0")
        off = [{"capability": "x-qmon-forward", "state": False}]
        await source.qmp("migrate-set-capabilities", capabilities=off)
        with await asyncio.to_thread(Guest, lab.folder / "nbd", "d0"):
            await source.qmp("migrate", uri=uri, blk=True)
            await source.wait_migration("completed")
        info = await source.qmp("query-migrate")
        assert info["x-qmon-turned-away"] == [{"export": "d0", "clients": 1}]
        await target.wait_status("running")

    play(scene)


def test_after_a_restart_no_clock_runs(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair()
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("completed")
        await target.wait_status("running")
        await source.close()
        again = await lab.start(lab.settings(lab.folder / "a.img"))
        info = await again.qmp("query-migrate")
        assert info["status"] == "completed"
        assert info["x-qmon-peer"] == uri
        assert "total-time" not in info

    play(scene)
