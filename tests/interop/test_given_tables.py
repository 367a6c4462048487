"""``-hx`` on the command line of a real process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.interop.processes import CHECKOUT, QMON, Lab

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


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*QMON, *options], cwd=CHECKOUT, input="", capture_output=True, text=True, timeout=60
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


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run("-hx", f"info={tmp_path}/none.hx")
    assert (done.returncode, done.stderr) == (1, f"qmon: {tmp_path}/none.hx: No such file or directory\n")
