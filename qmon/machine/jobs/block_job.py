"""A block job: a job on a drive, with a speed limit and events of its own (QAPI: block-core.json)."""

from __future__ import annotations

from typing import Any, Literal

from qmon.errors import CommandError
from qmon.machine.jobs.job import Job
from qmon.machine.jobs.states import Status, Verb, check_verb

Action = Literal["ignore", "report", "stop"]
"""QAPI's BlockErrorAction: what a job does about a failed request."""


class BlockJob(Job):
    """A job whose progress is in bytes."""

    speed = 0
    """The limit in bytes per second; 0: none."""
    io_status = "ok"
    """QAPI's BlockDeviceIoStatus."""

    def block_info(self) -> dict[str, Any]:
        """Return a BlockJobInfo."""
        info: dict[str, Any] = {
            "auto-finalize": self.auto_finalize,
            "io-status": self.io_status,
            "device": self.id,
            "auto-dismiss": self.auto_dismiss,
            "busy": self.status is Status.RUNNING,
            "len": self.total,
            "offset": self.done,
            "status": self.status.value,
            "paused": self.is_paused,
            "speed": self.speed,
            "ready": self.status in (Status.READY, Status.STANDBY),
            "type": self.kind,
        }
        return info if self.error is None else {**info, "error": self.error}

    def set_speed(self, speed: int) -> None:
        """Limit the speed, in bytes per second; 0 removes the limit. Raises CommandError."""
        check_verb(self.id, self.status, Verb.SET_SPEED)
        if speed < 0:
            raise CommandError("Parameter 'speed' expects a non-negative value")
        self.speed = speed

    async def cancel(self, *, force: bool = True) -> None:
        if self.is_paused and not force:
            raise CommandError(f"The block job for device '{self.id}' is currently paused")
        await super().cancel(force=force)

    def become_ready(self) -> None:
        super().become_ready()
        self._emit("BLOCK_JOB_READY", self._figures())

    def tell_error(self, operation: Literal["read", "write"], action: Action, *, no_space: bool) -> None:
        """Say that a request of the job has failed. With ``stop`` it pauses until a client resumes it."""
        self._emit("BLOCK_JOB_ERROR", {"device": self.id, "operation": operation, "action": action})
        if action == "stop":
            self.io_status = "nospace" if no_space else "failed"
            self.is_paused = True

    async def resume(self) -> None:
        await super().resume()
        self.io_status = "ok"

    def tell_pending(self) -> None:
        self._emit("BLOCK_JOB_PENDING", {"type": self.kind, "id": self.id})

    def tell_end(self) -> None:
        if self.is_cancelled:
            self._emit("BLOCK_JOB_CANCELLED", self._figures())
        else:
            error = {} if self.error is None else {"error": self.error}
            self._emit("BLOCK_JOB_COMPLETED", {**self._figures(), **error})

    def _figures(self) -> dict[str, Any]:
        return {
            "device": self.id,
            "len": self.total,
            "offset": self.done,
            "speed": self.speed,
            "type": self.kind,
        }
