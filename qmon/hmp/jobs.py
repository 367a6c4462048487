"""Remembers the results of block jobs, because a target forgets them before a line may wait for one."""

from __future__ import annotations

from qmon.qmp.target import Event, Target

REMEMBERED_MAX = 1000

READY = frozenset(("ready", "standby", "pending"))
"""The states of a job that waits for a command to continue (QAPI: JobStatus)."""


def is_hidden(name: object) -> bool:
    """Whether a job, export or node belongs to a migration by consoles, which tells of itself."""
    return isinstance(name, str) and name.startswith("qmon-")


class EndedJobs:
    """The ended jobs of a target since this object was created."""

    def __init__(self, target: Target) -> None:
        self._ends: dict[str, str | None] = {}
        target.subscribe(self._hear)

    def __contains__(self, name: str) -> bool:
        """Whether the last job with this id has ended."""
        return name in self._ends

    def error(self, name: str) -> str | None:
        """Return the error of a job, None if it has succeeded. Raises KeyError."""
        return self._ends[name]

    def _hear(self, event: Event) -> None:
        name = str(event.data.get("device") or event.data.get("id") or "")
        match event.name:
            case "JOB_STATUS_CHANGE" if event.data.get("status") == "created":
                self._ends.pop(name, None)
            case "BLOCK_JOB_COMPLETED":
                self._remember(name, event.data.get("error"))
            case "BLOCK_JOB_CANCELLED":
                self._remember(name, "the job was cancelled")

    def _remember(self, name: str, error: str | None) -> None:
        self._ends.pop(name, None)
        self._ends[name] = error
        while len(self._ends) > REMEMBERED_MAX:
            del self._ends[next(iter(self._ends))]
