"""What a machine makes of the records it finds: a process may have ended between writing two of them."""

from __future__ import annotations

import os
from uuid import uuid4

import pytest

from qmon.host.paths import state_folder
from qmon.migration import journal as journal_module
from qmon.migration.journal import Entry, Journal
from qmon.migration.phases import Stand
from tests.support.embedded_lab import EmbeddedLab, Play

THIS, OTHER = uuid4().hex, uuid4().hex
NOBODY = "unix:/nonexistent/socket"
ENDED = 1_000_000_000


async def _started(
    lab: EmbeddedLab, records: list[tuple[str, Stand]], incoming: str | None
) -> tuple[str, str]:
    """The machine's and the migration's status of a machine whose drives have these records."""
    journal = Journal(state_folder())
    images = [lab.image(f"d{index}.img") for index in range(len(records))]
    for path, (migration_id, stand) in zip(images, records, strict=True):
        journal.write(Entry(str(path), migration_id, stand, NOBODY))
    drives = [lab.settings(path, path.stem) for path in images]
    machine = await lab.start(*drives, incoming=incoming)
    return await machine.status(), await machine.migration()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "incoming", "expected"),
    [
        ((THIS, Stand.GONE), (THIS, Stand.MOVED), None, ("postmigrate", "completed")),
        ((THIS, Stand.PREPARED), (THIS, Stand.RUNNING), "defer", ("inmigrate", "device")),
        ((THIS, Stand.PREPARED), (THIS, Stand.REFUSED), "defer", ("inmigrate", "device")),
        ((THIS, Stand.PREPARED), (OTHER, Stand.REFUSED), "defer", ("inmigrate", "device")),
        ((THIS, Stand.GONE), (OTHER, Stand.RUNNING), None, ("finish-migrate", "device")),
    ],
)
def test_records_that_were_half_written_are_understood(
    play: Play,
    one: tuple[str, Stand],
    other: tuple[str, Stand],
    incoming: str | None,
    expected: tuple[str, str],
    turned: bool,
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        records = [other, one] if turned else [one, other]
        assert await _started(lab, records, incoming) == expected

    play(scene)


@pytest.mark.parametrize(
    ("stand", "incoming", "side"),
    [(Stand.MOVED, None, "source"), (Stand.SETTLED, "defer", "destination")],
)
def test_a_migration_that_ended_before_a_restart_has_no_running_clock(
    play: Play, stand: Stand, incoming: str | None, side: str
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        image = lab.image("d0.img")
        journal = Journal(state_folder())
        journal.write(Entry(str(image), THIS, stand, NOBODY))
        (record,) = journal.find(str(image))
        os.utime(record.path, (ENDED, ENDED))
        machine = await lab.start(lab.settings(image), incoming=incoming)
        info = await machine.qmp("query-migrate")
        assert (info["status"], info["x-qmon-side"], info["x-qmon-ended"]) == ("completed", side, ENDED)
        assert "total-time" not in info

    play(scene)


def test_what_another_host_recorded_holds_a_machine_back_until_it_is_told_to_run(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        image = lab.image("d0.img")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(journal_module, "this_host", lambda: "elsewhere")
            Journal(state_folder()).write(Entry(str(image), THIS, Stand.MOVED, NOBODY))
        machine = await lab.start(lab.settings(image, "d0"))
        assert await machine.status() == "postmigrate"
        await machine.qmp("x-qmon-migrate-resolve", action="keep")
        assert await machine.status() == "running"
        await machine.close()
        machine = await lab.start(lab.settings(image, "d0"))
        assert await machine.status() == "running"

    play(scene)
