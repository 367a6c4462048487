"""A migration into a command or a file is a backup. Reading it is the restore, which is verified."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, gone
from tests.support.waiting import eventually

SIZE = 3 * MIB + 512


def backed_up(lab: Lab, uri: str, mode: str = "blk") -> Qmon:
    """A machine that has written its disk to ``uri``, and stands still."""
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)))
    source.quietly(f'migrate -d {mode} "{uri}"')
    source.wait_migration("completed")
    source.wait_status("paused (postmigrate)")
    return source


def restored(lab: Lab, uri: str, name: str = "target") -> Qmon:
    """A machine that is told to read its disk from ``uri``."""
    return lab.start(name, *drive(blank(lab.folder / f"{name}.img", SIZE)), "-incoming", uri)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("exec:gzip > {}", "exec:gunzip < {}"),
        ("exec:cat | zstd -q > {}", "exec:zstd -d < {} | cat"),
        ("file:{}", "file:{}"),
        ("file:{}", "exec:cat {}"),
        ("file:{},offset=64k", "file:{},offset=0x10000"),
    ],
)
def test_a_backup_is_restored(lab: Lab, there: str, back: str) -> None:
    require(*(name for name in ("gzip", "zstd") if name in there))
    place = lab.folder / "disk.qmon"
    source = backed_up(lab, there.format(place))
    target = restored(lab, back.format(place))
    target.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "a.img", lab.folder / "target.img")
    assert "unconfirmed" in source.command("info migrate")


def test_cont_continues_here_with_a_warning_and_a_guest_has_only_waited(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)))
    source.export("d0")
    with source.guest() as guest:
        source.quietly(f"migrate -d blk file:{lab.folder}/disk.qmon")
        source.wait_migration("completed")
        assert "and 1 client waits. 'cont' continues it here" in source.command("info migrate")
        uri = f"file:{lab.folder}/disk.qmon,offset=1k"
        lost = (lab.folder / "disk.qmon").stat().st_size - 1024
        assert source.qmp("x-qmon-query-migrate-file", uri=uri)["lost"] == lost
        assert "nobody has confirmed the migration" in source.command("cont")
        source.wait_log("nobody has confirmed the migration")
        assert source.status() == "running"
        guest.write(0, b"x" * 512)
    assert source.migration() == "completed"
    source.quietly(f"migrate -d blk file:{lab.folder}/again.qmon")
    source.wait_migration("completed")


def test_after_a_restart_the_machine_stays_paused_until_cont(lab: Lab) -> None:
    source = backed_up(lab, f"file:{lab.folder}/disk.qmon")
    source.close()
    again = lab.start("again", *drive(lab.folder / "a.img"))
    assert again.status() == "paused (postmigrate)"
    again.command("cont")
    assert again.status() == "running"
    again.close()
    assert lab.start("third", *drive(lab.folder / "a.img")).status() == "running"


Damage = Callable[[bytes], bytes]


def _flipped(data: bytes) -> bytes:
    """With one bit of the disk's data changed; the records' heads have other errors."""
    where = data.index(noise(SIZE)[2 * MIB + 50_000 :][:64])
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


@pytest.mark.parametrize(
    ("damage", "said", "is_damaged"),
    [
        (lambda data: data[:-1], "the stream is cut off: it ends before its last record", True),
        (lambda data: data[: len(data) // 2], "the stream is cut off: it ends before its last record", True),
        (_flipped, "checksum mismatch in record", True),
        (lambda data: data + data, "more bytes after the end", True),
        (lambda data: b"", "the connection ended before a migration was offered", False),
        (lambda data: b"\x7fELF" + data, "not a valid migration stream at byte 0", False),
    ],
)
def test_a_damaged_backup_is_refused_and_nothing_runs(
    lab: Lab, damage: Damage, said: str, *, is_damaged: bool
) -> None:
    place = lab.folder / "disk.qmon"
    backed_up(lab, f"file:{place}")
    place.write_bytes(damage(place.read_bytes()))
    for name, uri in (("target", f"file:{place}"), ("other", f"exec:cat {place}")):
        target = restored(lab, uri, name)
        why = target.wait_migration("failed")
        assert said in why
        advice = "the backup is damaged: 'migrate_incoming URI' takes another"
        assert (advice in why) is is_damaged
        assert target.status() == "paused (inmigrate)"
        assert "Traceback" not in target.log()


def test_a_partial_image_is_named_and_the_whole_backup_can_be_read_afterwards(lab: Lab) -> None:
    place, cut = lab.folder / "disk.qmon", lab.folder / "cut.qmon"
    backed_up(lab, f"file:{place}")
    cut.write_bytes(place.read_bytes()[: 2 * MIB])
    target = restored(lab, f"file:{cut}")
    assert "the images here are partial" in target.wait_migration("failed")
    target.quietly(f"migrate_incoming file:{place}")
    target.wait_migration("completed")
    assert same(lab.folder / "a.img", lab.folder / "target.img")


@pytest.mark.parametrize(
    ("packer", "unpacker"),
    [("gzip", "gunzip"), ("zstd", "zstd -d"), ("xz", "xz -d"), ("bzip2", "bunzip2")],
)
def test_a_compressed_backup_that_is_read_raw_is_named_with_what_unpacks_it(
    lab: Lab, packer: str, unpacker: str
) -> None:
    require(packer)
    place = lab.folder / "disk.qmon"
    backed_up(lab, f"exec:{packer} > {place}")
    target = restored(lab, f"file:{place}")
    said = f'it is compressed by {packer}: -incoming "exec:{unpacker} < FILE" unpacks it'
    assert said in target.wait_migration("failed")
    target.quietly(f'migrate_incoming "exec:{unpacker} < {place}"')
    target.wait_migration("completed")


def test_a_restore_says_that_it_overwrites_an_image_with_data(lab: Lab) -> None:
    place = lab.folder / "disk.qmon"
    backed_up(lab, f"file:{place}")
    filled(lab.folder / "target.img", SIZE, 9)
    target = lab.start("target", *drive(lab.folder / "target.img"), "-incoming", f"file:{place}")
    target.wait_migration("completed")
    target.wait_log("drive 'd0': its image is not empty, and is overwritten")
    assert same(lab.folder / "a.img", lab.folder / "target.img")


def test_a_command_that_fails_to_restore_says_why(lab: Lab) -> None:
    target = restored(lab, f"exec:gunzip < {lab.folder}/none.qmon")
    # the status and the words are those of the shell
    why = target.wait_migration("failed")
    assert re.search(r"the command has ended with status [12]: .*none\.qmon", why), why


def test_what_a_command_writes_counts_only_if_it_ends_well(lab: Lab) -> None:
    place = lab.folder / "disk.qmon"
    backed_up(lab, f"file:{place}")
    target = restored(lab, f"exec:cat {place}; echo it is not so >&2; exit 3")
    assert "the command has ended with status 3: it is not so" in target.wait_migration("failed")
    assert target.status() == "paused (inmigrate)"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo no room >&2; exit 5", "the command has ended with status 5: no room"),
        ("head -c 1000000 >/dev/null; kill -9 $$", "the command was ended by SIGKILL"),
        ("nosuchcommand", "not found"),
        ("head -c 1000000 >/dev/null", "the command reads no more, before all was sent"),
        ("cat", "exec:cat answers as a migration server, not as a migration destination"),
        (r"printf '\033[31mred' >&2; exit 1", r"status 1: \x1b[31mred"),
    ],
)
def test_a_command_that_fails_leaves_the_source_running(lab: Lab, command: str, said: str) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)))
    source.quietly("migrate -d blk " + '"exec:' + command.replace("\\", "\\\\") + '"')
    assert said in source.wait_migration("failed")
    assert source.status() == "running"
    eventually(lambda: children(source) == [], "the command has ended")


def children(qmon: Qmon) -> list[int]:
    """The child processes of a qmon, ended ones too."""
    found: list[int] = []
    for task in Path(f"/proc/{qmon.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has just ended
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def test_a_cancel_ends_the_command_and_its_own_children(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)))
    pids = lab.folder / "pids"
    source.quietly("migrate_set_parameter max-bandwidth 64k")
    source.quietly(f"migrate -d blk \"exec:trap '' TERM; echo $$ > {pids}; cat > /dev/null | sleep 1000\"")
    eventually(lambda: source.migration() == "active", "the copy has begun")
    eventually(lambda: pids.exists() and pids.read_text().endswith("\n"), "the command has begun")
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    assert source.status() == "running"
    leader = int(pids.read_text())
    eventually(lambda: children(source) == [] and gone(leader), "the command has ended")


def test_a_full_disk_fails_the_migration_and_the_guest_runs_on(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)))
    source.quietly('migrate -d blk "exec:cat > /dev/full"')
    assert "No space left on device" in source.wait_migration("failed")
    assert source.status() == "running"


def test_a_limited_file_fails_the_migration_and_the_guest_runs_on(lab: Lab) -> None:
    limited = ["sh", "-c", 'ulimit -f 2048; exec "$@"', "sh"]
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)), within=limited)
    source.quietly(f"migrate -d blk file:{lab.folder}/disk.qmon")
    assert "the file can't be written: File too large" in source.wait_migration("failed")
    assert source.status() == "running"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:{0}/none/x", "Could not create '{0}/none/x': No such file or directory"),
        ("file:{0}", "Could not create '{0}': Is a directory"),
        ("file:/dev/null,offset=4k", "failed to truncate migration file to offset 4096: Invalid argument"),
        ("file:{0}/a.img", "Could not create '{0}/a.img': it is a disk image in use"),
        ("file:{0}/x,offset=zz", "file URI has bad offset zz: Invalid argument"),
        ("fd:none", "File descriptor named 'none' has not been found"),
        ("fd:77", "File descriptor named '77' has not been found"),
        ("fd:", "invalid file descriptor address"),
        ("rdma:host:1", "Migration by 'rdma:' is not supported: use tcp:HOST:PORT or unix:PATH"),
    ],
)
def test_what_can_t_be_written_to_is_refused(lab: Lab, uri: str, said: str) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)))
    said = said.format(lab.folder)
    answer = source.command(f"migrate -d blk {uri.format(lab.folder)}")
    assert said in (answer or source.wait_migration("failed"))
    assert source.status() == "running"
    assert (lab.folder / "a.img").read_bytes() == noise(SIZE)


def test_what_is_behind_the_offset_is_cut_off_and_what_is_before_it_stays(lab: Lab) -> None:
    place = filled(lab.folder / "disk.qmon", 8 * MIB, 7)
    source = backed_up(lab, f"file:{place},offset=4096")
    source.close()
    assert place.read_bytes()[:4096] == noise(8 * MIB, 7)[:4096]
    assert os.stat(place).st_size < 4 * MIB
    restored(lab, f"file:{place},offset=4k").wait_migration("completed")


def test_an_incremental_backup_needs_the_same_backing_image(lab: Lab) -> None:
    require("qemu-img")
    base = filled(lab.folder / "base.img", SIZE)
    other = filled(lab.folder / "other.img", SIZE, 2)
    layers = {name: lab.folder / f"{name}.qcow2" for name in ("here", "there", "wrong")}
    for name, path in layers.items():
        backing = other if name == "wrong" else base
        os.system(f"qemu-img create -q -f qcow2 -F raw -b {backing} {path}")
    options = [
        f"file={layers['here']},id=d0,format=qcow2,if=none",
        f"file={layers['there']},id=d0,format=qcow2,if=none",
        f"file={layers['wrong']},id=d0,format=qcow2,if=none",
    ]
    source = lab.start("source", "-drive", options[0])
    source.command('qemu-io d0 "write -P 7 64k 64k"')
    source.quietly(f'migrate -d inc "exec:gzip > {lab.folder}/inc.qmon"')
    source.wait_migration("completed")
    source.close()
    assert os.stat(lab.folder / "inc.qmon").st_size < MIB
    back = f"exec:gunzip < {lab.folder}/inc.qmon"
    wrong = lab.start("wrong", "-drive", options[2], "-incoming", back)
    assert "the backing image of drive 'd0' differs" in wrong.wait_migration("failed")
    right = lab.start("right", "-drive", options[1], "-incoming", back)
    right.wait_migration("completed")
    assert "64 KiB" in right.command('qemu-io d0 "read -v -P 7 64k 64k"') or right.status() == "running"
    assert right.command('qemu-io d0 "read -P 7 64k 64k"').count("verification failed") == 0


CD = 16 * MIB
"""Of which only samples are compared before data travel."""


def backed_up_with_cd(lab: Lab, place: Path, mode: str = "blk") -> Qmon:
    """A machine that has written its disk, and perhaps its CD-ROM, to a file."""
    disk, cd = filled(lab.folder / "a.img", SIZE), filled(lab.folder / "a.iso", CD, 2)
    source = lab.start("source", *drive(disk), *drive(cd, "cd0", readonly="on"))
    source.quietly(f'migrate -d {mode} "file:{place}"')
    source.wait_migration("completed")
    return source


def restored_with_cd(lab: Lab, place: Path, cd: Path, **more: str) -> Qmon:
    disk = blank(lab.folder / "target.img", SIZE)
    return lab.start("target", *drive(disk), *drive(cd, "cd0", **more), "-incoming", f"file:{place}")


@pytest.mark.parametrize("there", ["nothing", "the same", "something else, writable"])
def test_a_read_only_drive_is_in_a_full_backup(lab: Lab, there: str) -> None:
    place, cd = lab.folder / "disk.qmon", lab.folder / "b.iso"
    backed_up_with_cd(lab, place)
    match there:
        case "nothing":
            blank(cd, CD)
        case "the same":
            filled(cd, CD, 2)
        case _:
            filled(cd, CD, 3)
    more = {} if "writable" in there else {"readonly": "on"}
    target = restored_with_cd(lab, place, cd, **more)
    target.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "a.iso", cd)
    assert same(lab.folder / "a.img", lab.folder / "target.img")
    assert ("read-only" in target.command("info block cd0")) is bool(more)


def test_a_read_only_drive_is_compared_with_all_of_the_stream(lab: Lab) -> None:
    place, cd = lab.folder / "disk.qmon", filled(lab.folder / "b.iso", CD, 2)
    backed_up_with_cd(lab, place)
    with cd.open("r+b") as file:
        file.seek(CD // 2 + 77)
        file.write(bytes([noise(CD, 2)[CD // 2 + 77] ^ 1]))
    target = restored_with_cd(lab, place, cd, readonly="on")
    why = target.wait_migration("failed")
    assert "read-only drive 'cd0' differs" in why
    assert "an empty" in why
    assert target.status() == "paused (inmigrate)"


def test_an_incremental_backup_names_the_image_that_its_restore_needs(lab: Lab) -> None:
    place, cd = lab.folder / "disk.qmon", blank(lab.folder / "b.iso", CD)
    source = backed_up_with_cd(lab, place, "blk inc")
    assert place.stat().st_size < CD
    source.wait_log(
        "read-only drive 'cd0' is not in a stream of blk inc, only its checksums: to read it, the"
    )
    target = restored_with_cd(lab, place, cd, readonly="on")
    assert f"copy the source's image '{lab.folder}/a.iso' here first" in target.wait_migration("failed")
    cd.write_bytes(noise(CD, 2))
    target.quietly(f"migrate_incoming file:{place}")
    target.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "a.img", lab.folder / "target.img")
