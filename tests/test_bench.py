"""What the benchmarks, and the long checks, do where something is missing: a line says it, no traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ground
from tests.support.waiting import PATIENCE


def run(module: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *options]
    checkout = Path(__file__).parent.parent
    return subprocess.run(
        command,
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("name", ["nbd", "hanging", "beside", "forward", "downtime", "incremental"])
def test_what_can_not_be_measured_without_a_peer_names_it(name: str, tmp_path: Path) -> None:
    done = run(f"bench.{name}", PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nothing measured: ")
    assert done.stdout.endswith(" not installed (tools/install-peers, as root)\n")


@pytest.mark.parametrize(
    ("module", "peer"),
    [
        ("tests.torture.campaign", "qemu-img, socat"),
        ("tests.fuzz.qcow2", "qemu-img, qemu-io"),
        ("tests.fuzz.power_loss", "qemu-img, qemu-io"),
        ("tests.console.scenes", "tmux"),
    ],
)
def test_what_can_not_be_checked_without_a_peer_fails_and_names_it(
    module: str, peer: str, tmp_path: Path
) -> None:
    done = run(module, PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"not installed: {peer} (tools/install-peers, as root)\n"


def test_without_qemu_the_migration_is_measured_all_the_same(tmp_path: Path) -> None:
    done = run("bench.migrate", "--size-mib", "8", "--runs", "1", PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "without QEMU 7.2, migrate -d -b: qemu-system-x86_64 not installed" in done.stdout
    assert re.search(r"^qmon, migrate -d blk +median, s \d", done.stdout, re.MULTILINE)


def test_images_for_which_there_is_no_room_are_refused_before_they_are_made() -> None:
    done = run("bench.sparse", "--held-mib", str(1 << 40))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"no room for images of {3 << 40} MiB, but for ")
    assert done.stderr.count("\n") == 1


def test_images_for_which_memory_has_no_room_go_elsewhere_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ground, "MEMORY", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ground.folder(1) as folder:
        assert folder.parent == tmp_path
    assert f"they are in {tmp_path}" in capsys.readouterr().out
    assert not folder.exists()
