"""A destination that nobody sits at: it never ends in silence, nor by the end of its input alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.images import MIB, blank, drive, filled, same
from tests.support.processes import CHECKOUT, QMON, Lab, Qmon, gone
from tests.support.waiting import PATIENCE, eventually, is_listened_at
from tests.support.wire import Cut, Wire, doubt

SIZE = 4 * MIB
NOT_YET = (
    "qmon: the script ends before the incoming migration has completed:"
    " add -daemonize, a -monitor socket, or 'wait migrate'\n"
)
WAITS = "qmon: the script has ended: qmon waits for the incoming migration, then ends\n"


def destination(folder: Path, *options: str) -> list[str]:
    image = folder / "target.img"
    if not image.exists():
        blank(image, SIZE)
    incoming = ["-incoming", f"unix:{folder / 'in'}"]
    return [*QMON, "-statedir", str(folder / "state"), *drive(image), *incoming, *options]


def start(*command: str) -> subprocess.Popen[str]:
    """Start it with a pipe as its input."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = start(*command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def listens(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until the destination in a folder listens."""
    eventually(lambda: is_listened_at(folder / "in") or process.poll() is not None, "the destination listens")


def partly_there(source: Qmon) -> None:
    def sent() -> bool:
        return source.figures().get("transferred disk", "0 kbytes") != "0 kbytes"

    eventually(sent, "a part of the disk is there")


