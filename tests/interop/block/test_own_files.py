"""Files that qmon makes or keeps for itself: whose they are, and what else may stand in their place."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qmon.console.history import CommandHistory
from tests.support import peers
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.peers import require
from tests.support.processes import CHECKOUT, QMON, Lab, migrated
from tests.support.runs import one_line, run
from tests.support.waiting import PATIENCE

QEMU = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"]


def in_use(path: Path) -> str:
    why = "Cannot lock pid file: Resource temporarily unavailable"
    return f"cannot create PID file: {why}: '{path}' is in use"


def test_a_pidfile_in_use_is_refused_before_anything_else(lab: Lab) -> None:
    pid = lab.folder / "pid"
    first = lab.start("first", "-pidfile", str(pid))
    assert stat.S_IMODE(pid.stat().st_mode) == 0o600
    assert one_line(run(*drive(lab.folder / "none"), "-pidfile", str(pid))) == in_use(pid)
    assert pid.read_text() == f"{first.process.pid}\n"
    first.kill()
    assert run("-pidfile", str(pid), "-c", "info status").returncode == 0
    assert not pid.exists()


def test_a_pidfile_is_locked_for_qemu_and_by_qemu(lab: Lab) -> None:
    require(QEMU[0])
    pid = lab.folder / "pid"
    ours = lab.start("ours", "-pidfile", str(pid))
    theirs = subprocess.run(
        [*QEMU, "-pidfile", str(pid)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert theirs.returncode == 1
    assert "Cannot lock pid file: Resource temporarily unavailable" in theirs.stderr
    ours.close()
    subprocess.run([*QEMU, "-daemonize", "-pidfile", str(pid)], check=True, timeout=PATIENCE)
    try:
        assert one_line(run("-pidfile", str(pid))) == in_use(pid)
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (link_to("target"), "it is a symbolic link"),
        (link_to("/dev/null"), "it is a symbolic link"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.write_text("a disk"), "it contains something other than a process id"),
    ],
    ids=["link", "link to a device", "folder", "fifo", "file"],
)
def test_a_pidfile_is_nothing_else(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    pid = tmp_path / "pid"
    make(pid)
    before = pid.lstat()
    assert (
        one_line(run("-pidfile", str(pid), "-c", "quit"))
        == f"cannot create PID file: Could not create '{pid}': {why}"
    )
    assert os.path.samestat(before, pid.lstat())
    assert not (tmp_path / "target").exists()
    assert not pid.is_file() or pid.read_text() == "a disk"


def test_a_pidfile_that_is_another_s_by_now_stays(lab: Lab) -> None:
    pid = lab.folder / "pid"
    qmon = lab.start("one", "-pidfile", str(pid))
    pid.unlink()
    pid.write_text("4711\n")
    qmon.close()
    assert pid.read_text() == "4711\n"


def test_what_holds_a_conversation_is_its_owner_s_alone(lab: Lab) -> None:
    names = ("D", "logfile", "transcript", "chardev", "file")
    log, moved, transcript, chardev, file = paths = [lab.folder / f"{name}.log" for name in names]
    monitor = lab.folder / "other"
    qmon = lab.start(
        "one",
        "-D",
        str(log),
        "-chardev",
        f"file,id=f,path={file}",
        "-mon",
        "f",
        "-chardev",
        f"socket,id=s,path={monitor},server=on,wait=off,logfile={chardev}",
        "-mon",
        "s",
    )
    qmon.quietly(f"logfile {moved}")
    qmon.command(f"transcript {transcript}")
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in paths] == ["0o600"] * len(paths)


def test_a_log_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    log.chmod(0o640)
    assert run("-D", str(log), "-c", "info status").returncode == 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o640


# The state folder


def within_mounts(folder: Path, mount: str) -> list[str]:
    """A command before another one, which then sees ``mount`` options on a folder of its own."""
    require("unshare")
    user = [] if os.geteuid() == 0 else ["-r"]
    made = f'mount -t tmpfs -o size=64k none "$0" && {mount} && exec "$@"'
    before = ["unshare", "-m", *user, "bash", "-c", made, str(folder)]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        peers.lack("mount namespaces")
    return before


def a_file(folder: Path) -> list[str]:
    folder.rmdir()
    folder.touch()
    return []


def a_link_to_nothing(folder: Path) -> list[str]:
    folder.rmdir()
    folder.symlink_to("nothing")
    return []


def read_only(folder: Path) -> list[str]:
    return within_mounts(folder, 'mount -o remount,ro "$0"')


def full(folder: Path) -> list[str]:
    return within_mounts(folder, '{ dd if=/dev/zero of="$0/filler" bs=4k status=none || true; } 2>&-')


BLOCKED = [
    (a_file, "Not a directory"),
    (a_link_to_nothing, "No such file or directory"),
    (read_only, "Read-only file system"),
    (full, "No space left on device"),
]


@pytest.mark.parametrize(("block", "why"), BLOCKED, ids=["file", "link", "read-only", "full"])
@pytest.mark.parametrize("below", [False, True])
def test_a_state_folder_that_can_not_be_written_is_told_at_the_start(
    tmp_path: Path, block: Callable[[Path], list[str]], why: str, below: bool
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    before = block(state)
    image = drive(blank(tmp_path / "disk.img", MIB))
    folder = state / "a" / "b" if below else state
    done = subprocess.run(
        [*before, *QMON, *image, "-statedir", str(folder), "-c", "info status"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=CHECKOUT,
    )
    assert (done.returncode, done.stdout) == (0, "VM status: running\n")
    assert done.stderr == (
        f"qmon: migrations will fail, because their records can't be written: {state}: {why};"
        " give another folder with -statedir\n"
    )


def test_a_run_without_a_migration_leaves_no_file_in_the_state_folder(tmp_path: Path) -> None:
    image = drive(blank(tmp_path / "disk.img", MIB))
    done = run(*image, "-statedir", str(tmp_path / "a" / "b"), "-c", "info status")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path for path in (tmp_path / "a").rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("home", [None, "", "relative", "/nonexistent"])
def test_a_home_that_is_none_makes_no_folder(tmp_path: Path, home: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_STATE_HOME")}
    if home is not None:
        environment["HOME"] = home
    done = subprocess.run(
        [*QMON, *drive(blank(tmp_path / "disk.img", MIB)), "-c", "info status"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(CHECKOUT)},
    )
    assert (done.returncode, done.stdout) == (0, "VM status: running\n")
    assert len(done.stderr.splitlines()) <= 1
    assert os.listdir(tmp_path) == ["disk.img"]
    assert home is None or not Path(home or "/.local").exists()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_migration_whose_record_can_not_be_written_has_failed(lab: Lab, side: str) -> None:
    state = lab.folder / "state"
    uri = f"unix:{lab.folder / 'mig'}"
    image, empty = filled(lab.folder / "source.img", MIB), blank(lab.folder / "target.img", MIB)
    options = {side: ["-statedir", str(state)]}
    target = lab.start("target", *drive(empty), "-incoming", uri, *options.get("target", []))
    source = lab.start("source", *drive(image), *options.get("source", []))
    blocked = state / "migration"
    blocked.touch()
    source.quietly(f"migrate -d blk {uri}")
    assert "record can't be written" in source.wait_migration("failed")
    assert source.status() == "running"
    if side == "target":
        assert "record can't be written" in target.wait_migration("failed")
    assert target.status() == "paused (inmigrate)"
    blocked.unlink()
    migrated(source, target, f"migrate -d blk {uri}")
    assert target.status() == "running"
    assert same(image, empty)


RECORDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: path.touch(),
    "noise": lambda path: path.write_bytes(noise(100_000)),
    "nested": lambda path: path.write_text("[" * 60_000),
    "no object": lambda path: path.write_text("[]"),
    "large numbers": lambda path: path.write_text(
        re.sub(r'"number": \d+', '"number": 1e999', path.with_suffix(".before").read_text())
    ),
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_that_is_none_is_told_in_one_line_at_once(lab: Lab, kind: str) -> None:
    source, target, uri = lab.disk_pair(MIB)
    migrated(source, target, f"migrate -d blk {uri}")
    source.kill()
    (record,) = lab.state.glob("migration/source.img.*.source.json")
    record.rename(record.with_suffix(".before"))
    RECORDS[kind](record)
    line = one_line(run(*drive(lab.folder / "source.img"), "-statedir", str(lab.state), "-monitor", "none"))
    assert line.startswith(f"the migration's record {record} ")


@pytest.mark.parametrize(
    "make", [os.mkfifo, link_to("/dev/zero"), Path.mkdir], ids=["fifo", "device", "folder"]
)
def test_a_history_that_is_no_file_keeps_no_prompt_waiting(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "history"
    make(path)
    complaints: list[str] = []
    history = CommandHistory(path, complaints.append)
    assert history.load_history_strings() == []
    history.append_string("stop")
    assert len(complaints) == 1
