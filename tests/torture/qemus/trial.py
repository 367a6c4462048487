"""One run: a guest is moved, something fails, new consoles come, and the promises are judged at the end."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shutil
import signal
import time
from pathlib import Path

from tests.support.vms.boot_sector import said
from tests.support.waiting import eventually
from tests.torture.qemus.faults import Faults
from tests.torture.qemus.scenario import DESTINATION, SOURCE, Scenario
from tests.torture.qemus.stage import Stage, is_stopped
from tests.torture.qemus.verdict import has_no_record, is_used, leave, wrong_end, wrong_output, wrong_words
from tests.torture.trial import Result

SETTLE_SECONDS = 60.0
"""In which consoles settle by themselves what they can: silence is noticed in 6 s, a stuck QEMU in 2.
A busy host is slow."""

MOST_SECONDS = 120.0
"""How long a migration that no fault has met is waited for; a busy host is slow."""

QUIET_SECONDS = 1.0
"""How long nothing but counting happens before a state is taken for the last one."""

COUNTS_SECONDS = 2.0
"""In which a guest that runs says something, also on a busy host."""

DIED_SECONDS = 8.0
"""How long a guest whose QEMU has ended is looked for."""

ADVICE = re.compile(r"migrate_resolve (keep|release)")


class Trial:
    """A scenario on its stage."""

    def __init__(self, stage: Stage, result: Result) -> None:
        self._stage = stage
        self._result = result
        self._problems = result.problems
        self._faults = Faults(stage)

    def run(self) -> None:
        """Raises AssertionError."""
        stage, result = self._stage, self._result
        self._faults.plant()
        stage.begin()
        begun = time.monotonic()
        try:
            settled = self._settle()
        finally:
            self._faults.end()
        result.rule = self._faults.first or "not reached"
        result.outcome = stage.where + ("" if settled else ", by new consoles")
        stage.trace.note("settled" if settled else "not settled")
        self._start_anew()
        if not self._settle():
            self._take_advice()
        self._finish()
        self._problems += wrong_words(stage)
        if stage.scenario.tries_again and self._can_move_again():
            self._move_again()
        result.settle_seconds = time.monotonic() - begun
        self._problems += leave(stage)
        result.acknowledged = len(said(stage.pair.source.said_bytes()))
        self._problems += wrong_end(stage)

    def _start_anew(self) -> None:
        """New consoles on the QEMUs that live, in the place of those that have ended."""
        stage = self._stage
        if stage.scenario.is_mended:
            stage.line.mend()
        for side, consoles in reversed(stage.consoles.items()):
            machine, old = stage.machine(side), consoles[-1]
            if machine.is_alive() and is_stopped(machine.pid):
                if stage.scenario.wakes:
                    machine.signal(signal.SIGCONT)
                else:
                    stage.kill(machine)
            if old.is_frozen:
                old.kill()
            if machine.is_alive() and not old.is_alive:
                console = stage.start(side)
                console.type("info status")
                console.wait_for("VM status")

    def _settle(self) -> bool:
        """Wait until a guest counts, and the console that has moved it has ended; return whether it is so."""
        faults, mover = self._faults, self._stage.mover
        deadline = time.monotonic() + SETTLE_SECONDS
        last = time.monotonic() + MOST_SECONDS
        quiet, grown = None, -math.inf
        sizes = self._stage.sizes()
        while (now := time.monotonic()) < deadline:
            time.sleep(0.1)
            before, sizes = sizes, self._stage.sizes()
            if sizes != before:
                grown = now
            if not faults.is_over:
                since = faults.acted if faults.first or not mover.is_alive else now
                deadline = min(last, max(deadline, since + SETTLE_SECONDS))
            is_moving = mover.is_alive and not mover.is_frozen
            if now - grown > COUNTS_SECONDS or faults.pending or is_moving:
                quiet = None
            elif quiet is None:
                quiet = now
            elif now - quiet > QUIET_SECONDS:
                return True
            if self._stage.has_died:
                deadline = min(deadline, now + DIED_SECONDS)
        return False

    def _take_advice(self) -> None:
        """A guest stands still: a console has to say what to do, and it has to help."""
        if self._stage.has_died:
            self._result.outcome = "died with its QEMU"
            return
        side = self._advised()
        if side is None:
            self._problems.append("the guest stands still, and no console says what to do")
            return
        console = self._stage.consoles[side][-1]
        self._stage.trace.note(f"migrate_resolve keep at {console.name}")
        console.type("migrate_resolve keep")
        self._result.outcome = f"kept at the {side} by a person"
        if not self._settle():
            self._problems.append(f"the guest stands still after migrate_resolve keep at the {side}")

    def _advised(self) -> str | None:
        """Where a console says that a person has to decide, and where that is safe."""
        stage = self._stage
        source, there = stage.pair.machines
        advised = {
            side: any(ADVICE.search(each.text()) for each in consoles)
            for side, consoles in stage.consoles.items()
        }
        if advised[DESTINATION] and there.is_alive() and there.status() != "inmigrate":
            return DESTINATION
        if advised[SOURCE] and source.is_alive() and not stage.watches[DESTINATION].has_run:
            stage.kill(there)  # so that it is safe
            return SOURCE
        return None

    def _finish(self) -> None:
        """The guest runs at the destination: where a console waits for a person to say so, say it."""
        stage = self._stage
        if not stage.watches[DESTINATION].runs:
            return
        for side, line in ((SOURCE, "migrate_resolve release"), (DESTINATION, "migrate_resolve keep")):
            machine, consoles = stage.machine(side), stage.consoles[side]
            if not machine.is_alive() or not any(f"'{line}' ends" in each.text() for each in consoles):
                continue
            stage.trace.note(f"{line} at {consoles[-1].name}")
            consoles[-1].type(line)
            with contextlib.suppress(AssertionError):
                eventually(functools.partial(has_no_record, machine), "the record has gone")

    def _can_move_again(self) -> bool:
        """Whether the guest stays, and the destination is as good as new."""
        stage = self._stage
        source, there = stage.pair.machines
        return (
            stage.scenario.is_mended
            and source.is_alive()
            and there.is_alive()
            and stage.watches[SOURCE].runs
            and not is_used(stage)
            and not stage.scenario.setup.inc  # its overlay is not empty any more, and so refused
            and stage.consoles[DESTINATION][-1].is_alive
            and len(stage.consoles[SOURCE]) > 1
        )

    def _move_again(self) -> None:
        stage = self._stage
        console, there = stage.consoles[SOURCE][-1], stage.watches[DESTINATION]
        stage.trace.note(f"{stage.command} at {console.name}")
        console.type(stage.command)
        console.type("wait migrate")
        with contextlib.suppress(AssertionError):
            eventually(lambda: there.runs, "the guest moves", MOST_SECONDS / 2)
        if there.runs:
            self._result.outcome += ", then moved"
            stage.pair.destination.wait_to_count(1)
        else:
            self._problems.append("the guest does not move at the second attempt")


def try_out(scenario: Scenario, folder: Path) -> Result:
    """Run a scenario in a fresh folder, which stays when a promise was broken."""
    folder.mkdir(parents=True)
    begun = time.monotonic()
    result = Result(scenario.seed, str(scenario))
    stage = Stage(scenario, folder)
    try:
        with stage:
            Trial(stage, result).run()
    except AssertionError as error:
        result.problems.append(str(error))
    result.problems += wrong_output(stage)
    result.seconds = time.monotonic() - begun
    if result.problems:
        _keep_evidence(stage, result)
    else:
        shutil.rmtree(folder)
    return result


def _keep_evidence(stage: Stage, result: Result) -> None:
    lines = [result.scenario, *stage.trace.lines, "", *result.problems]
    for name, text in stage.texts().items():
        lines += ["", f"== {name} ==", text]
    (stage.folder / "trace.txt").write_text("\n".join(lines) + "\n")
    result.evidence = str(stage.folder)
