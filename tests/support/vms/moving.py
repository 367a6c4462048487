"""A guest moved by the announcement's line, typed at two consoles, and judged."""

from __future__ import annotations

from tests.support.vms.consoles import Consoles
from tests.support.vms.judgement import judge
from tests.support.vms.pair import Pair
from tests.support.waiting import PATIENCE

MOVE_PATIENCE = 6 * PATIENCE


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
        problems = []
        for script in (source, destination):
            status = script.wait(MOVE_PATIENCE)
            if status:
                said = "; ".join(script.printed().splitlines())
                problems.append(f"the console at {script.machine.name} ended with {status}: {said}")
    return problems or judge(pair, pair.destination)
