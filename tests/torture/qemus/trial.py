"""One run: two QEMUs, two consoles, a line between them, faults, and the promises judged at the end."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.ports import free_port
from tests.support.proxy import Trace
from tests.support.vms.boot_sector import said
from tests.support.vms.consoles import listens
from tests.support.vms.disks import RAW
from tests.support.vms.judgement import judge, wrong_disks
from tests.support.vms.leftovers import standing
from tests.support.vms.machine import Machine
from tests.support.vms.pair import Pair
from tests.support.waiting import eventually
from tests.torture.qemus.console import MARK, Console
from tests.torture.qemus.line import Line
from tests.torture.qemus.scenario import DESTINATION, FOR_GOOD, SOURCE, AtTime, Fault, Scenario, What
from tests.torture.qemus.watch import AtEvent, Watch, both_ran
from tests.torture.trial import Result

SETTLE_SECONDS = 22.0
"""In which consoles settle by themselves what they can: silence is noticed in 6 s, a stuck QEMU in 2."""

MOST_SECONDS = 120.0
"""How long a migration that no fault has met is waited for; a busy host is slow."""

QUIET_SECONDS = 1.0
"""How long nothing but counting happens before a state is taken for the last one."""

COUNTS_SECONDS = 2.0
"""In which a guest that runs says something, also on a busy host."""

DIED_SECONDS = 8.0
"""How long a guest whose QEMU has ended is looked for."""

SLOW_RATE = 16 << 10

ADVICE = re.compile(r"migrate_resolve (keep|release)")
_KEPT = re.compile(r"destination: (capability|object qmon-migration) ")
"""What stays in a QEMU that is used up: the record, which keeps a later console from running the guest."""

_KEPT_WAITING = re.compile(r"destination: ")
"""It may wait for more memory for ever where the source's console has died: nobody tells it."""

_STAYED = "The guest runs on here"

_NEVER_PRINTED = ("Traceback", "Permission conflict", "Assertion")


