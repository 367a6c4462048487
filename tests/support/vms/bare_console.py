"""A console without a person at the QEMU of a guest that moves. It can die at any action.

    python -m tests.support.vms.bare_console destination QMP URI
    python -m tests.support.vms.bare_console source QMP URI [before|after ACTION [SECONDS [PID]]]

QMP is a path, or an address that begins with ``tcp:``.

With an action of the source (``qmon.remote.migration.states``) it kills itself by SIGKILL there, after so
many seconds. A process with a PID is stopped by SIGSTOP first. Its QMP socket then has half a message. With
``-`` for the seconds it lives on, and only stops the other process.
SIGUSR1 cancels the migration.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import qmon.remote.migration.source.source as source_module
from qmon.remote.address import parse_remote
from qmon.remote.greeting import Patience
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.source.actions import Actions
from qmon.remote.migration.states import Action
from qmon.remote.migration.target import MigratingTarget
from qmon.remote.opening import make_remote
from tests.support.processes import CHECKOUT

HALF_A_MESSAGE = b'{"execute": "migrate-continue", "arguments": {"state": "pre-swit'


def start(side: str, qmp: Path | str, uri: str, *words: object) -> subprocess.Popen[str]:
    """Start one; its standard error has what it, or its guardian, says."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, side, str(qmp), uri, *map(str, words)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


_ENDS = ("completed", "failed", "cancelled")


class _Mortal(Actions):
    """Ends this process at one of them."""

    when = ""
    action = ""
    die: Callable[[], None]

    async def do(self, action: Action, phase: Phase) -> None:
        is_here = action.name == self.action
        if is_here and self.when == "before":
            self.die()
        await super().do(action, phase)
        if is_here and self.when == "after":
            self.die()


async def _run(side: str, qmp: str, uri: str, words: list[str]) -> None:
    address = qmp if qmp.startswith("tcp:") else f"unix:{qmp}"
    target = MigratingTarget(make_remote(parse_remote(address), Patience()))
    await target.open()
    if side == "destination":
        await target.execute("x-qmon-migrate-incoming", {"uri": uri})
        print("listens", flush=True)
        await asyncio.Event().wait()
    when, action, seconds, pid = [*words, *("", "", "0", "0")[len(words) :]]

    def die() -> None:
        if int(pid):
            os.kill(int(pid), signal.SIGSTOP)
        if seconds == "-":
            return
        time.sleep(float(seconds))
        sock = target.duplicate()
        assert sock is not None
        sock.send(HALF_A_MESSAGE)
        os.kill(os.getpid(), signal.SIGKILL)

    _Mortal.when, _Mortal.action, _Mortal.die = when, action, staticmethod(die)
    ended = asyncio.Event()
    target.subscribe(lambda event: ended.set() if event.data.get("status") in _ENDS else None)
    await target.execute("x-qmon-migrate-disks", {"uri": uri})
    cancel = partial(target.execute, "migrate_cancel")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: asyncio.create_task(cancel()))
    await ended.wait()
    found = await target.execute("query-migrate")
    print(*(found[key] for key in ("status", "error-desc") if found.get(key)), sep=": ", flush=True)
    await target.close()


if __name__ == "__main__":
    vars(source_module)["Actions"] = _Mortal
    asyncio.run(_run(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
