"""A QEMU that is stuck behind a silent host: yank frees it, past the line that is stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.connections import connected_monitor, words
from tests.support.fake_target import FakePerson
from tests.support.peer import Peer, two_drives
from tests.support.peers import require
from tests.support.waiting import PATIENCE, eventually, is_listened_at


def is_stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped."""
    return all("\nState:\tT" in status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An NBD server on the socket ``nbd``."""
    require("nbdkit")
    socket = tmp_path / "nbd"
    with subprocess.Popen(["nbdkit", "-f", "-U", str(socket), "memory", "1M"]) as process:
        eventually(lambda: is_listened_at(socket), "the server listens")
        yield process
        process.kill()


def test_yank_goes_past_the_line_that_is_stuck(
    program: Sequence[str], server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    remote_drive = ["-drive", f"if=none,id=n0,format=raw,file=nbd+unix:///?socket={tmp_path / 'nbd'}"]

    async def run(qemu: Peer) -> None:
        async with connected_monitor(f"unix:{qemu.qmp_path}") as (_, monitor):
            person = FakePerson()
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.to_thread(eventually, lambda: is_stopped(server.pid), "the server is silent")
            stuck = asyncio.create_task(monitor.run_line('qemu-io n0 "read 0 512"', person))
            await asyncio.sleep(0.3)
            assert not stuck.done(), person.said()
            stuck.cancel()  # Ctrl-C
            assert await monitor.run_line("yank", person)
            listed = person.said().splitlines()
            (node,) = [each for each in listed if each.startswith("block-node ")]
            kind, name = node.split()
            assert (await words(monitor, "yank b"), await words(monitor, "yank block-node ")) == (
                [kind],
                [name],
            )
            assert not await monitor.run_line("yank block-node", person)
            assert person.said().startswith("yank: expected 'migration', 'block-node NAME'")
            assert await monitor.run_line(f"yank {node}", person)
            async with asyncio.timeout(PATIENCE):
                assert await monitor.run_line("info status", person)
            assert person.said() == "VM status: running"

    with Peer(program, tmp_path / "qemu", two_drives, options=remote_drive) as qemu:
        asyncio.run(run(qemu))