@pytest.mark.parametrize(
    "redirected",
    ["</dev/null", "<&-", "0>/dev/null", "<&- >&- 2>log", "-c 'info name'", "<<<'info name'"],
)
def test_without_anything_to_control_it_a_destination_says_so(tmp_path: Path, redirected: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'cd "$PLACE"; "$@" {redirected}', "-", *destination(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PLACE": str(tmp_path)},
    )
    said = (tmp_path / "log").read_text() if "log" in redirected else done.stderr
    assert (done.returncode, said, done.stdout) == (1, NOT_YET, "")


@pytest.mark.parametrize(
    ("options", "status"),
    [(["-c", "quit"], 0), (["-c", "nosuch"], 1)],
)
def test_one_that_is_ended_on_purpose_or_for_a_reason_says_nothing_more(
    tmp_path: Path, options: list[str], status: int
) -> None:
    done = subprocess.run(
        destination(tmp_path, *options), capture_output=True, text=True, timeout=PATIENCE, cwd=CHECKOUT
    )
    assert (done.returncode, "migration" in done.stderr) == (status, False)


def test_a_migration_that_has_begun_is_waited_for(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.quietly("migrate_set_parameter max-bandwidth 64k")
    with started(*destination(lab.folder)) as there:
        listens(there, lab.folder)
        source.quietly(f"migrate -d blk unix:{lab.folder / 'in'}")
        partly_there(source)
        assert there.stdin is not None
        assert there.stderr is not None
        there.stdin.close()
        assert there.stderr.readline() == WAITS
        source.quietly("migrate_set_parameter max-bandwidth 0")
        assert there.stderr.read() == ""
        assert there.wait(PATIENCE) == 0
    source.wait_migration("completed")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_one_that_fails_then_ends_it_with_a_reason(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.quietly("migrate_set_parameter max-bandwidth 64k")
    with started(*destination(lab.folder)) as there:
        listens(there, lab.folder)
        source.quietly(f"migrate -d blk unix:{lab.folder / 'in'}")
        partly_there(source)
        assert there.stdin is not None
        assert there.stderr is not None
        there.stdin.close()
        assert there.stderr.readline() == WAITS
        source.quietly("migrate_cancel")
        err = there.stderr.read()
        assert there.wait(PATIENCE) == 1
    assert "the images here are partial" in err
    assert err.endswith(NOT_YET)


def test_a_prepared_destination_waits_for_its_source(lab: Lab) -> None:
    def cut() -> None:
        raise Cut

    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    with started(*destination(lab.folder)) as there:
        listens(there, lab.folder)
        with Wire(lab.folder / "wire", lab.folder / "in", on_go=cut).once():
            source.quietly(f"migrate -d blk unix:{lab.folder / 'wire'}")
            eventually(lambda: "device (" in source.migration(), "the source is in doubt")
        (lab.folder / "wire").unlink()
        assert there.stdin is not None
        assert there.stderr is not None
        there.stdin.close()
        while (line := there.stderr.readline()) != WAITS:
            assert line, "it has ended"
        with Wire(lab.folder / "wire", lab.folder / "in").once():
            source.wait_migration("completed")
        assert there.wait(PATIENCE) == 0
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_side_in_doubt_that_nobody_can_settle_does_not_end_in_silence(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=False)
    for side in (source, target):
        side.kill()
    state = ["-statedir", str(lab.state)]
    for image, why in (
        ("source.img", "the migration is in doubt"),
        ("target.img", "the switchover is under way"),
    ):
        done = subprocess.run(
            [*QMON, *state, *drive(lab.folder / image)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=CHECKOUT,
        )
        assert done.returncode == 1
        assert f"qmon: the script ends while {why}" in done.stderr
    with started(*QMON, *state, *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}") as waiting:
        assert waiting.stdin is not None
        assert waiting.stderr is not None
        waiting.stdin.close()
        while (line := waiting.stderr.readline()) != WAITS:
            assert line, "it has ended"


def test_one_that_serves_its_disks_goes_on_serving_them(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    nbd = lab.folder / "nbd"
    lines = ("-c", f"nbd_server_start unix:{nbd}", "-c", "nbd_server_add -w d0")
    serves = "qmon: the script has ended: qmon serves the disks until a signal ends it\n"
    with started(*destination(lab.folder, *lines)) as there:
        assert there.stderr is not None
        assert there.stderr.readline() == serves
        source.command(f"migrate blk unix:{lab.folder / 'in'}")
        assert source.status() == "paused (postmigrate)"
        with Guest(nbd, "d0") as guest:
            guest.write(0, b"x" * 512)
            guest.flush()
    # it was killed: whoever starts it again need not start it otherwise
    with started(*destination(lab.folder, *lines)) as there:
        assert there.stderr is not None
        assert there.stderr.readline() == serves
        with Guest(nbd, "d0") as guest:
            assert guest.read(0, 512) == b"x" * 512
        there.terminate()
        assert there.communicate(timeout=PATIENCE) == ("", "")
    assert there.returncode == 0


# In the background


def daemon(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = destination(folder, "-daemonize", "-monitor", "none", "-pidfile", str(folder / "pid"), *options)
    with (folder / "err").open("w+") as err:  # no pipe, whose other end the daemon could hold
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=err,
            stderr=err,
            timeout=PATIENCE,
            cwd=CHECKOUT,
            check=False,
        )
    return subprocess.CompletedProcess(done.args, done.returncode, (folder / "err").read_text(), "")


def test_a_daemon_runs_its_lines_and_takes_its_migration_in(lab: Lab) -> None:
    nbd = lab.folder / "nbd"
    lines = ("-c", f"nbd_server_start unix:{nbd}", "-c", "nbd_server_add -w d0", "-c", "info status")
    done = daemon(lab.folder, *lines)
    pid = int((lab.folder / "pid").read_text())
    try:
        assert (done.returncode, done.stdout) == (0, "VM status: paused (inmigrate)\n")
        assert os.getsid(pid) == pid
        source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
        source.command(f"migrate blk unix:{lab.folder / 'in'}")
        assert source.status() == "paused (postmigrate)"
        with Guest(nbd, "d0") as guest:
            assert guest.read(0, 512) == (lab.folder / "source.img").read_bytes()[:512]
        assert not gone(pid)
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: gone(pid), "the daemon ends")


def test_a_daemon_whose_lines_fail_does_not_stay(tmp_path: Path) -> None:
    done = daemon(tmp_path, "-c", "info status", "-c", "nosuch", "-c", "info name")
    assert (done.returncode, done.stdout) == (
        1,
        "VM status: paused (inmigrate)\n-c:2: unknown command: 'nosuch'\n-c:2: failed: nosuch\n",
    )
    assert not (tmp_path / "pid").exists()


def test_a_daemon_that_is_told_to_quit_has_done_what_it_was_asked(tmp_path: Path) -> None:
    assert daemon(tmp_path, "-c", "info status", "-c", "quit").returncode == 0
    assert not (tmp_path / "pid").exists()
