"""``-hx`` on the command line of a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.images import blank, noise
from tests.support.processes import CHECKOUT, QMON, Lab
from tests.support.waiting import PATIENCE

TABLE = """\
HXCOMM a table as QEMU has it
    {
        .name       = "halt",
        .args_type  = "",
        .params     = "",
        .help       = "stop the machine",
        .cmd        = hmp_stop,
    },
SRST
``halt``
  Stop the machine.
ERST
    {
        .name       = "fly",
        .args_type  = "",
        .params     = "",
        .help       = "leave the ground",
        .cmd        = hmp_fly,
    },
"""


IMPATIENT = """
import sys
from qmon.host import small_file
from qmon.program.cli import main
small_file.PATIENCE_SECONDS = 1.0
sys.exit(main())
"""
"""A qmon that waits for a pipe's data for a second."""


def run(*options: str, program: Sequence[str] = QMON) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *options], cwd=CHECKOUT, input="", capture_output=True, text=True, timeout=3 * PATIENCE
    )


def test_a_given_table_is_what_a_monitor_knows(lab: Lab) -> None:
    (lab.folder / "more.hx").write_text(TABLE)
    (lab.folder / "more-info.hx").write_text(TABLE.replace("halt", "name").replace("stop", "info_version"))
    qmon = lab.start(
        "a", "-name", "web1", "-hx", str(lab.folder / "more.hx"), "-hx", str(lab.folder / "more-info.hx")
    )
    assert qmon.command("help halt") == "halt  -- stop the machine"
    assert "fly  -- leave the ground" in qmon.command("help").splitlines()
    qmon.quietly("halt")
    assert qmon.status() == "paused"
    assert qmon.command("fly") == 'Command "fly" is not available.'
    assert qmon.command("info name") == qmon.command("info version")


def test_a_damaged_table_is_refused_at_the_start(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.hx"
    damaged.write_text(TABLE.replace('"halt",', '"halt"'))
    done = run("-hx", str(damaged))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"qmon: {damaged}:4: expected ',' or '}}', found '.args_type'\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.hx", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "no data within 1 s"),
        ("huge", "it is longer than 1 MiB"),
        ("/dev/zero", "it is longer than 1 MiB"),
    ],
)
def test_a_table_that_can_not_be_read_is_told(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    blank(tmp_path / "huge", 4 << 30)
    done = run("-hx", f"info={tmp_path / name}", program=[sys.executable, "-c", IMPATIENT])
    assert (done.returncode, done.stderr) == (1, f"qmon: -hx {tmp_path / name}: {said}\n")


def test_a_file_that_is_no_table_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(noise(1 << 20))
    done = run("-hx", str(tmp_path / "binary"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"qmon: {tmp_path}/binary:")


def test_a_table_may_come_from_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.hx").write_text(TABLE)
    command = 'exec "$@" -hx <(cat "$0") -c halt -c "info status"'
    done = subprocess.run(
        ["bash", "-c", command, tmp_path / "a.hx", *QMON], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert (done.stdout, done.stderr) == ("VM status: paused\n", "")
