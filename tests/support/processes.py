"""Real qmon processes for a test: started with their monitors on sockets, and ended by their process ids."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from qmon.errors import CommandError
from qmon.migration.patience import PATIENCE as TIME_LIMITS
from qmon.migration.patience import Patience
from tests.support.coverage import CONFIGURATION
from tests.support.guest import Guest
from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled
from tests.support.qmp_client import QmpClient
from tests.support.starter import Forked, starter, with_patience
from tests.support.thoroughness import THOROUGH
from tests.support.waiting import PATIENCE, eventually

QMON = [sys.executable, "-m", "qmon"]
START_PATIENCE = 4 * PATIENCE
"""Seconds in which a qmon starts, be it one of many on a machine that has much else to do."""

CHECKOUT = Path(__file__).parents[2]


def may_fork() -> bool:
    """Whether processes are forked: not where all is to be as it is for a user, or coverage is measured."""
    return not THOROUGH and CONFIGURATION not in os.environ


class Qmon:
    """A qmon process in ``folder`` with its monitor on ``NAME.sock`` and QMP on ``NAME.qmp``.

    ``within`` is a command that runs another as its own process, on another host for instance; ``program``
    starts qmon. ``anew``: it is not forked by ``starter``. ``patience`` has its migrations' time limits.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        options: Sequence[str],
        within: Sequence[str] = (),
        program: Sequence[str] = QMON,
        *,
        anew: bool = False,
        patience: Patience = TIME_LIMITS,
    ) -> None:
        self.name = name
        self.folder = folder
        self.nbd = folder / f"{name}.nbd"
        self.qmp_path = folder / f"{name}.qmp"
        self._log = folder / f"{name}.log"
        self._path = folder / f"{name}.sock"
        sockets = ["-monitor", f"unix:{self._path},server,nowait"]
        sockets += ["-qmp", f"unix:{self.qmp_path},server,nowait"]
        words = ["-statedir", str(folder / "state"), *options, *sockets]
        with self._log.open("wb") as log, open(os.devnull, "rb") as nothing:
            self.process: subprocess.Popen[bytes] | Forked
            if anew or within or program != QMON or not may_fork():
                own = [*program, *words] if patience == TIME_LIMITS else with_patience(patience, words)
                command = [*within, *own]
                self.process = subprocess.Popen(command, cwd=CHECKOUT, stdin=nothing, stdout=log, stderr=log)
            else:
                streams = [nothing.fileno(), log.fileno(), log.fileno()]
                self.process = starter().start(words, cwd=CHECKOUT, streams=streams, patience=patience)
        self._closed = False

    @cached_property
    def monitor(self) -> HmpClient:
        """Its monitor, once it answers; while it lives, it may take its time to start."""
        deadline = time.monotonic() + START_PATIENCE
        while True:
            has_ended = self.process.poll() is not None
            try:
                return HmpClient(self._path, 0)
            except OSError as error:
                if has_ended or time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError(f"{self.name} did not start: {self.log()}") from error
            time.sleep(0.01)

    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    def command(self, line: str) -> str:
        """Give a line to its monitor; return what it prints."""
        return self.monitor.command(line)

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command in a connection of its own; return its result. Raises CommandError.

        An underscore in an argument's name is a hyphen.
        """
        with QmpClient(self.qmp_path) as client:
            return client.run(command, **arguments)

    def qmp_error(self, command: str, **arguments: Any) -> str:
        """What a QMP command that must fail says."""
        try:
            self.qmp(command, **arguments)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"{command} has not failed")

    def fault(self, operation: str, **more: Any) -> str:
        """Inject a fault into d0; return its id."""
        return str(self.qmp("x-qmon-fault-add", drive="d0", operation=operation, **more)["id"])

    @contextlib.contextmanager
    def held(self, operation: str) -> Iterator[None]:
        """Within the block no request of a kind to d0 ends, and no migration of it."""
        fault = self.fault(operation, delay=3600_000)
        yield
        self.qmp("x-qmon-fault-del", id=fault)

    def quietly(self, *lines: str) -> None:
        """Give lines that print nothing when all is well."""
        for line in lines:
            assert self.command(line) == "", line

    def export(self, *drives: str) -> None:
        """Serve drives to guests, writable."""
        self.quietly(f"nbd_server_start unix:{self.nbd}", *(f"nbd_server_add -w {name}" for name in drives))

    def guest(self, drive: str = "d0") -> Guest:
        """A guest of an exported drive."""
        return Guest(self.nbd, drive)

    def status(self) -> str:
        """The run state."""
        return self.command("info status").removeprefix("VM status: ")

    def figures(self) -> dict[str, str]:
        """``info migrate`` by its names; the values keep their units."""
        lines = self.command("info migrate").splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def migration(self) -> str:
        """The migration's status, with the reason where it failed; ``none`` before the first."""
        return self.figures().get("Migration status", "none")

    def kbytes(self, what: str) -> int:
        """One of the disk figures of ``info migrate``."""
        return int(self.figures()[what].removesuffix(" kbytes"))

    def wait_migration(self, *wanted: str, patience: float = PATIENCE) -> str:
        """Wait for one of the migration's statuses; return what there was, with its reason."""
        seen = ""

        def reached() -> bool:
            nonlocal seen
            seen = self.migration()
            return seen.split(" (")[0] in wanted

        deadline = time.monotonic() + patience
        while not reached():
            final = seen.split(" (")[0] in ("completed", "failed", "cancelled")
            if final or time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: migration is '{seen}', wanted {wanted}\n{self.log()}")
            time.sleep(0.01)
        return seen

    def wait_status(self, wanted: str) -> None:
        eventually(lambda: self.status() == wanted, f"{self.name} is {wanted}")

    def wait_log(self, text: str) -> None:
        eventually(lambda: text in self.log(), f"'{text}' in the log of {self.name}")

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, if it still runs; it does so cleanly and at once."""
        if self._closed:
            return
        self._closed = True
        if "monitor" in self.__dict__:
            self.monitor.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end on SIGTERM\n{self.log()}") from None
        assert status in (0, -signal.SIGKILL), f"{self.name} ended with {status}\n{self.log()}"
        assert "Traceback" not in self.log(), self.log()


class Lab:
    """A folder with the processes of one test; all have ended when it is left."""

    def __init__(self, folder: Path, program: Sequence[str] = QMON) -> None:
        self.folder = folder
        self._program = program
        self.state = folder / "state"
        """Where all of them keep their records."""
        self.patience = TIME_LIMITS
        """The time limits of their migrations. A test shortens one that it would have to sit out."""
        self._started: list[Qmon] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            for each in self._started:
                stack.callback(each.close)

    def start(self, name: str, *options: str, within: Sequence[str] = (), anew: bool = False) -> Qmon:
        """Start a qmon; it answers on its monitor when this returns."""
        qmon = self.launch(name, *options, within=within, anew=anew)
        assert qmon.monitor.greeting
        return qmon

    def launch(self, name: str, *options: str, within: Sequence[str] = (), anew: bool = False) -> Qmon:
        """Begin to start a qmon, to be waited for by its ``monitor``."""
        qmon = Qmon(self.folder, name, options, within, self._program, anew=anew, patience=self.patience)
        self._started.append(qmon)
        return qmon

    def pair(
        self,
        source: Sequence[str],
        target: Sequence[str],
        *,
        bandwidth: str | None = None,
    ) -> tuple[Qmon, Qmon, str]:
        """A source, a destination that waits for it on a Unix socket, and the URI from one to the other."""
        uri = f"unix:{self.folder / 'migrate.sock'}"
        there = self.launch("target", *target, "-incoming", uri)
        here = self.launch("source", *source)
        assert there.monitor.greeting
        assert here.monitor.greeting
        if bandwidth is not None:
            here.quietly(f"migrate_set_parameter max-bandwidth {bandwidth}")
        return here, there, uri

    def disk_pair(
        self, size: int = 16 * MIB, *, seed: int = 1, bandwidth: str | None = None
    ) -> tuple[Qmon, Qmon, str]:
        """A pair with a disk of noise at the source and an empty one at the destination, exported."""
        image = filled(self.folder / "source.img", size, seed)
        empty = blank(self.folder / "target.img", size)
        source, target, uri = self.pair(drive(image), drive(empty), bandwidth=bandwidth)
        source.export("d0")
        target.export("d0")
        return source, target, uri


def migrated(source: Qmon, target: Qmon, line: str, patience: float = PATIENCE) -> None:
    """Run a ``migrate -d`` line to its good end on both sides."""
    source.quietly(line)
    source.wait_migration("completed", patience=patience)
    target.wait_migration("completed")
    eventually(lambda: target.status() in ("running", "paused"), "the destination has taken over")


def open_descriptors(pid: int) -> list[str]:
    """What a process has open, but for its own modules, which come and go while they are imported."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed just now
            found.append(os.readlink(entry))
    return sorted(name for name in found if not name.startswith((str(CHECKOUT), sys.prefix, sys.base_prefix)))


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
