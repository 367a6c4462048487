"""The embedded machine: its run state, and what stands still with it.

Everything here runs on the loop. Blocking calls (open, flush, drain) go to a small executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import ParamSpec, TypeVar
from uuid import UUID

from qmon.errors import CommandError
from qmon.host.exposure import Exposure
from qmon.host.threads import Workers
from qmon.machine.disks import Disks
from qmon.machine.drive import Drive
from qmon.machine.drive_use import DriveUse
from qmon.machine.opening import lock
from qmon.machine.runstate import RunState
from qmon.machine.throttle_group import ThrottleGroups
from qmon.machine.user_object import UserObject
from qmon.migration.drive import flushing
from qmon.qmp.registry import Registry

log = logging.getLogger("qmon.machine")

NO_UUID = "00000000-0000-0000-0000-000000000000"
NO_TLS = "X_QMON_NO_TLS"
STOPPED = "stopped"
"""The reason for closing the gates of a stopped machine."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Machine:
    """Create it on the loop; ``registry`` serves its commands. Raises OSError if no thread can start."""

    def __init__(
        self, *, name: str | None = None, uuid: str | None = None, exposure: Exposure | None = None
    ) -> None:
        self.name = name
        self.uuid = uuid or NO_UUID
        self.registry = Registry()
        self.exposure = exposure or Exposure()
        self.exposure.tells.append(self._tell_of_exposure)
        self.objects: dict[str, UserObject] = {}
        self.disks = Disks()
        self.use = DriveUse()
        self.throttle_groups = ThrottleGroups()
        self.state = RunState.PRELAUNCH
        self.autostart = True
        """Whether the machine runs as soon as it can; False after -S or stop."""
        self.quit_requested = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._changing = asyncio.Lock()  # two monitors' stop and cont must not overlap
        self._executor = Workers(4, "control")
        self.before_run: Callable[[], None] = lambda: None
        """Called before the machine runs; may block. A QmonError from it keeps the machine from running."""

    @property
    def known_uuid(self) -> UUID | None:
        """The machine's UUID, None if it was given none."""
        return None if self.uuid == NO_UUID else UUID(self.uuid)

    @property
    def drives(self) -> dict[str, Drive]:
        """The drives by their ids."""
        return self.disks.drives

    @property
    def is_running(self) -> bool:
        return self.state is RunState.RUNNING

    async def blocking(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a blocking function in the executor and return its result."""
        return await self.loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def later(self, function: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Run a blocking function, which logs its own errors, in the executor; do not wait for it."""
        self.loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def post(self, function: Callable[[], object]) -> None:
        """Run ``function`` on the loop soon. For any thread."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("the loop has ended: %r is not run", function)

    def _tell_of_exposure(self, text: str) -> None:
        self.post(lambda: self.registry.events.emit(NO_TLS, {"message": text}))

    def set_state(self, state: RunState) -> None:
        """Change the run state and emit RESUME or STOP. The caller opens or closes the gates."""
        was_running, self.state = self.is_running, state
        if self.is_running and not was_running:
            self.registry.events.emit("RESUME")
        elif was_running and not self.is_running:
            self.registry.events.emit("STOP")

    async def stop(self) -> None:
        """If the machine runs, hold the drives' requests and flush. Raises CommandError naming the drive."""
        async with self._changing:
            if not self.is_running:
                return
            self.set_state(RunState.PAUSED)
            await self._close_gates()
            await self.flush(self.drives.values())

    async def _close_gates(self) -> None:
        closing = [self.blocking(drive.gate.close, STOPPED) for drive in self.drives.values()]
        await asyncio.gather(*closing)

    @contextlib.asynccontextmanager
    async def standing_still(self, state: RunState) -> AsyncIterator[None]:
        """Let a machine that runs stand still in ``state``, and run again; ``stop`` and ``cont`` wait."""
        async with self._changing:
            if not self.is_running:
                yield
                return
            self.set_state(state)
            try:
                await self._close_gates()
                yield
            finally:
                if self.state is state:
                    self.open_gates()
                    self.set_state(RunState.RUNNING)

    async def stay_stopped(self) -> None:
        """Stop for good while it stands still. A failed flush is logged."""
        if self.state in (RunState.SAVE_VM, RunState.RESTORE_VM):
            self.state = RunState.PAUSED
            try:
                await self.flush(self.drives.values())
            except CommandError as error:
                log.error("%s", error)

    async def flush(self, drives: Iterable[Drive]) -> None:
        """Flush the drives that are active and writable. Raises CommandError naming the drive."""
        for drive in drives:
            if drive.is_active and not drive.read_only:
                with flushing(drive, CommandError):
                    await self.blocking(drive.node.flush)

    def open_gates(self) -> None:
        """Open the gates that are closed because the machine is stopped. For any thread."""
        for drive in list(self.drives.values()):
            drive.gate.open(STOPPED)

    async def run(self) -> None:
        """Run the machine. Raises CommandError if an image can't be opened."""
        async with self._changing:
            await self.blocking(self.before_run)
            await self.activate()
            self.open_gates()
            self.set_state(RunState.RUNNING)

    async def activate(self) -> None:
        """Open and lock the images that are not open. Raises CommandError naming the file."""
        for drive in list(self.drives.values()):
            if not drive.is_waiting:
                await self.blocking(lock, drive)

    def request_quit(self) -> None:
        """Set ``quit_requested``, so that the process ends soon."""
        if not self.quit_requested.is_set():
            self.state = RunState.SHUTDOWN  # without the event STOP, as in QEMU
            self.registry.events.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
            self.quit_requested.set()

    async def close(self) -> None:
        """Take no more blocking functions. The drives are closed."""
        self._executor.shutdown(wait=False)
