"""What became of a counting guest and its disks: a line for each promise that was broken."""

from __future__ import annotations

import time

from tests.support.vms.boot_sector import said
from tests.support.vms.disks import wrong
from tests.support.vms.leftovers import leftovers
from tests.support.vms.machine import Machine
from tests.support.vms.pair import Pair
from tests.support.waiting import PATIENCE

SETTLED = 0.3
"""Seconds in which a guest that runs says something: a rest is 55 ms at most."""


def counting_machines(pair: Pair, patience: float = PATIENCE, settled: float = SETTLED) -> list[Machine]:
    """Return the machines on which the guest counts on, as soon as there is one.

    Others are waited for, too, for ``settled`` seconds.
    """
    sizes = {machine.name: machine.said_size() for machine in pair.machines}

    def found() -> list[Machine]:
        return [machine for machine in pair.machines if machine.said_size() > sizes[machine.name]]

    deadline = time.monotonic() + patience
    while not found() and time.monotonic() < deadline:
        time.sleep(0.01)
    deadline = time.monotonic() + settled
    while len(found()) < len(pair.machines) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found()


def judge(
    pair: Pair,
    runs: Machine | None = None,
    *,
    patience: float = PATIENCE,
    settled: float = SETTLED,
    used_up: Machine | None = None,
) -> list[str]:
    """Return a line for all that is wrong; [] is a good end.

    The guest has to count on in one place, on ``runs`` if that is given, and in no other for ``settled``
    seconds. It is stopped then, and its disks have to hold every acknowledged number. Nothing of a migration
    is left in the QEMUs that still run after at most ``patience`` seconds, but for one that is ``used_up``:
    it has read a guest's memory.
    """
    counting = counting_machines(pair, settled=settled)
    names = [machine.name for machine in counting]
    if len(counting) != 1 or (runs is not None and runs not in counting):
        wanted = runs.name if runs else "one place"
        return [f"the guest counts on at {' and '.join(names) or 'neither side'}, not at {wanted}"]
    side = counting[0]
    left = [
        line
        for machine in pair.machines
        if machine is not used_up and machine.is_alive()
        for line in leftovers(machine, pair.before[machine.name], patience)
    ]
    side.look.run("stop")
    return [*left, *wrong_numbers(pair, side), *wrong_disks(pair, side)]


def wrong_numbers(pair: Pair, side: Machine) -> list[str]:
    """Return a line if the acknowledged numbers are not 1, 2, 3, ... in one row; ``side`` has the guest."""
    if side is pair.source and pair.destination.said_size():
        return ["the guest has run at the destination, too"]
    try:
        numbers = said(pair.said_bytes())
    except ValueError as error:
        return [str(error)]
    for place, number in enumerate(numbers, 1):
        if number != place:
            return [f"the guest said {number} behind {place - 1}"]
    return []


def wrong_disks(pair: Pair, side: Machine, last: int | None = None) -> list[str]:
    """Return a line for all that is wrong on the disks of a machine whose guest stands still.

    ``last`` is the last acknowledged number; without it the guest's memory is asked. If the machine was
    killed, only raw images can be judged: the guest never flushes, and QEMU has not written all of the
    tables of a qcow2 image.
    """
    counted = side.counted() if last is None else last
    acknowledged = said(pair.said_bytes())[-1]
    problems = []
    if not acknowledged <= counted <= acknowledged + 1:
        problems.append(f"{side.name}: the guest's memory has {counted}, {acknowledged} was acknowledged")
    for disk, image in enumerate(side.images):
        problems += wrong(image, pair.setup.filling_of(disk), pair.setup.counting, counted)
    return problems
