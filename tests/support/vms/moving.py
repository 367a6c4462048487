"""A guest moved by the announcement's line, typed at two consoles, and judged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.vms.consoles import Consoles
from tests.support.vms.judgement import judge
from tests.support.vms.pair import Pair
from tests.support.waiting import PATIENCE

MOVE_PATIENCE = 4 * PATIENCE


def move(pair: Pair, *, detached: bool = False) -> list[str]:
    """Move the guest of a pair; return a line for all that is wrong.

    ``detached``: by ``migrate -d`` and ``wait migrate``.
    """
    with Consoles(pair) as consoles:
        consoles.wait_listening()
        source, destination = consoles.source, consoles.destination
        destination.type("wait migrate")
        if detached:
            source.type(consoles.line.replace("migrate", "migrate -d"), "wait migrate")
        else:
            source.type(consoles.line)
        for script in (source, destination):
            status = script.wait(MOVE_PATIENCE)
            if status:
                return [f"the console at {script.machine.name} ended with {status}", *_said(consoles)]
    return [*_left_files(consoles), *judge(pair, pair.destination)]


def _left_files(consoles: Consoles) -> list[str]:
    """A line for each folder of sockets that the consoles have not removed."""
    folder = Path(tempfile.gettempdir())
    pids = [script.process.pid for script in (consoles.source, consoles.destination)]
    return [f"{path} is left" for pid in pids for path in folder.glob(f"qmon-sockets-{pid}-*")]


def _said(consoles: Consoles) -> list[str]:
    """What both consoles have printed, a line for each line."""
    scripts = (consoles.source, consoles.destination)
    return [f"{each.machine.name}: {line}" for each in scripts for line in each.printed().splitlines()]
