"""Records: whose they are, which image they are of, and what is in their folder besides."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from qmon.migration import journal as journal_module
from qmon.migration.journal import Entry, Journal, JournalError, counts
from qmon.migration.phases import Role, Stand

PEER = "tcp:192.0.2.1:4444"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(8192))
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have this process be on a host."""

    def move(host: str) -> None:
        monkeypatch.setattr(journal_module, "this_host", lambda: host)

    return move


def stands(journal: Journal, image: Path) -> list[tuple[str, Stand]]:
    return [(record.host, record.entry.stand) for record in journal.find(str(image))]


def entry(image: Path, stand: Stand, migration: UUID | None = None) -> Entry:
    return Entry(str(image), (migration or uuid4()).hex, stand, PEER, 7, False)


def test_a_command_that_another_user_has_recorded_is_not_run(journal: Journal, image: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    journal.write(replace(entry(image, Stand.GONE), peer="exec:ssh there"))
    assert len(journal.find(str(image))) == 1
    (record,) = journal.find(str(image))
    os.chown(record.path, 65534, -1)
    with pytest.raises(JournalError, match="names a command, and belongs to another user"):
        journal.find(str(image))


def test_what_was_written_is_found(journal: Journal, image: Path) -> None:
    written = entry(image, Stand.GONE)
    journal.write(written)
    (record,) = journal.find(str(image))
    assert record.entry == written
    assert record.is_own
    assert not record.has_changed


def test_a_host_neither_changes_nor_removes_what_another_wrote(
    journal: Journal, image: Path, on: Callable[[str], None]
) -> None:
    on("here")
    moved = entry(image, Stand.MOVED)
    journal.write(moved)
    on("there")
    for stand in (Stand.PREPARED, Stand.RUNNING, Stand.GONE):
        journal.write(entry(image, stand))
        assert ("here", Stand.MOVED) in stands(journal, image)
    journal.forget(moved.id, Role.SOURCE)
    assert ("here", Stand.MOVED) in stands(journal, image)
    on("here")
    journal.forget(moved.id, Role.SOURCE)
    assert ("here", Stand.MOVED) not in stands(journal, image)


def test_this_hosts_own_records_count_first_and_then_those_of_others(
    journal: Journal, image: Path, on: Callable[[str], None]
) -> None:
    on("here")
    journal.write(entry(image, Stand.MOVED))
    on("there")
    record = counts(journal.find(str(image)), may_come_in=False)
    assert record is not None
    assert (record.host, record.entry.stand) == ("here", Stand.MOVED)
    journal.write(entry(image, Stand.PREPARED))
    record = counts(journal.find(str(image)), may_come_in=False)
    assert record is not None
    assert (record.host, record.entry.stand) == ("there", Stand.PREPARED)


@pytest.mark.parametrize(
    ("stand", "shared", "holds"),
    [
        (Stand.GONE, True, True),
        (Stand.MOVED, True, True),
        (Stand.PREPARED, False, True),
        (Stand.PREPARED, True, False),
        (Stand.RUNNING, True, False),
        (Stand.RUNNING, False, False),
        (Stand.SETTLED, True, False),
        (Stand.REFUSED, True, False),
    ],
)
@pytest.mark.parametrize("may_come_in", [False, True])
def test_another_host_is_held_back_and_never_told_to_run(
    journal: Journal,
    image: Path,
    on: Callable[[str], None],
    stand: Stand,
    shared: bool,
    holds: bool,
    may_come_in: bool,
) -> None:
    on("there")
    journal.write(replace(entry(image, stand), shared=shared))
    on("here")
    assert (counts(journal.find(str(image)), may_come_in=may_come_in) is not None) is holds


@pytest.mark.parametrize("may_come_in", [False, True])
def test_what_a_later_migration_ended_counts_no_more(
    journal: Journal, image: Path, may_come_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may have ended before it removed what the later record ends."""
    monkeypatch.setattr(Journal, "_remove", lambda journal, record: None)
    for stand in (Stand.MOVED, Stand.RUNNING, Stand.GONE):
        journal.write(entry(image, stand))
        record = counts(journal.find(str(image)), may_come_in=may_come_in)
        assert record is not None
        assert record.entry.stand is stand


def test_a_machine_that_ran_is_remembered_until_its_source_has_heard_it(
    journal: Journal, image: Path
) -> None:
    ran = entry(image, Stand.RUNNING)
    journal.write(ran)
    journal.write(entry(image, Stand.GONE))
    assert journal.of_migration(ran.id, Role.DESTINATION)
    journal.write(entry(image, Stand.SETTLED, ran.id))
    journal.write(entry(image, Stand.GONE))
    assert not journal.of_migration(ran.id, Role.DESTINATION)


@pytest.mark.parametrize(("stand", "is_found"), [(Stand.PREPARED, False), (Stand.MOVED, True)])
def test_a_copy_that_was_written_in_the_same_tick_of_the_clock(
    journal: Journal, image: Path, stand: Stand, is_found: bool
) -> None:
    """A source and a destination on one host, that last wrote within a tick: equal in contents and time."""
    journal.write(entry(image, stand))
    written = image.stat().st_mtime_ns
    other = image.with_name("other.img")
    other.write_bytes(image.read_bytes())
    os.utime(other, ns=(written, written))
    assert bool(journal.find(str(other))) is is_found
    assert journal.find(str(image))
    image.unlink()  # so this was the image, moved to another file system
    assert journal.find(str(other))


def test_an_image_that_was_written_since_is_noticed(journal: Journal, image: Path) -> None:
    journal.write(entry(image, Stand.GONE))
    with image.open("r+b") as file:
        file.write(b"more")
    (record,) = journal.find(str(image))
    assert record.has_changed


def test_records_of_many_images_at_once_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    images = [tmp_path / f"disk{number}.img" for number in range(20)]
    for each in images:
        each.write_bytes(os.urandom(8192))
    together, alone = Journal(tmp_path / "together"), Journal(tmp_path / "alone")
    first, second = uuid4(), uuid4()
    for stand, migration, some in (
        (Stand.PREPARED, first, images[:15]),
        (Stand.RUNNING, first, images[:10]),
        (Stand.GONE, second, images[5:]),
        (Stand.MOVED, second, images[8:]),
    ):
        entries = [entry(each, stand, migration) for each in some]
        together.write(*entries)
        for one in entries:
            alone.write(one)
    for each in images:
        assert stands(together, each) == stands(alone, each)
        assert [record.number for record in together.find(str(each))] == [
            record.number for record in alone.find(str(each))
        ]
    assert not list(tmp_path.glob("**/*.new"))


def test_of_records_that_can_not_be_written_nothing_is_left(
    journal: Journal, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = image.with_name("other.img")
    other.write_bytes(os.urandom(8192))
    before = entry(image, Stand.GONE)
    journal.write(before)
    (record,) = journal.find(str(image))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match=r"can't be written to .*\.json: No space left on device"):
        journal.write(entry(other, Stand.MOVED, before.id), entry(image, Stand.MOVED, before.id))
    assert os.listdir(record.path.parent) == [record.path.name]
    assert stands(journal, image) == [(record.host, Stand.GONE)]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(path))


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    return write


@pytest.mark.parametrize(
    "make",
    [
        fifo,
        folder,
        link,
        listener,
        *map(text, ("", "{", "[]", "[" * 50_000, "\u00e9", json.dumps({"file": {}}), " " * (1 << 20))),
    ],
    ids=lambda make: getattr(make, "__qualname__", "?"),
)
def test_what_is_no_record_is_named_in_one_line(
    journal: Journal, image: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.write(entry(image, Stand.MOVED))
    (record,) = journal.find(str(image))
    record.path.unlink()
    monkeypatch.chdir(record.path.parent)  # a socket's path may not be long
    make(record.path)
    with pytest.raises(JournalError) as caught:
        journal.find(str(image))
    assert str(record.path) in str(caught.value)
    assert "\n" not in str(caught.value)
