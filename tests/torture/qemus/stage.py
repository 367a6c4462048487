"""What a run plays on: two QEMUs that are looked at all the time, their consoles, and the line between."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from tests.support.ports import free_port
from tests.support.proxy import Trace
from tests.support.vms.consoles import listens
from tests.support.vms.leftovers import standing
from tests.support.vms.machine import Machine
from tests.support.vms.pair import Pair
from tests.support.waiting import eventually
from tests.torture.qemus.console import MARK, Console
from tests.torture.qemus.line import Line
from tests.torture.qemus.scenario import DESTINATION, SOURCE, Scenario
from tests.torture.qemus.watch import Watch

START_SECONDS = 60.0


class Stage:
    """It is there when it is entered: the guest counts at the source, and nobody moves it yet."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario = scenario
        self.folder = folder
        self.pair = Pair(folder / "vms", scenario.setup)
        self.trace = Trace()
        self.watches: dict[str, Watch] = {}
        self.consoles: dict[str, list[Console]] = {SOURCE: [], DESTINATION: []}
        self.killed: list[str] = []
        """The QEMUs that were killed."""
        self.temporary = Path(tempfile.mkdtemp(prefix="qmon-t-"))
        """Where the consoles make files. The names of sockets are short: it is not in ``folder``."""
        self._port = free_port()
        self.line = Line(self._port, scenario.rate)

    def __enter__(self) -> Stage:
        try:
            self.pair.__enter__()
            for machine in self.pair.machines:
                path = self.pair.folder / f"{machine.name}.watch"
                self.watches[machine.name] = Watch(path, machine.name, runs=machine is self.pair.source)
                self.pair.before[machine.name] = standing(machine)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for consoles in self.consoles.values():
            for console in consoles:
                console.kill()
        for watch in self.watches.values():
            watch.close()
        self.line.close()
        self.pair.close()
        shutil.rmtree(self.temporary)

    # Machines

    def machine(self, side: str) -> Machine:
        return self.pair.source if side == SOURCE else self.pair.destination

    def kill(self, machine: Machine) -> None:
        machine.kill()
        self.killed.append(machine.name)
        for span in self.watches[machine.name].spans:
            span[1] = min(span[1], time.time())

    def sizes(self) -> dict[str, int]:
        """How much each guest has said."""
        return {machine.name: machine.said_size() for machine in self.pair.machines}

    @property
    def where(self) -> str:
        """Where the guest is, in words."""
        runs = [name for name, watch in self.watches.items() if watch.runs and name not in self.killed]
        return f"runs at the {runs[0]}" if runs else "stands"

    @property
    def has_died(self) -> bool:
        """Whether the guest can't run any more: the QEMU that had it has ended."""
        source, there = self.pair.machines
        if not there.is_alive():
            return self.watches[DESTINATION].has_run or not source.is_alive()
        return not source.is_alive() and (is_stopped(there.pid) or there.status() == "inmigrate")

    # Consoles

    @property
    def command(self) -> str:
        """The line that moves the guest."""
        inc = " inc" * self.scenario.setup.inc
        return f"migrate -d blk{inc} tcp:127.0.0.1:{self.line.port}"

    def start(self, side: str, *words: str) -> Console:
        """Start a console; the destination's listens."""
        if side == DESTINATION:
            words = ("-incoming", f"tcp:127.0.0.1:{self._port}", *words)
        given = ["-connect", f"unix:{self.machine(side).qmp_path}", "-keep-going", *words]
        console = Console(self.folder, f"{side}-console-{len(self.consoles[side])}", given, self.temporary)
        self.consoles[side].append(console)
        self.trace.note(f"{console.name} is process {console.process.pid}")
        return console

    def begin(self) -> None:
        """Start both, and move the guest."""
        there = self.start(DESTINATION)
        eventually(lambda: listens(self._port) or not there.is_alive, "the console listens", START_SECONDS)
        assert there.is_alive, f"the destination's console did not start:\n{there.text()}"
        self.start(SOURCE, "-c", self.command, "-c", "wait migrate")

    @property
    def mover(self) -> Console:
        """The console that has begun to move the guest."""
        return self.consoles[SOURCE][0]

    def has_lost_console(self, side: str) -> bool:
        """Whether a fault is of a side's console."""
        return any(fault.what.is_of_console and side in fault.victims for fault in self.scenario.faults)

    def processes(self) -> list[int]:
        """The consoles, and what they have started."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has just ended
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def texts(self) -> dict[str, str]:
        """What each process has printed."""
        return {
            **{each.name: each.text() for consoles in self.consoles.values() for each in consoles},
            **{machine.name: machine.log() for machine in self.pair.machines},
        }


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False
