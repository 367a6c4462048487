"""One run: two processes, guests that write, a migration, a fault, and the promises checked at the end."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qmon.errors import CommandError
from tests.support.guests import EXPECTED_ERRORS, Probe, Writer, overlap
from tests.support.hmp_client import HmpClient
from tests.support.images import drive
from tests.support.ports import free_port
from tests.support.processes import Qmon
from tests.support.proxy import Fault, Place, Proxy, Rule, Trace, Way
from tests.support.waiting import PATIENCE
from tests.torture import bitmaps, disks
from tests.torture.scenario import Scenario

SETTLE_SECONDS = 60.0
"""After which what can be settled without an operator has been."""

FLIP_SECONDS = 120.0
"""The same where a bit of a record's length may have flipped: the destination waits for what never comes, and
gives up after a minute without a byte."""

SLOW_SECONDS = 45.0
"""The same where the line has become slow: three switchovers of some seconds each, and copying in between.
What goes on then, since guests write more than the line takes, is cancelled."""

LONGEST_WAIT = 20.0
"""Seconds that no guest's write waits, though the line is slow: a Linux guest's disk gives up after 30."""

END_SECONDS = 60
"""In which a side ends on SIGTERM."""

STILL_SECONDS = 1.5
"""How long nothing changes before a state that nobody can settle is taken for the last one."""

UNDER_WAY = ("setup", "active", "cancelling")
"""What a side leaves by itself when it has noticed that the other one is away, however busy a host is."""

GO_SIZE = 29 + 8


@dataclass
class Result:
    """How a run ended. ``outcome`` is one word or two; ``problems`` has a line for each broken promise."""

    seed: int
    scenario: str
    outcome: str = "not begun"
    rule: str = ""
    seconds: float = 0.0
    settle_seconds: float = 0.0
    acknowledged: int = 0
    problems: list[str] = field(default_factory=list)
    evidence: str = ""
    log: str = ""
    """What both sides have printed."""


@dataclass(frozen=True, slots=True)
class View:
    """What a side says of itself; ``status`` is ``dead`` when it says nothing."""

    status: str
    migration: str

    @property
    def phase(self) -> str:
        """The migration's status without its reason."""
        return self.migration.split(" (")[0]

    @property
    def runs(self) -> bool:
        return self.status == "running"


DEAD = View("dead", "none")
LOCKED = 'Failed to get "write" lock'
MOVED = "paused (postmigrate)"
WAITING = "paused (inmigrate)"


ANOTHER_HOST = """
import fcntl
import pathlib

true_fcntl = fcntl.fcntl
true_read_text, true_read_bytes = pathlib.Path.read_text, pathlib.Path.read_bytes
NAMES = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")


def fcntl_without_locks(descriptor, command, argument=0):
    if command in (fcntl.F_OFD_GETLK, fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW):
        return fcntl.F_UNLCK.to_bytes(2, "little") + bytes(argument)[2:]
    return true_fcntl(descriptor, command, argument)


def read_text(path, *args, **named):
    return "another host" if str(path) in NAMES else true_read_text(path, *args, **named)


def read_bytes(path):
    return b"another host" if str(path) in NAMES else true_read_bytes(path)


fcntl.fcntl = fcntl_without_locks
pathlib.Path.read_text, pathlib.Path.read_bytes = read_text, read_bytes
"""


