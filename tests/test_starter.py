"""What the tests fork is what a user starts."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import CHECKOUT, QMON
from tests.support.starter import starter
from tests.support.waiting import PATIENCE


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "XDG_STATE_HOME": str(folder / "state")}


def forked(folder: Path, *options: str) -> tuple[int, bytes, bytes]:
    out, err = folder / "out", folder / "err"
    with open(os.devnull, "rb") as nothing, out.open("wb") as said, err.open("wb") as complained:
        streams = [each.fileno() for each in (nothing, said, complained)]
        process = starter().start(options, cwd=folder, streams=streams, environment=environment(folder))
    return process.wait(PATIENCE), out.read_bytes(), err.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["-version"],
        ["-nosuch"],
        ["-name", "ä", "-c", "info name", "-c", "nosuch"],
        ["-script", "lines.hmp"],
        ["-drive", "file=none,format=raw"],
    ],
    ids=" ".join,
)
def test_it_says_and_ends_as_one_that_is_started(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "lines.hmp").write_text("info status\nstop\ninfo status\n")
    started = subprocess.run(
        [*QMON, *options],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert forked(tmp_path, *options) == (started.returncode, started.stdout, started.stderr)


def test_a_signal_ends_it_and_its_streams_with_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with open(os.devnull, "rb") as nothing, open(reader, "rb") as said:
        streams = [nothing.fileno(), writer, writer]
        words = ["-monitor", "none", "-c", "info status", "-c", "wait migrate"]
        process = starter().start(
            ["-qmp", f"unix:{tmp_path / 'qmp'},server,wait=on", *words], cwd=tmp_path, streams=streams
        )
        os.close(writer)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        assert process.poll() is None
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL == process.poll()
        assert b"Traceback" not in said.read()  # and nobody else holds the pipe
