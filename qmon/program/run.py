"""A running qmon: starts the machine and the monitors that the options name, and ends them together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from qmon.chardev.chardevs import Chardevs
from qmon.errors import Problems, QmonError
from qmon.hmp.monitor import Monitor
from qmon.hmp.prompt import BANNER
from qmon.host.logs import Log
from qmon.host.paths import has_home, state_folder
from qmon.host.threads import Workers, start_thread
from qmon.machine.embedded import EmbeddedMachine
from qmon.machine.output_file import open_output_file
from qmon.notation.device_options import MonitorMode
from qmon.program.consoles import Consoles
from qmon.program.daemon import PidFile
from qmon.program.exposed import make_exposure
from qmon.program.files import read_console_settings, read_tables, read_user_config
from qmon.program.hangup import Hangup, is_heard
from qmon.program.options import Options
from qmon.program.user_config import UserConfig

if TYPE_CHECKING:
    from qmon.program.daemon import Launcher
    from qmon.program.front import Front

SWITCH_SECONDS = 0.0002
"""Python's default is 5 ms: too long for a migration while its progress is queried often."""


class Program:
    """One qmon process, from its options to its end."""

    def __init__(self, options: Options, launcher: Launcher | None, front: Front | None) -> None:
        self._options = options
        self._launcher = launcher
        self._front = front

    async def run(self) -> int:
        """Start, serve until qmon is asked to quit, clean up; return the exit status.

        Raises CommandError, UsageError, HxError or OSError when it can't start.
        """
        options = self._options
        tables = read_tables(options.hx)
        config = read_user_config(options)
        log = Log()
        log.start(options.logfile, lambda path: open_output_file(path, (), os.O_APPEND))
        folder = Path(options.statedir) if options.statedir else state_folder()
        machine = EmbeddedMachine(
            name=options.name,
            uuid=options.uuid,
            incoming=options.incoming,
            paused=options.paused,
            state_folder=folder,
            log=log,
            exposure=make_exposure(options),
        )
        # After a system call a data thread waits at most this long for the loop's thread.
        sys.setswitchinterval(SWITCH_SECONDS)
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Workers(4, "waiting"))
        for number in (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if is_heard() else [])):
            loop.add_signal_handler(number, machine.request_quit)
        async with contextlib.AsyncExitStack() as stack:
            if self._front is not None:
                self._front.watch()
                stack.callback(self._front.wake)
            if options.pidfile is not None:
                stack.callback(PidFile(options.pidfile).remove)
            stack.push_async_callback(machine.close)
            machine.add_descriptors(options.descriptors)
            problems = Problems()
            for arguments in options.objects:
                with problems.noting():
                    await machine.registry.execute("object-add", arguments)
            if options.chardevs:
                making = asyncio.create_task(self._make_chardevs(machine.chardevs, problems))
                if not await _unless(machine, making):
                    return 0
            with problems.noting():
                await config.set_parameters(machine.registry)
            with problems.noting():
                await machine.start(options.drives, may_run=lambda: not problems.found)
            problems.check()
            monitor = Monitor(machine.registry, tables)
            monitor.open_output = machine.open_appending
            if options.trace_qmp:
                monitor.trace(lambda text: print(text, file=sys.stderr, flush=True))
            self._attach(monitor, machine.chardevs)
            consoles = Consoles(monitor)
            stack.push_async_callback(consoles.close)
            if options.statedir or has_home():
                consoles.open(folder, options.name, tells=options.daemonize)
            return await self._serve(machine, monitor, config)

    async def _make_chardevs(self, chardevs: Chardevs, problems: Problems) -> None:
        """Make the character devices of the monitors; wait for clients of those with ``wait=on``.

        Problems name the option.
        """
        for made in self._options.chardevs:
            try:
                if made.options.kind == "stdio" and self._options.stdin_monitor:
                    chardevs.reserve_stdio(made.options.id)
                    continue
                chardev = await chardevs.make(made.options)
            except QmonError as error:
                problems.found.append(f"{made.shown}: {error}")
                continue
            if chardev.kind == "pty":
                path = chardev.filename.removeprefix("pty:")
                print(f"char device redirected to {path} (label {chardev.label})", flush=True)

    def _attach(self, monitor: Monitor, chardevs: Chardevs) -> None:
        for each in self._options.monitors:
            chardev = chardevs.get(each.chardev)
            if each.mode is MonitorMode.CONTROL:
                from qmon.hmp.fronts.passed_line import PassedLines
                from qmon.qmp.server import QmpServer

                run_line = PassedLines(monitor).run
                chardev.attach(QmpServer(monitor.target, run_line, pretty=each.pretty).serve)
            elif chardev.kind != "stdio":
                from qmon.hmp.fronts.socket_monitor import SocketMonitor

                chardev.attach(SocketMonitor(monitor).serve)
                start_thread(threading.Thread(target=monitor.prepare, name="monitor-tables", daemon=True))

    async def _serve(self, machine: EmbeddedMachine, monitor: Monitor, config: UserConfig) -> int:
        """Run the scripts, go to the background, or run the monitor on stdin; return the exit status."""
        options = self._options
        hangup = Hangup(machine, options.monitors_elsewhere)
        hangup.listen()
        on_terminal = options.stdin_monitor and sys.stdin.isatty() and sys.stdout.isatty()
        stays = options.other_monitors or options.daemonize or on_terminal
        status = 0
        if options.scripts or (options.stdin_monitor and not on_terminal):
            from qmon.hmp.scripts import Script
            from qmon.program.script_run import ScriptRun, open_scripts

            scripts = await asyncio.to_thread(open_scripts, options.scripts)
            if options.stdin_monitor and not on_terminal:
                scripts.append(Script("stdin", sys.stdin))
            run = ScriptRun(machine, monitor, options)
            for script in scripts:
                if not await run.run(script):
                    return await run.end()
            if hangup.terminal_has_gone:
                await hangup.settle()
            if machine.is_quitting or not (stays or hangup.goes_on or await run.waits()):
                return await run.end()
            run.sum_up()
            status = run.status
        if self._launcher is not None:
            self._launcher.ready()
        if on_terminal and not hangup.goes_on:
            await self._serve_terminal(machine, monitor, hangup, config)
        await machine.wait_quit()
        return status

    async def _serve_terminal(
        self, machine: EmbeddedMachine, monitor: Monitor, hangup: Hangup, config: UserConfig
    ) -> None:
        from qmon.console.history import default_path
        from qmon.console.session import Console

        if self._front is not None:
            try:
                if not await _unless(machine, asyncio.create_task(self._front.have_terminal())):
                    return
            except OSError:
                await hangup.settle()
                return
        quiet = self._options.quiet
        quit_requested = asyncio.Event()
        waiter = asyncio.create_task(machine.wait_quit())
        waiter.add_done_callback(lambda task: quit_requested.set())
        hangup.console = console = Console(
            monitor,
            history_path=default_path(self._options.name or ""),
            quit_requested=quit_requested,
            greeting="" if quiet else f"{BANNER}, 'help moving' to migrate",
            quiet=quiet,
            assume_yes=self._options.assume_yes,
            settings=read_console_settings(config, self._options),
            shell=self._front,
        )
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, console.interrupt_program)
        try:
            await console.run()
        finally:
            loop.add_signal_handler(signal.SIGINT, machine.request_quit)
            waiter.cancel()
            hangup.console = None
        if not machine.is_quitting:
            await hangup.settle()


async def _unless(machine: EmbeddedMachine, work: asyncio.Task[None]) -> bool:
    """Wait for work or the machine's end; return whether the work is done. Raises what the work raises."""
    end = asyncio.create_task(machine.wait_quit())
    await asyncio.wait([work, end], return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if not work.done():
        work.cancel()
        await asyncio.wait([work])
        return False
    work.result()
    return True