class Side:
    """A qmon that can be killed and started again with the same command line."""

    def __init__(
        self,
        folder: Path,
        name: str,
        images: dict[str, Path],
        image_format: str,
        options: list[str],
        trace: Trace,
        within: list[str],
    ) -> None:
        self.name = name
        self.images = images
        """By drive."""
        self.killed = 0
        self.gave_up = False
        """Whether it could not be started again, for a reason that is right."""
        self._folder = folder
        self._format = image_format
        self._options = options
        self._inside = within
        self._trace = trace
        self.logs: list[str] = []
        """Of processes that were killed."""
        self._lock = threading.Lock()
        self.qmon = self._launch()

    def _launch(self) -> Qmon:
        disks = [
            option for name, path in self.images.items() for option in drive(path, name, format=self._format)
        ]
        words = [*disks, *self._options]
        return Qmon(self._folder, self.name, words, self._inside, anew=True)  # found by its command line

    @property
    def export_path(self) -> Path:
        return self.qmon.nbd

    @property
    def log(self) -> str:
        return "".join(self.logs) + self.qmon.log()

    @property
    def alive(self) -> bool:
        return self.qmon.process.poll() is None

    def export(self) -> None:
        self.qmon.export(*self.images)

    def kill(self, *, orderly: bool) -> None:
        """End it, by SIGTERM where that is to be ``orderly``."""
        if orderly:
            self.qmon.process.terminate()
            try:
                self.qmon.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.qmon.kill()
                raise AssertionError(f"{self.name} did not end on SIGTERM") from None
        else:
            self.qmon.kill()
        self.killed += 1
        self._trace.note(f"{self.name}: {'ended' if orderly else 'killed'}")

    def restart(self, *, renamed: bool) -> None:
        """Start it again, on images by other names where they are ``renamed``; then it exports its drives."""
        with self._lock:
            if renamed:
                for drive_id, path in self.images.items():
                    self.images[drive_id] = path.rename(path.with_name(f"again-{path.name}"))
            log = self._folder / f"{self.name}.log"
            self.logs.append(log.read_text())
            log.rename(self._folder / f"{self.name}.log.{self.killed}")
            self.qmon = self._launch()
            if not self._has_started():
                why = self.qmon.log().strip()
                self.gave_up = LOCKED in why
                assert self.gave_up, f"{self.name} did not start: {why}"
                self._trace.note(f"{self.name}: {why}")
                return
            self._trace.note(f"{self.name}: started again, it is {self.qmon.status()}")
            self.export()

    def _has_started(self) -> bool:
        """Wait until it has opened its monitor, or ended; say which."""
        while self.alive:
            with contextlib.suppress(OSError), HmpClient(self._folder / f"{self.name}.sock", 0):
                return True
            time.sleep(0.01)
        return False

    def look(self) -> View:
        with self._lock:
            if not self.alive:
                return DEAD
            try:
                return View(self.qmon.status(), self.qmon.migration())
            except (OSError, AssertionError) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.qmon.process.wait(
                        END_SECONDS
                    )  # it may have been killed at this moment, or be ending
                    return DEAD
                raise AssertionError(f"{self.name} does not answer: {error}") from error

    def close(self) -> list[str]:
        """End it; return what was wrong about that."""
        with contextlib.suppress(OSError):
            (self._folder / f"{self.name}.log").touch()
        if self.gave_up:
            self.qmon.process.wait()
            return []
        try:
            self.qmon.close()
        except AssertionError as error:
            return [f"{self.name}: {error}"]
        return [f"{self.name}: a traceback before it was killed" for log in self.logs if "Traceback" in log]


def uri_of(port: int) -> str:
    return f"tcp:127.0.0.1:{port}"


