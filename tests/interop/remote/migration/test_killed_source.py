"""The source's QEMU is killed while its guest is moved: its console leaves nothing on this host."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from qmon.remote.address import parse_remote
from qmon.remote.greeting import Patience
from qmon.remote.migration import target as target_module
from qmon.remote.migration.target import MigratingTarget
from qmon.remote.opening import make_remote
from tests.support.ports import free_port
from tests.support.vms import bare_console
from tests.support.vms.pair import Pair
from tests.support.waiting import eventually


def socket_folders() -> list[Path]:
    """The folders with sockets that this process has made."""
    return list(Path(tempfile.gettempdir()).glob(f"qmon-sockets-{os.getpid()}-*"))


async def move_until_killed(pair: Pair, uri: str) -> str:
    """Begin to move the guest from a console in this process, and kill its QEMU; return the status."""
    target = MigratingTarget(make_remote(parse_remote(f"unix:{pair.source.qmp_path}"), Patience()))
    await target.open()
    await target.execute("migrate-set-parameters", {"max-bandwidth": 1 << 16})
    await target.execute("x-qmon-migrate-disks", {"uri": uri})
    await asyncio.to_thread(eventually, socket_folders, "the console makes sockets")
    pair.source.kill()
    await target.ended.wait()
    await target.close()
    return str((await target.execute("query-migrate"))["status"])


def test_a_console_that_leaves_with_its_qemu_removes_its_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    monkeypatch.setattr(target_module, "CLOSE_SECONDS", 0.0)  # it does not give the migration a moment
    uri = f"tcp:127.0.0.1:{free_port()}"
    with Pair(tmp_path / "pair") as pair:
        with bare_console.start("destination", pair.destination.qmp_path, uri) as console:
            assert console.stdout is not None
            assert console.stdout.readline() == "listens\n"
            try:
                assert asyncio.run(move_until_killed(pair, uri)) == "failed"
            finally:
                console.kill()
        assert socket_folders() == []
