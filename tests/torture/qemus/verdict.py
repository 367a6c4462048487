"""What is promised of the end of a run: each function returns a line for all that is not as promised."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

from tests.support.vms.boot_sector import said
from tests.support.vms.disks import RAW
from tests.support.vms.judgement import judge, wrong_disks
from tests.support.vms.machine import Machine, Version
from tests.torture.qemus.scenario import DESTINATION, SOURCE
from tests.torture.qemus.stage import Stage
from tests.torture.qemus.watch import both_ran

WAIT_SECONDS = 5.0
"""How long a destination's QEMU may take to see that no more memory comes."""

_KEPT = re.compile(r"destination: (capability|object qmon-migration) ")
"""What stays in a QEMU that is used up: the record, which keeps a later console from running the guest."""

_KEPT_WAITING = re.compile(r"destination: ")
"""It may wait for more memory for ever where the source's console has died: nobody tells it."""

_LEAKED = re.compile(r"source: node #block\d+ is left")
"""QEMU 7.2 keeps the filter of a mirror that fails while the migration stops the guest; it asserts later."""

_STAYED = "The guest runs on here"

_NEVER_PRINTED = re.compile(r"Traceback|Permission conflict|Assertion (?!`QTAILQ_EMPTY\(&all_bdrv_states)")


def wrong_words(stage: Stage) -> list[str]:
    """What the console that has moved the guest says of the end must be true."""
    problems = []
    if stage.mover.process.poll() == 0 and not stage.watches[DESTINATION].has_run:
        problems.append("the source's console has ended well, and the guest has not moved")
    if _STAYED in stage.mover.text() and not stage.watches[SOURCE].runs:
        problems.append(f"the source's console says '{_STAYED}'")
    return problems


def wrong_output(stage: Stage) -> list[str]:
    """Nothing is printed that no person should see."""
    return [
        f"{name} printed '{found[0]}'"
        for name, text in stage.texts().items()
        if (found := _NEVER_PRINTED.search(text))
    ]


def leave(stage: Stage) -> list[str]:
    """Have the consoles end. No process, and no file of a console that could clean up, is left."""
    last = [consoles[-1] for consoles in stage.consoles.values()]
    problems = [f"{console.name} did not end" for console in last if not console.leave()]
    deadline = time.monotonic() + WAIT_SECONDS
    while (left := stage.processes()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        problems.append(f"process {pid} is left: {_command(pid)}")
        with contextlib.suppress(OSError):  # it has just ended
            os.kill(pid, signal.SIGKILL)
    if not any(map(stage.has_lost_console, stage.consoles)):
        problems += [f"{path} is left" for path in stage.temporary.iterdir()]
    return problems


def wrong_end(stage: Stage) -> list[str]:
    """One guest runs at most, it has lost nothing, and nothing of a migration is left in the QEMUs."""
    both = both_ran(stage.watches[SOURCE], stage.watches[DESTINATION])
    problems = [both] if both else []
    if stage.has_died:
        return problems + _wrong_where_it_died(stage)
    stays = stage.watches[SOURCE].runs
    if stays:
        problems += _waits_for_ever(stage)
    is_used_up = stays and is_used(stage)
    kept = _KEPT_WAITING if stage.has_lost_console(SOURCE) else _KEPT
    lines = [line for line in judge(stage.pair, patience=5) if not (is_used_up and kept.match(line))]
    if stage.scenario.setup.source is Version.SEVEN:
        lines = [line for line in lines if not _LEAKED.match(line)]
    return problems + lines


def _wrong_where_it_died(stage: Stage) -> list[str]:
    """Nothing runs, and the disks of the QEMU that had the guest hold every number."""
    pair, there_ran = stage.pair, stage.watches[DESTINATION].has_run
    sizes = stage.sizes()
    time.sleep(0.3)
    if sizes != stage.sizes():
        return ["the guest's QEMU has ended, and it counts all the same"]
    machine = pair.destination if there_ran else pair.source
    numbers = said(pair.source.said_bytes() + pair.destination.said_bytes())
    if numbers != list(range(1, len(numbers) + 1)):
        return ["the acknowledged numbers are not in one row"]
    if stage.scenario.setup.format != RAW or stage.scenario.setup.inc:
        return []  # what the dead QEMU's tables held is lost
    return wrong_disks(pair, machine, len(numbers))


def is_used(stage: Stage) -> bool:
    """Whether the destination's QEMU lives, and has begun to read a guest's memory."""
    there = stage.pair.destination
    return there.is_alive() and (
        there.look.run("query-migrate").get("status", "none") not in ("none", "setup")
        or there.status() != "inmigrate"
    )


def has_no_record(machine: Machine) -> bool:
    """Whether a QEMU keeps no record of a migration."""
    names = [each["name"] for each in machine.look.run("qom-list", path="/objects")]
    return "qmon-migration" not in names


def _waits_for_ever(stage: Stage) -> list[str]:
    """The guest runs at the source: the destination's QEMU must not wait for more of it."""
    there = stage.pair.destination
    deadline = time.monotonic() + WAIT_SECONDS
    while there.is_alive() and not stage.has_lost_console(SOURCE):
        with contextlib.suppress(ConnectionError):  # it ends just now
            if there.look.run("query-migrate").get("status") != "active":
                break
        if time.monotonic() > deadline:
            return ["the destination's QEMU waits for memory that never comes"]
        time.sleep(0.05)
    return []


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "it has just ended"