def on_another_host(folder: Path) -> list[str]:
    """What runs a program as on a host of its own: with another name, and with locks that keep nobody out."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(ANOTHER_HOST)
    return ["env", f"PYTHONPATH={site}"]


class Trial:
    """A run of ``scenario`` in ``folder``."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder
        self._trace = Trace()
        self._result = Result(scenario.seed, str(scenario))
        self._ready = threading.Event()
        self._ready.set()
        self._views = (DEAD, DEAD)
        self._kill_begun = threading.Event()
        self._kill_done = threading.Event()
        self._port = port = free_port()
        self._images = self._make_images()
        names = list(self._images[0])
        self._source = self._side("source", self._images[0])
        self._target = self._side(
            "target",
            self._images[1],
            ["-incoming", uri_of(port)],
            within=[] if scenario.locked else on_another_host(folder),
        )
        self._exports = [self._source.export_path, self._target.export_path]
        self._proxy = Proxy(
            port, self._rules(), refuse=scenario.refuse, on_signal=self._on_signal, trace=self._trace
        )
        contents = {name: disks.content(scenario.disks, path) for name, path in self._images[0].items()}
        self._writers = [
            Writer(
                self._exports,
                name,
                content,
                self._ready,
                scenario.seed + index,
                flush=self._loses_unflushed,
                expected=EXPECTED_ERRORS | ({errno.EIO} if self._forwards else set()),
            )
            for index, (name, content) in enumerate(contents.items())
        ]
        self._probes = [Probe(path, names[-1]) for path in self._exports]
        self._guests: list[Writer | Probe] = [*self._writers, *self._probes]
        self._begun: list[Writer | Probe] = []
        """Those of them that have been started."""

    @property
    def _format(self) -> str:
        return disks.format_of(self._scenario.disks)

    @property
    def _loses_unflushed(self) -> bool:
        """Whether a kill may lose what was not flushed: where the tables are in the process's memory."""
        return self._may_be_killed and self._format != disks.RAW

    @property
    def _forwards(self) -> bool:
        """Whether the source works on for its clients after the end; then EIO is an answer they may get."""
        return self._scenario.kind == "forward"

    @property
    def _may_be_killed(self) -> bool:
        return self._scenario.kill is not None or self._scenario.kind == "recover"

    def _side(
        self, name: str, images: dict[str, Path], options: Sequence[str] = (), within: Sequence[str] = ()
    ) -> Side:
        state = "state" if self._scenario.one_folder else f"{name}.state"
        given = ["-statedir", str(self._folder / state), *options]
        return Side(self._folder, name, images, self._format, given, self._trace, list(within))

    def _make_images(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Of both sides, by drive."""
        scenario = self._scenario
        chance = random.Random(scenario.seed)
        here, there = {}, {}
        for index, size in enumerate(self._scenario.sizes):
            name = f"d{index}"
            here[name] = disks.make_source(scenario.disks, self._folder, name, size, chance)
            if scenario.shared:
                there[name] = self._folder / f"target-{name}.img"
                there[name].hardlink_to(here[name])  # so that each side's name can change
            else:
                there[name] = disks.make_target(scenario.disks, self._folder, name, size, chance)
        return here, there

    def _rules(self) -> tuple[Rule, ...]:
        kill = self._scenario.kill
        if kill is not None:
            return () if kill.rule is None else (kill.rule,)
        return self._scenario.rules

    def run(self) -> Result:
        """Do it, check it, and end all that was started."""
        begun = time.monotonic()
        result = self._result
        with contextlib.ExitStack() as stack:
            stack.callback(self._end)
            try:
                self._prepare()
                migrated = time.monotonic()
                self._migrate()
                self._settle()
                result.settle_seconds = time.monotonic() - migrated
                self._judge()
            except AssertionError as error:
                result.problems.append(str(error))
        result.seconds = time.monotonic() - begun
        result.log = self._source.log + self._target.log
        if not result.problems:
            try:
                self._check_disks()
            except AssertionError as error:
                result.problems.append(str(error))
        if result.problems:
            self._keep_evidence()
        else:
            shutil.rmtree(self._folder)
        return result

    def _prepare(self) -> None:
        for side in (self._source, self._target):
            assert side.qmon.monitor.greeting
            side.export()
        if self._scenario.kind == "multifd":
            for side in (self._source, self._target):
                side.qmon.quietly(
                    "migrate_set_capability multifd on",
                    "migrate_set_parameter multifd-compression zlib",
                )
        if self._scenario.kind == "blocking":
            self._source.qmon.quietly("migrate_set_parameter x-qmon-copy-mode write-blocking")
            if self._scenario.seed % 2:
                self._hold_back()
        if not self._forwards:  # what the source answers then is not of its own disk
            self._source.qmon.quietly("migrate_set_capability x-qmon-forward off")
        if self._scenario.bandwidth:
            self._source.qmon.quietly(f"migrate_set_parameter max-bandwidth {self._scenario.bandwidth}M")
        if self._scenario.bitmaps:
            stored = self._format != disks.RAW
            bitmaps.add(self._source.qmon, self._target.qmon, self._images[0], stored=stored)
        for each in self._guests:
            each.start()
            self._begun.append(each)
        self._wait_writes(5)

    def _hold_back(self) -> None:
        """Have guests' writes held back soon, and by much."""
        self._source.qmon.quietly(
            "migrate_set_capability auto-converge on",
            "migrate_set_parameter throttle-trigger-threshold 1",
            "migrate_set_parameter cpu-throttle-initial 99",
        )

    def _wait_writes(self, more: int) -> None:
        wanted = [writer.acknowledged + more for writer in self._writers]
        deadline = time.monotonic() + PATIENCE
        while any(writer.acknowledged < least for writer, least in zip(self._writers, wanted, strict=True)):
            assert time.monotonic() < deadline, "guests can't write to the side that runs"
            time.sleep(0.005)

    def _destination(self) -> str:
        if self._scenario.kind == "exec":
            return f'"exec:socat - tcp:127.0.0.1:{self._proxy.port}"'
        return uri_of(self._proxy.port)

    def _migrate(self) -> None:
        self._trace.note("migrate")
        kill = self._scenario.kill
        try:
            self._source.qmon.quietly(f"{self._scenario.command} {self._destination()}")
        except ConnectionError:
            # The command has begun the migration, and a kill may come before its answer.
            if kill is None or self._source.name not in kill.victims or not self._kill_begun.is_set():
                raise
        if kill is not None and kill.rule is None:
            self._on_signal()

    # The kill.

    def _on_signal(self) -> None:
        """The place has been reached: what waits in the proxy goes on when this returns."""
        kill = self._scenario.kill
        assert kill is not None
        self._kill_begun.set()
        if kill.delay:
            threading.Timer(kill.delay, self._kill).start()
        else:
            self._kill()

    def _kill(self) -> None:
        kill = self._scenario.kill
        assert kill is not None
        self._ready.clear()
        try:
            for side in (self._source, self._target):
                if side.name in kill.victims:
                    side.kill(orderly=kill.orderly)
        except AssertionError as error:
            self._result.problems.append(str(error))
        threading.Thread(target=self._restart).start()

    def _restart(self) -> None:
        kill = self._scenario.kill
        assert kill is not None
        time.sleep(kill.away)
        try:
            for side in (self._source, self._target):
                if side.name in kill.restarted:
                    side.restart(renamed=kill.renamed)
        except (OSError, AssertionError) as error:
            self._result.problems.append(f"a restart failed: {error}")
        self._ready.set()
        self._kill_done.set()

    # The end.

    def _observe(self) -> tuple[View, View]:
        """Look at both, the destination first: once it runs the source must not any more."""
        target = self._target.look()
        source = self._source.look()
        views = (source, target)
        if views != self._views:
            self._trace.note(
                f"source {source.status}, {source.migration}; target {target.status}, {target.migration}"
            )
            self._views = views
        assert not (source.runs and target.runs), "both sides say that they run"
        return views

    def _settle(self) -> None:
        """Wait for the last state: one runs, or nobody is left who could."""
        changed = time.monotonic()
        faults = {rule.fault for rule in self._rules()}
        patience = FLIP_SECONDS if Fault.FLIP in faults else SETTLE_SECONDS
        deadline = changed + (SLOW_SECONDS if Fault.SLOW in faults else patience) + self._scenario.refuse
        while True:
            before = self._views
            views = self._observe()
            now = time.monotonic()
            if views != before:
                changed = now
            source, target = views
            if now > deadline and Fault.SLOW in faults and source.phase == "active":
                self._source.qmon.quietly("migrate_cancel")
                self._proxy.cut()  # what the source has closed would go on for minutes there
                deadline = now + SETTLE_SECONDS
                continue
            if now > deadline:
                return
            if self._kill_begun.is_set() and not self._kill_done.is_set():
                time.sleep(0.01)
                continue
            if target.runs and (source.status == MOVED or source is DEAD):
                return
            still = now - changed
            is_under_way = source.phase in UNDER_WAY or target.phase in UNDER_WAY
            stays = source.runs and source.phase in ("failed", "cancelled", "none")
            is_told = target is DEAD or target.phase == "failed" or (still > 0.5 and self._has_said(target))
            if stays and is_told and not is_under_way:
                return
            over = DEAD in views or self._has_ended(source, target)
            if over and still > STILL_SECONDS and not is_under_way:
                return
            time.sleep(0.01)

    def _has_said(self, target: View) -> bool:
        """Whether the destination has said why a migration did not arrive, if it need say so."""
        # A connection that never said hello is told of on stderr only.
        is_told = target.phase == "failed" or "incoming migration" in self._target.log
        return is_told or self._target.killed > 0 or not self._proxy.connections

    def _has_ended(self, source: View, target: View) -> bool:
        """Whether the destination ran, was ended in good order, and waits as any fresh one would."""
        is_fresh = target.status == WAITING and target.phase == "none" and self._target.killed > 0
        return self._is_orderly and is_fresh and source.status == MOVED

    @property
    def _is_orderly(self) -> bool:
        kill = self._scenario.kill
        return kill is not None and kill.orderly

    def _judge(self) -> None:
        """What is promised of the last state."""
        source, target = self._observe()
        result = self._result
        again = self._proxy.connections > 1 or self._source.killed + self._target.killed
        if target.runs:
            result.outcome = "resolved by asking again" if again else "completed"
            if source is not DEAD and source.status != MOVED:
                result.outcome = "doubt at the source"
                raise AssertionError(
                    f"the destination runs, the source is {source.status}, {source.migration}"
                )
            self._wait_writes(3)
        elif source.runs:
            result.outcome = f"{source.phase}, runs on"
            self._wait_writes(3)
        elif source is DEAD and target is DEAD:
            result.outcome = "both dead"
        elif source is DEAD or target is DEAD:
            left = target if source is DEAD else source
            result.outcome = f"{'source' if source is DEAD else 'target'} dead, the other waits"
            result.problems += [f"{left} runs nowhere"] * left.runs
        elif self._has_ended(source, target):
            result.outcome = "completed, and ended"
        else:
            result.outcome = "doubt"
            result.problems.append(f"nobody runs: source {source}, target {target}")
        if self._scenario.bitmaps and (source.runs or target.runs):
            result.problems += self._check_bitmaps(self._target if target.runs else self._source)
        result.problems += self._check_reasons(source, target)
        result.problems += self._check_flip(target)
        self._observe()

    def _check_bitmaps(self, side: Side) -> list[str]:
        """What the bitmaps of the side that runs lack. A kill may lose those that were in memory."""
        kill = self._scenario.kill
        names = bitmaps.names(stored=self._format != disks.RAW)
        is_victim = kill is not None and side.name in kill.victims
        is_lost = is_victim or side.killed or (self._scenario.kind == "recover" and self._source.killed)
        try:
            return [
                problem
                for writer, name in zip(self._writers, self._images[0], strict=True)
                for problem in bitmaps.lost(
                    side.qmon, name, list(writer.ledger.writes), () if is_lost else names
                )
            ]
        except (OSError, AssertionError, CommandError):
            if not (is_victim and self._kill_begun.is_set()):
                raise
            return []  # it was killed just now: some places are reached after it has completed

    def _check_reasons(self, source: View, target: View) -> list[str]:
        problems = []
        for name, view in (("source", source), ("target", target)):
            if view.phase == "failed" and not view.migration.partition(" (")[2].strip(")"):
                problems.append(f"{name}: failed without a reason")
            if view.phase in UNDER_WAY:
                problems.append(f"{name}: the migration is still {view.migration}")
        if source.runs and not self._source.killed and source.phase not in ("failed", "cancelled"):
            problems.append(f"source: runs on, but its migration is {source.migration}")
        if source.runs and not target.runs and target is not DEAD and not self._has_said(target):
            problems.append(f"target: no reason given, it is {target.migration}")
        return problems

    def _check_flip(self, target: View) -> list[str]:
        """A bit that flipped before GO must have ended that connection, and so must one in RUNNING."""
        if self._proxy.connections != 1 or not target.runs:
            return []
        return [
            f"a flipped bit went unnoticed: {rule}"
            for rule in self._proxy.acted
            if rule.fault is Fault.FLIP and not _behind_go(rule.place)
        ]

    def _check_disks(self) -> None:
        """Compare with what was acknowledged, on the side that runs, or that would."""
        result = self._result
        result.acknowledged = sum(writer.acknowledged for writer in self._writers)
        images = self._images[1 if self._target_ran() else 0]
        longest = max(writer.longest_wait for writer in self._writers)
        if self._scenario.kind == "slow" and longest > LONGEST_WAIT:
            result.problems.append(f"a guest's write waited for {longest:.1f} s")
        for writer, (name, path) in zip(self._writers, images.items(), strict=True):
            kind = self._scenario.disks
            disks.check_image(kind, path, leaks=self._may_be_killed)
            wrong = writer.ledger.wrong(disks.content(kind, path))
            if wrong:
                result.problems.append(f"{name} of {path.name}: {len(wrong)} wrong sectors, {wrong[0]}")
            result.problems += [f"{name}: {error}" for error in writer.errors]

    def _target_ran(self) -> bool:
        """Whether guests may have been served over there: what they wrote is there then, and only there."""
        wrote = any(write.side for writer in self._writers for write in writer.ledger.writes)
        has_ended = self._result.outcome == "completed, and ended"
        return self._views[1].runs or wrote or bool(self._probes[1].served) or has_ended

    def _end(self) -> None:
        """End all, the processes first where a guest is held."""
        problems = self._result.problems
        for each in self._begun:
            each.stop()
        if self._kill_begun.is_set() and not self._kill_done.wait(2 * PATIENCE):
            problems.append("the kill or the restart did not come to an end")
        self._ready.set()
        source, target = self._views
        if source.runs or target.runs:
            for writer in self._writers:
                if not writer.join(PATIENCE):
                    problems.append("a guest of the side that runs waits for ever")
        for side in (self._source, self._target):
            problems += side.close()
        problems += self._leftovers()
        self._proxy.__exit__()
        for each in self._begun:
            each.join()
        both = overlap(*self._probes)
        if both and not self._forwards:  # the source answers what is read elsewhere
            problems.append(both)
        for side in (self._source, self._target):
            if side.gave_up and not self._scenario.shared:
                problems.append(f"{side.name}: an image of its own is locked")
        self._result.rule = self._acted()

    def _leftovers(self) -> list[str]:
        """End what still runs in this folder; there should be nothing."""
        problems = []
        mine = f"{self._folder}/".encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has just ended
                if mine in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    problems.append(f"process {path.parent.name} was left")
        return problems

    def _acted(self) -> str:
        kill = self._scenario.kill
        if kill is not None:
            return f"kill {'+'.join(kill.victims)}" if self._kill_done.is_set() else "not reached"
        return self._proxy.acted[0].fault.value if self._proxy.acted else "not reached"

    def _keep_evidence(self) -> None:
        result = self._result
        lines = [result.scenario, *self._trace.lines, "", *result.problems]
        for side in (self._source, self._target):
            lines += ["", f"== {side.name} ==", side.log]
        for writer in self._writers:
            lines += ["", f"== last writes, {writer.acknowledged} acknowledged =="]
            lines += [str(write) for write in writer.ledger.writes[-5:]]
        (self._folder / "trace.txt").write_text("\n".join(lines) + "\n")
        result.evidence = str(self._folder)


def _behind_go(place: Place) -> bool:
    """Whether what lies there may be lost without harm: that the answer was heard, and the stream's end."""
    if place.landmark in ("FORWARD", "TAKES REQUESTS"):
        return True
    is_behind = place.landmark == "HEARD" or (place.landmark == "GO" and place.offset >= GO_SIZE)
    return place.way is Way.STREAM and is_behind


def try_out(scenario: Scenario, folder: Path) -> Result:
    """Run a scenario in a fresh folder, which stays when a promise was broken."""
    folder.mkdir(parents=True)
    return Trial(scenario, folder).run()
