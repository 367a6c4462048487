"""``-connect``: a console, or scripts, on a program that runs already. Leaving it ends nothing there."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qmon.errors import CommandError, QmonError, reason
from qmon.hmp.monitor import Monitor
from qmon.hmp.prompt import prompt_of
from qmon.hmp.record import open_appending
from qmon.host.logs import Log
from qmon.host.paths import state_folder
from qmon.host.threads import Workers
from qmon.migration.wire.transport import DEFER
from qmon.notation.address import InetAddress
from qmon.notation.plain_text import one_line
from qmon.program.exposed import make_exposure
from qmon.program.files import read_console_settings, read_tables, read_user_config
from qmon.program.hangup import is_heard
from qmon.program.moving import Stay, listen, listening_lines, take_up, tell_notices
from qmon.program.neighbour import Neighbour
from qmon.program.options import Options
from qmon.program.script_run import ScriptRun, open_scripts
from qmon.program.user_config import UserConfig
from qmon.qmp.target import Event, Kind, ask, kind_of
from qmon.remote.address import Kind as AddressKind
from qmon.remote.address import RemoteAddress
from qmon.remote.greeting import Patience
from qmon.remote.opening import make_remote
from qmon.remote.remote import BACK, Remote

if TYPE_CHECKING:
    from qmon.program.front import Front

INTERRUPTED = 128 + signal.SIGINT
"""The exit status that shells show for a process that SIGINT ended."""

_PROGRAMS = {Kind.QMON: "qmon", Kind.QEMU: "QEMU", Kind.STORAGE_DAEMON: "qemu-storage-daemon"}

_NO_GUEST = {
    Kind.QMON: "it listens itself: start it with -incoming, or use migrate_incoming",
    Kind.STORAGE_DAEMON: "it has no guest: export its disks and use drive_mirror at the source",
}
"""Why ``-incoming`` is not possible there."""

_logger = logging.getLogger(__name__)


class ConnectedProgram:
    """One qmon process that is connected to another program, from its options to its end."""

    def __init__(self, options: Options, address: RemoteAddress, front: Front | None) -> None:
        self._options = options
        self._is_on_terminal = options.stdin_monitor and sys.stdin.isatty() and sys.stdout.isatty()
        patience = Patience(_tell, None) if self._is_on_terminal else Patience()
        self._neighbour = Neighbour(Path(options.statedir).absolute() if options.statedir else state_folder())
        secure, self._credentials = None, None
        if options.objects or address.tls_creds is not None:
            from qmon.program.credentials import OwnCredentials, make_secure

            self._credentials = OwnCredentials(options)
            if address.tls_creds is not None:
                secure = make_secure(self._credentials, address)
        self._remote: Remote = make_remote(
            address, patience, self._neighbour.find, is_brief=options.brief, secure=secure
        )
        self._front = front
        self._exposure = make_exposure(options)
        self._leaving = asyncio.Event()
        self._found: list[str] = []
        """What is to be said of a migration that an earlier console has left."""
        self._meeting: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Connect, serve until the person leaves or the other program ends; return the exit status.

        Raises QmonError or OSError when it can't start.
        """
        options = self._options
        tables = read_tables(options.hx)
        config = read_user_config(options)
        log = Log()
        log.start(options.logfile, open_appending)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Workers(4, "waiting"))
        for number in (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if is_heard() else [])):
            loop.add_signal_handler(number, self._leaving.set)
        try:
            if not await self._open():
                return INTERRUPTED
            await self._take_hold()
            monitor = Monitor(self._remote, tables)
            monitor.connected_to = str(self._remote.address)
            monitor.leave = self._leaving.set
            await monitor.meet_target()
            if options.trace_qmp:
                monitor.trace(lambda text: print(text, file=sys.stderr, flush=True))
            return await self._serve(monitor, config)
        finally:
            if self._front is not None:
                self._front.wake()
            await self._remote.close()
            log.close()

    async def _open(self) -> bool:
        """Connect; return whether the person has waited for it. Raises QmonError."""
        place = self._remote.address.place
        if isinstance(place, InetAddress):
            await asyncio.to_thread(
                self._exposure.check_connecting,
                place,
                "-connect: the connection",
                has_tls=self._remote.address.tls_creds is not None,
            )
        opening = asyncio.create_task(self._remote.open())
        leaving = asyncio.create_task(self._leaving.wait())
        await asyncio.wait([opening, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if opening.done():
            opening.result()
            return True
        opening.cancel()
        await asyncio.wait([opening])
        return False

    async def _take_hold(self) -> None:
        """Make ready to move a QEMU's guest, or to wait for one (``-incoming``). Raises QmonError."""
        kind, incoming = kind_of(self._remote), self._options.incoming
        if incoming is not None and kind is not Kind.QEMU:
            raise QmonError(f"-incoming: {self._remote.address} is a {_PROGRAMS[kind]}: {_NO_GUEST[kind]}")
        if kind is not Kind.QEMU or self._options.brief or self._remote.address.kind is AddressKind.HMP:
            return
        from qmon.remote.migration.target import MigratingTarget

        self._remote = target = MigratingTarget(
            self._remote, self._exposure, self._credentials, is_destination=incoming is not None
        )
        self._found = await take_up(target)
        if incoming is not None and not target.has_record:
            await listen(target, incoming)

    @property
    def is_quitting(self) -> bool:
        return self._leaving.is_set() or self._remote.ended.is_set()

    @property
    def why_broken_off(self) -> str:
        remote = self._remote
        return (
            f"the connection to {remote.address} was lost: {remote.why_lost}" if remote.ended.is_set() else ""
        )

    async def wait_quit(self) -> None:
        """Wait until the person leaves, or the connection is gone for good."""
        waiters = [asyncio.create_task(each.wait()) for each in (self._leaving, self._remote.ended)]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiters:
                each.cancel()

    async def _serve(self, monitor: Monitor, config: UserConfig) -> int:
        if not self._is_on_terminal:
            return await self._run_scripts(monitor)
        self._remote.reconnects = self._remote.address.is_lasting
        unsubscribe = self._remote.subscribe(lambda event: self._hear(event, monitor))
        try:
            await self._serve_terminal(monitor, config)
        finally:
            unsubscribe()
        return 0

    def _hear(self, event: Event, monitor: Monitor) -> None:
        if event.name == BACK:
            self._meeting = asyncio.create_task(self._meet_again(monitor))

    async def _meet_again(self, monitor: Monitor) -> None:
        """Learn the commands anew: another version may have been started at the address."""
        if folder := self._neighbour.enter():
            _tell(folder)
        try:
            await monitor.meet_target()
        except CommandError as error:
            _logger.warning("the commands of %s are not known: %s", self._remote.address, reason(error))

    async def _run_scripts(self, monitor: Monitor) -> int:
        from qmon.hmp.scripts import Script

        options = self._options
        scripts = await asyncio.to_thread(open_scripts, options.scripts)
        if options.stdin_monitor:
            scripts.append(Script("stdin", sys.stdin))
        if (where := self._neighbour.where) and not options.quiet:
            _tell(where)
        if not options.quiet:
            tell_notices(monitor.target)
            for line in [*self._found, *await listening_lines(monitor.target)]:
                _tell(line)
        run = ScriptRun(self, monitor, options)
        for script in scripts:
            if not await run.run(script):
                break
        run.sum_up()
        has_quit = monitor.quitting and not self._leaving.is_set()
        is_over = has_quit or self._remote.ended.is_set()
        listens = options.incoming not in (None, DEFER) and not run.status
        stay = Stay(monitor.target, self, listens=listens, is_quiet=options.quiet)
        return max(run.status, 0 if is_over else await stay.wait())

    async def _serve_terminal(self, monitor: Monitor, config: UserConfig) -> None:
        from qmon.console.history import default_path
        from qmon.console.session import Console

        if self._front is not None:
            self._front.watch()
            try:
                await self._front.have_terminal()
            except OSError:
                return  # the terminal has gone
        options = self._options
        name = await self._name()
        found = [*self._found, *await listening_lines(monitor.target)]
        folder = self._neighbour.enter()
        quit_requested = asyncio.Event()
        waiter = asyncio.create_task(self.wait_quit())
        waiter.add_done_callback(lambda task: quit_requested.set())
        console = Console(
            monitor,
            history_path=default_path(options.name or str(self._remote.address)),
            quit_requested=quit_requested,
            greeting="" if options.quiet else "\n".join([self._greeting(name, folder), *found]),
            quiet=options.quiet,
            assume_yes=options.assume_yes,
            settings=read_console_settings(config, options),
            shell=self._front,
            leave=self._leaving.set,
            prompt=prompt_of(name or self._remote.address.short),
            unwatched="not connected between lines (-brief)" if options.brief else "",
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, console.interrupt_program)
        try:
            await console.run()
        finally:
            loop.add_signal_handler(signal.SIGINT, self._leaving.set)
            waiter.cancel()

    async def _name(self) -> str:
        """Return the machine's name, "" if it has none."""
        try:
            answer = await ask(self._remote, "query-name", {})
        except CommandError:
            return ""
        return str(answer.get("name", "")) if isinstance(answer, dict) else ""

    def _greeting(self, name: str, folder: str) -> str:
        what = _PROGRAMS[kind_of(self._remote)]
        numbers = self._remote.version.get("qemu")
        if what != "qmon" and isinstance(numbers, Mapping):
            what += f" {'.'.join(str(numbers.get(each)) for each in ('major', 'minor', 'micro'))}"
        address = str(self._remote.address)
        where = "" if address == name else f" at {address}"
        greeting = one_line(f"Connected to {f'{name} ({what})' if name else what}{where}")
        lines = [greeting, "Ctrl-D leaves it running, 'quit' ends it"]
        if self._options.brief:
            lines.append("Each line connects and lets go (-brief): no events are told, no state is shown")
        return "\n".join([*lines, *([f"{folder[0].upper()}{folder[1:]}"] if folder else [])])


def _tell(text: str) -> None:
    print(f"qmon: {text}", file=sys.stderr, flush=True)
