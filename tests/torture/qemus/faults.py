"""Carries out the faults of a scenario at their places."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable

from tests.torture.qemus.scenario import FOR_GOOD, AtTime, Fault, What
from tests.torture.qemus.stage import START_SECONDS, Stage
from tests.torture.qemus.watch import AtEvent

SLOW_RATE = 16 << 10


class Faults:
    """Planted before the guest is moved; ``end`` keeps those from happening that have not begun."""

    def __init__(self, stage: Stage) -> None:
        self.first = ""
        """What the first that happened was."""
        self.acted = -math.inf
        """When the last one began or ended."""
        self.pending = 0
        """How many are about to begin, or to end by themselves."""
        self.is_over = False
        self._stage = stage
        self._lock = threading.RLock()

    def plant(self) -> None:
        for fault in self._stage.scenario.faults:
            self._plant(fault)

    def end(self) -> None:
        with self._lock:
            self.is_over = True

    def _plant(self, fault: Fault) -> None:
        def reached() -> None:
            if fault.delay:
                self._later(fault.delay, act)
            else:
                act()

        def act() -> None:
            with self._lock:
                if not self.is_over:
                    self._act(fault)

        match fault.place:
            case AtTime(seconds=seconds):
                threading.Thread(target=self._wait, args=(seconds, reached), daemon=True).start()
            case AtEvent(machine=machine):
                self._stage.watches[machine].at(fault.place, reached)
            case place:
                self._stage.line.at(place, reached)

    def _wait(self, seconds: float, reached: Callable[[], None]) -> None:
        if self._stage.line.connected.wait(START_SECONDS):
            time.sleep(seconds)
            reached()

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self.pending += 1

        def do() -> None:
            with self._lock:
                work()
                self.pending -= 1

        timer = threading.Timer(seconds, do)
        timer.daemon = True
        timer.start()

    def _act(self, fault: Fault) -> None:
        self._stage.trace.note(str(fault))
        self.acted = time.monotonic()
        self.first = self.first or fault.what.value
        for side in fault.victims:
            self._harm(fault.what, side)
        if fault.what.is_of_line:
            self._break_line(fault)
        if fault.seconds != FOR_GOOD:
            self._later(fault.seconds, lambda: self._undo(fault))

    def _break_line(self, fault: Fault) -> None:
        line = self._stage.line
        match fault.what:
            case What.STALL:
                line.stall(fault.kinds, fault.ways)
            case What.SWALLOW:
                line.swallow(fault.kinds, fault.ways)
            case What.CUT | What.RESET:
                line.is_down = len(fault.kinds) > 1
                line.cut(fault.kinds, reset=fault.what is What.RESET)
            case What.HALF_CLOSE:
                line.half_close(fault.kinds, fault.ways)
            case What.SLOW:
                line.rate = SLOW_RATE

    def _harm(self, what: What, side: str) -> None:
        machine, consoles = self._stage.machine(side), self._stage.consoles[side]
        match what:
            case What.KILL_QEMU:
                self._stage.kill(machine)
            case What.FREEZE_QEMU:
                machine.signal(signal.SIGSTOP)
            case What.KILL_CONSOLE if consoles:
                consoles[-1].signal(signal.SIGKILL)
            case What.END_CONSOLE if consoles:
                consoles[-1].signal(signal.SIGTERM)
            case What.FREEZE_CONSOLE if consoles:
                consoles[-1].signal(signal.SIGSTOP)

    def _undo(self, fault: Fault) -> None:
        self._stage.trace.note("this ends")
        self.acted = time.monotonic()
        if fault.what.is_of_line:
            self._stage.line.mend()
        for side in fault.victims:
            if fault.what is What.FREEZE_QEMU:
                self._stage.machine(side).signal(signal.SIGCONT)
            else:
                self._stage.consoles[side][-1].signal(signal.SIGCONT)
