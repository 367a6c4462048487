"""Ctrl-Z at a terminal: the shell gets its terminal back while the machine goes on.

A shell takes the terminal back when its child stops, and the process that serves the disks must not stop.
So the child forks, and only waits: it is the front. The process that it forks is the machine. Both are in the
process group that the shell made. On Ctrl-Z the machine leaves the group and stops it. ``fg`` makes the group
the terminal's and continues it, and the machine joins it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator

_PASSED_ON = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
_AWAITED = {*_PASSED_ON, signal.SIGCHLD, signal.SIGQUIT, signal.SIGTSTP}
_SI_KERNEL = 0x80
"""``si_code`` of a signal from the terminal, which the machine gets, too (Linux, asm-generic/siginfo.h)."""

_OF_BACKGROUND = (signal.SIGTTIN, signal.SIGTTOU)
_LOOK_SECONDS = 0.1
_LEAVE_SECONDS = 0.5
"""How long to wait for the end of a shell that has sent SIGTERM to its stopped jobs."""


def is_needed() -> bool:
    """Whether there may be a shell that takes the terminal back: a session leader was not started by one."""
    try:
        os.tcgetpgrp(0)  # fails if standard input is not the session's terminal
    except OSError:
        return False
    return os.getsid(0) != os.getpid()


class Front:
    """Forks in its constructor, so it comes before any thread and before the loop. Raises OSError."""

    def __init__(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        sys.stdout.flush()
        sys.stderr.flush()
        self._shell = os.getppid()
        self._front = os.getpid()
        try:
            self._machine = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        self.is_front = self._machine != 0
        if not self.is_front:
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # In the front

    def wait(self) -> int:
        """Wait until the machine has ended; return its exit status, or end by the signal that ended it."""
        _close_inherited()
        while True:
            got = signal.sigwaitinfo(_AWAITED)
            if got.si_signo == signal.SIGCHLD:
                process, status = os.waitpid(self._machine, os.WNOHANG)
                if process:
                    return _end_like(status)
            elif got.si_signo == signal.SIGTSTP:
                if got.si_code == _SI_KERNEL or got.si_pid == self._machine:
                    self._stop()
            elif got.si_signo in _PASSED_ON:
                self._pass_on(got)

    def _pass_on(self, got: signal.struct_siginfo) -> None:
        """Send a signal to the machine, unless the terminal has sent it to both."""
        is_apart = os.getpgid(self._machine) != os.getpgrp()
        if got.si_code == _SI_KERNEL and not is_apart:
            return
        number = got.si_signo
        if number == signal.SIGTERM and is_apart and got.si_pid == self._shell and self._shell_leaves():
            number = signal.SIGHUP
        os.kill(self._machine, number)

    def _shell_leaves(self) -> bool:
        """Whether the shell or its terminal ends: bash that exits sends SIGTERM to its stopped jobs."""
        deadline = time.monotonic() + _LEAVE_SECONDS
        while time.monotonic() < deadline:
            try:
                os.tcgetpgrp(0)
            except OSError:
                return True
            if os.getppid() != self._shell:
                return True
            time.sleep(_LOOK_SECONDS / 10)
        return False

    def _stop(self) -> None:
        """Stop until SIGCONT, then tell the machine.

        The kernel drops the signal if no shell controls the process group, and the machine goes on at once.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
        os.kill(self._machine, signal.SIGCONT)

    # In the machine

    async def give_terminal(self) -> None:
        """Give the terminal to the shell; return when it is the console's again.

        Raises OSError if the terminal has gone.
        """
        loop = asyncio.get_running_loop()
        continued = asyncio.Event()
        loop.add_signal_handler(signal.SIGCONT, continued.set)
        try:
            with _not_stopped():
                group = os.getpgrp()
                os.setpgid(0, 0)
                os.killpg(group, signal.SIGTSTP)
                await continued.wait()
                await _join_in_foreground(group)
        finally:
            loop.remove_signal_handler(signal.SIGCONT)

    async def have_terminal(self) -> None:
        """Return when the terminal is the console's: qmon may run in the background until then.

        Raises OSError if the terminal has gone.
        """
        group = os.getpgrp()
        if os.tcgetpgrp(0) != group:
            with _not_stopped():
                os.setpgid(0, 0)
                await _join_in_foreground(group)

    def watch(self) -> None:
        """From now on take the end of the front for a hangup: the shell has the terminal then."""
        with contextlib.suppress(OSError):  # a container may forbid it
            descriptor = os.pidfd_open(self._front)
            asyncio.get_running_loop().add_reader(descriptor, self._lose, descriptor)

    def _lose(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        os.kill(os.getpid(), signal.SIGHUP)

    def wake(self) -> None:
        """Continue the front if it is stopped, so that the shell learns that the machine has ended."""
        if os.getppid() == self._front:
            os.kill(self._front, signal.SIGCONT)


async def _join_in_foreground(group: int) -> None:
    """Join a process group when it has the terminal. Raises OSError if one of them has gone."""
    while os.tcgetpgrp(0) != group:  # noqa: ASYNC110 - no event: "fg" sends no signal to a job that runs
        await asyncio.sleep(_LOOK_SECONDS)
    os.setpgid(0, group)


def _close_inherited() -> None:
    """Close what was inherited: it is the machine's, and its peers must see when the machine closes it.

    Not by ``closerange``: without close_range(2) that takes minutes in a container with a high limit.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the list's own descriptor is closed already
                os.close(int(name))


@contextlib.contextmanager
def _not_stopped() -> Iterator[None]:
    """Ignore the signals that stop a process of the background that uses its terminal."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in _OF_BACKGROUND]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _end_like(status: int) -> int:
    """Return the exit status of a process, or end by the signal that ended it."""
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # SIGKILL has no handler
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
