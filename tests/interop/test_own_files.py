"""Files that qmon makes or keeps for itself: whose they are, and what else may stand in their place."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.peers import require
from tests.interop.processes import MIB, PATIENCE, QMON, Lab, blank, drive
from tests.interop.test_cli import one_line, run

QEMU = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"]


def in_use(path: Path) -> str:
    return f"cannot create PID file: Cannot lock pid file: Resource temporarily unavailable: '{path}' is in use"


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
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.write_text("a disk"), "it holds something else than a process id"),
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
        *("-D", str(log), "-chardev", f"file,id=f,path={file}", "-mon", "f"),
        *("-chardev", f"socket,id=s,path={monitor},server=on,wait=off,logfile={chardev}", "-mon", "s"),
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