class Trial:
    """A scenario in a folder of its own."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder
        self._pair = Pair(folder / "vms", scenario.setup)
        self._trace = Trace()
        self._result = Result(scenario.seed, str(scenario))
        self._watches: dict[str, Watch] = {}
        self._consoles: dict[str, list[Console]] = {SOURCE: [], DESTINATION: []}
        self._port = free_port()
        self._line = Line(self._port, scenario.rate)
        self._over = threading.Event()
        """Set when no fault may begin any more."""
        self._acting = threading.RLock()
        self._pending = 0
        """Faults that have begun, and have yet to end by themselves."""
        self._died: list[str] = []
        self._acted = -math.inf
        """When the last fault began or ended."""

    def run(self) -> Result:
        """Do it, judge it, and end all that was started."""
        begun = time.monotonic()
        try:
            with self._pair:
                self._run()
        except AssertionError as error:
            self._result.problems.append(str(error))
        finally:
            self._end()
        self._result.problems += self._printed_wrong()
        self._result.seconds = time.monotonic() - begun
        if self._result.problems:
            self._keep_evidence()
        else:
            shutil.rmtree(self._folder)
        return self._result

    def _run(self) -> None:
        pair, result = self._pair, self._result
        for machine in pair.machines:
            path = pair.folder / f"{machine.name}.watch"
            self._watches[machine.name] = Watch(path, machine.name, runs=machine is pair.source)
            pair.before[machine.name] = standing(machine)
        self._plant()
        self._begin()
        settled = self._settle(SETTLE_SECONDS)
        with self._acting:
            self._over.set()
        self._trace.note("settled" if settled else "not settled")
        result.outcome = self._where() + ("" if settled else ", by new consoles")
        self._start_anew()
        if not self._settle(SETTLE_SECONDS):
            self._take_advice()
        self._check_words()
        if self._scenario.tries_again and self._can_move_again():
            self._move_again()
        result.settle_seconds = max(0.0, time.monotonic() - self._began)
        self._leave()
        self._judge()

    # Consoles

    def _begin(self) -> None:
        there = self._start(DESTINATION)
        eventually(lambda: listens(self._port) or not there.is_alive, "the destination's console listens", 60)
        assert there.is_alive, f"the destination's console did not start:\n{there.text()}"
        self._began = time.monotonic()
        self._start(SOURCE, "-c", self._command, "-c", "wait migrate")

    @property
    def _command(self) -> str:
        inc = " inc" * self._scenario.setup.inc
        return f"migrate -d blk{inc} tcp:127.0.0.1:{self._line.port}"

    def _start(self, side: str, *words: str) -> Console:
        machine = self._machine(side)
        if side == DESTINATION:
            words = ("-incoming", f"tcp:127.0.0.1:{self._port}", *words)
        number = len(self._consoles[side])
        given = ["-connect", f"unix:{machine.qmp_path}", "-keep-going", *words]
        console = Console(self._folder, f"{side}-console-{number}", given)
        self._consoles[side].append(console)
        self._trace.note(f"{console.name} is process {console.process.pid}")
        return console

    def _machine(self, side: str) -> Machine:
        return self._pair.source if side == SOURCE else self._pair.destination

    def _start_anew(self) -> None:
        """New consoles on the QEMUs that live, in the place of those that have ended."""
        if self._scenario.is_mended:
            self._line.mend()
        for side in (DESTINATION, SOURCE):
            machine, old = self._machine(side), self._consoles[side][-1]
            if machine.is_alive() and _is_stopped(machine.pid):
                if self._scenario.wakes:
                    machine.signal(signal.SIGCONT)
                else:
                    self._kill(machine)
            if old.is_frozen:
                old.kill()
            if machine.is_alive() and not old.is_alive:
                console = self._start(side)
                console.type("info status")
                console.wait_for("VM status")

    def _kill(self, machine: Machine) -> None:
        machine.kill()
        self._died.append(machine.name)
        for span in self._watches[machine.name].spans:
            span[1] = min(span[1], time.time())

    def _leave(self) -> None:
        for console in (self._consoles[SOURCE][-1], self._consoles[DESTINATION][-1]):
            if not console.leave():
                self._result.problems.append(f"{console.name} did not end")
        deadline = time.monotonic() + 3
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in left:
            self._result.problems.append(f"process {pid} is left: {_command(pid)}")
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed = any(fault.what.is_of_console for fault in self._scenario.faults)
        if not killed:
            self._result.problems += [f"{path} is left" for path in (self._folder / "tmp").iterdir()]

    def _processes(self) -> list[int]:
        """Those of the consoles, and those that they have started."""
        mark = f"{MARK}={self._folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has just ended
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    # Faults

    def _plant(self) -> None:
        for fault in self._scenario.faults:
            self._plant_one(fault)

    def _plant_one(self, fault: Fault) -> None:
        def reached() -> None:
            if fault.delay:
                self._later(fault.delay, act)
            else:
                act()

        def act() -> None:
            with self._acting:
                if not self._over.is_set():
                    self._act(fault)

        match fault.place:
            case AtTime(seconds=seconds):
                threading.Thread(target=self._wait_for_time, args=(seconds, reached), daemon=True).start()
            case AtEvent(machine=machine):
                self._watches[machine].at(fault.place, reached)
            case place:
                self._line.at(place, reached)

    def _wait_for_time(self, seconds: float, reached: Callable[[], None]) -> None:
        if self._line.connected.wait(60):
            time.sleep(seconds)
            reached()

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._pending += 1

        def do() -> None:
            with self._acting:
                work()
                self._pending -= 1

        timer = threading.Timer(seconds, do)
        timer.daemon = True
        timer.start()

    def _act(self, fault: Fault) -> None:
        self._trace.note(str(fault))
        self._acted = time.monotonic()
        what, line = fault.what, self._line
        self._result.rule = self._result.rule or what.value
        for side in fault.victims:
            self._harm(what, side)
        match what:
            case What.STALL:
                line.stall(fault.kinds, fault.ways)
            case What.SWALLOW:
                line.swallow(fault.kinds, fault.ways)
            case What.CUT | What.RESET:
                line.is_down = len(fault.kinds) > 1
                line.cut(fault.kinds, reset=what is What.RESET)
            case What.HALF_CLOSE:
                line.half_close(fault.kinds, fault.ways)
            case What.SLOW:
                line.rate = SLOW_RATE
        if fault.seconds != FOR_GOOD:
            self._later(fault.seconds, lambda: self._undo(fault))

    def _harm(self, what: What, side: str) -> None:
        machine = self._machine(side)
        console = self._consoles[side][-1] if self._consoles[side] else None
        match what:
            case What.KILL_QEMU:
                self._kill(machine)
            case What.FREEZE_QEMU:
                machine.signal(signal.SIGSTOP)
            case What.KILL_CONSOLE if console:
                console.signal(signal.SIGKILL)
            case What.END_CONSOLE if console:
                console.signal(signal.SIGTERM)
            case What.FREEZE_CONSOLE if console:
                console.signal(signal.SIGSTOP)

    def _undo(self, fault: Fault) -> None:
        self._trace.note("this ends")
        self._acted = time.monotonic()
        if fault.what.is_of_line:
            self._line.mend()
        for side in fault.victims:
            if fault.what is What.FREEZE_QEMU:
                self._machine(side).signal(signal.SIGCONT)
            else:
                self._consoles[side][-1].signal(signal.SIGCONT)

    # The end

    def _settle(self, patience: float) -> bool:
        """Wait until a guest counts, and the console that has moved it has ended; return whether it is so."""
        deadline = time.monotonic() + patience
        last = time.monotonic() + MOST_SECONDS
        quiet, grown = None, -math.inf
        sizes = self._sizes()
        while (now := time.monotonic()) < deadline:
            time.sleep(0.1)
            before, sizes = sizes, self._sizes()
            if sizes != before:
                grown = now
            source = self._consoles[SOURCE][0]
            if not self._over.is_set():
                met = self._acted != -math.inf or not source.is_alive
                deadline = min(last, max(deadline, self._acted + patience) if met else now + patience)
            if now - grown > COUNTS_SECONDS or self._pending or (source.is_alive and not source.is_frozen):
                quiet = None
            elif quiet is None:
                quiet = now
            elif now - quiet > QUIET_SECONDS:
                return True
            if self._has_died():
                deadline = min(deadline, now + DIED_SECONDS)
        return False

    def _check_words(self) -> None:
        """What the console that has moved the guest has said of the end must be true."""
        source = self._consoles[SOURCE][0]
        if source.process.poll() == 0 and not self._watches[DESTINATION].has_run:
            self._result.problems.append("the source's console has ended well, and the guest has not moved")
        if _STAYED in source.text() and not self._watches[SOURCE].runs:
            self._result.problems.append(f"the source's console says '{_STAYED}'")

    def _can_move_again(self) -> bool:
        """Whether the guest stays, and the destination is as good as new."""
        source, there = self._pair.machines
        if not self._scenario.is_mended or not self._watches[SOURCE].runs or not source.is_alive():
            return False
        if not there.is_alive() or self._is_used_up() or not self._consoles[DESTINATION][-1].is_alive:
            return False
        return len(self._consoles[SOURCE]) > 1

    def _move_again(self) -> None:
        console = self._consoles[SOURCE][-1]
        self._trace.note(f"{self._command} at {console.name}")
        console.type(self._command)
        console.type("wait migrate")
        there = self._watches[DESTINATION]
        with contextlib.suppress(AssertionError):
            eventually(lambda: there.runs, "the guest moves", MOST_SECONDS / 2)
        if there.runs:
            self._result.outcome += ", then moved"
            self._pair.destination.wait_to_count(1)
        else:
            self._result.problems.append("the guest does not move at the second attempt")

    def _sizes(self) -> dict[str, int]:
        return {machine.name: machine.said_size() for machine in self._pair.machines}

    def _where(self) -> str:
        runs = [name for name, watch in self._watches.items() if watch.runs and name not in self._died]
        return f"runs at the {runs[0]}" if runs else "stands"

    def _has_died(self) -> bool:
        """Whether the guest can't run any more: the QEMU that had it has ended."""
        source, there = self._pair.machines
        if not there.is_alive():
            return self._watches[DESTINATION].has_run or not source.is_alive()
        return not source.is_alive() and (_is_stopped(there.pid) or there.status() == "inmigrate")

    def _take_advice(self) -> None:
        """A guest stands still: a console has to say what to do, and it has to help."""
        if self._has_died():
            self._result.outcome = "died with its QEMU"
            return
        side = self._advised()
        if side is None:
            self._result.problems.append("the guest stands still, and no console says what to do")
            return
        console = self._consoles[side][-1]
        self._trace.note(f"migrate_resolve keep at {console.name}")
        console.type("migrate_resolve keep")
        self._result.outcome = f"kept at the {side} by a person"
        if not self._settle(SETTLE_SECONDS):
            self._result.problems.append(f"the guest stands still after migrate_resolve keep at the {side}")

    def _advised(self) -> str | None:
        """Where a console says that a person has to decide, and where that is safe."""
        source, there = self._pair.machines
        advised = {
            side: any(ADVICE.search(each.text()) for each in consoles)
            for side, consoles in self._consoles.items()
        }
        if advised[DESTINATION] and there.is_alive() and there.status() != "inmigrate":
            return DESTINATION
        if advised[SOURCE] and source.is_alive() and not self._watches[DESTINATION].has_run:
            self._kill(there)  # so that it is safe
            return SOURCE
        return None

    def _judge(self) -> None:
        result, pair = self._result, self._pair
        result.acknowledged = len(said(pair.source.said_bytes()))
        if both := both_ran(self._watches[SOURCE], self._watches[DESTINATION]):
            result.problems.append(both)
        if self._has_died():
            result.problems += self._judge_dead()
            return
        is_used_up = self._watches[SOURCE].runs and self._is_used_up()
        kept = _KEPT_WAITING if is_used_up and self._has_lost_console(SOURCE) else _KEPT
        problems = judge(pair)
        result.problems += [line for line in problems if not (is_used_up and kept.match(line))]

    def _judge_dead(self) -> list[str]:
        """Nothing runs, and the disks of the QEMU that had the guest hold every number."""
        pair, there_ran = self._pair, self._watches[DESTINATION].has_run
        sizes = self._sizes()
        time.sleep(0.3)
        if sizes != self._sizes():
            return ["the guest's QEMU has ended, and it counts all the same"]
        machine = pair.destination if there_ran else pair.source
        numbers = said(pair.source.said_bytes() + pair.destination.said_bytes())
        if numbers != list(range(1, len(numbers) + 1)):
            return ["the acknowledged numbers are not in one row"]
        if self._scenario.setup.format != RAW or self._scenario.setup.inc:
            return []  # what the dead QEMU's tables held is lost
        return wrong_disks(pair, machine, len(numbers))

    def _is_used_up(self) -> bool:
        """Whether the destination's QEMU lives, and has had memory of a guest that runs at the source.

        It must not wait for more.
        """
        there = self._pair.destination
        if not there.is_alive():
            return False
        deadline = time.monotonic() + 5
        while (status := there.look.run("query-migrate").get("status", "none")) == "active":
            if time.monotonic() > deadline and not self._has_lost_console(SOURCE):
                self._result.problems.append("the destination's QEMU waits for memory that never comes")
                break
            time.sleep(0.05)
            if not there.is_alive():
                return False
            if time.monotonic() > deadline:
                break
        return status not in ("none", "setup") or there.status() != "inmigrate"

    def _has_lost_console(self, side: str) -> bool:
        return any(fault.what.is_of_console and side in fault.victims for fault in self._scenario.faults)

    def _printed_wrong(self) -> list[str]:
        texts = {each.name: each.text() for consoles in self._consoles.values() for each in consoles}
        texts |= {machine.name: machine.log() for machine in self._pair.machines}
        return [
            f"{name} printed '{word}'"
            for name, text in texts.items()
            for word in _NEVER_PRINTED
            if word in text
        ]

    def _end(self) -> None:
        with self._acting:
            self._over.set()
        for consoles in self._consoles.values():
            for console in consoles:
                console.kill()
        for watch in self._watches.values():
            watch.close()
        self._line.close()
        self._pair.close()

    def _keep_evidence(self) -> None:
        lines = [str(self._scenario), *self._trace.lines, "", *self._result.problems]
        for consoles in self._consoles.values():
            for console in consoles:
                lines += ["", f"== {console.name} ==", console.text()]
        for machine in self._pair.machines:
            lines += ["", f"== {machine.name} ==", machine.log()]
        (self._folder / "trace.txt").write_text("\n".join(lines) + "\n")
        self._result.evidence = str(self._folder)


def _is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "it has just ended"


def try_out(scenario: Scenario, folder: Path) -> Result:
    """Run a scenario in a fresh folder, which stays when a promise was broken."""
    folder.mkdir(parents=True)
    return Trial(scenario, folder).run()
