"""The same QMP commands about jobs to a real QEMU and to a qmon, each in a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.peer import QEMU_7, QMON_HERE, Peer
from tests.support.qmp_client import QmpClient
from tests.support.waiting import eventually

_MADE_NAME = re.compile(r"#block\d+")
_ENDED = ("pending", "concluded")


class Side:
    """One program and a QMP connection to it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.folder = peer.folder
        self.client: QmpClient = peer.qmp()

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None, **named: Any) -> dict[str, Any]:
        """The answer; names of nodes that the program made are all alike."""
        answer: dict[str, Any] = _alike(self.client.ask(command, arguments, **named))
        return answer

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What has been told since this was asked last."""
        told, self.client.events = self.client.events, []
        return [(event["event"], _alike(event.get("data", {}))) for event in told]

    def settled(self, id: str) -> list[dict[str, Any]]:
        """Wait until a job is at rest or gone; return all jobs."""
        eventually(lambda: self._is_settled(id), f"the job '{id}' rests")
        jobs: list[dict[str, Any]] = self.client.run("query-jobs")
        return jobs

    def _is_settled(self, id: str) -> bool:
        jobs = [job for job in self.client.run("query-jobs") if job["id"] == id]
        return all(job["status"] in _ENDED for job in jobs)

    def job(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run a command that starts a job to its end, and dismiss it: all that was said and told."""
        id = arguments["job-id"]
        answer = self.ask(command, arguments)
        jobs = self.settled(id)
        dismissed = self.ask("job-dismiss", id=id) if jobs else None
        return {"answer": answer, "jobs": _alike(jobs), "dismissed": dismissed, "events": self.events()}


def _alike(message: Any) -> Any:
    if isinstance(message, str):
        return _MADE_NAME.sub("#blockN", message)
    if isinstance(message, list):
        return [_alike(each) for each in message]
    if isinstance(message, dict):
        return {name: _alike(each) for name, each in message.items()}
    return message


class JobSides:
    """A QEMU and a qmon in ``folder``; both have ended when it is left."""

    def __init__(self, folder: Path, drives: Callable[[Path], list[str]] = lambda folder: []) -> None:
        self.theirs = Side(Peer(QEMU_7, folder / "qemu", drives))
        self.ours = Side(Peer(QMON_HERE, folder / "qmon", drives))

    def __enter__(self) -> JobSides:
        return self

    def __exit__(self, *_: object) -> None:
        for side in self:
            side.client.close()
            side.peer.close()
        assert "Traceback" not in (log := self.ours.peer.log()), log

    def __iter__(self) -> Any:
        return iter((self.theirs, self.ours))

    def same(self, what: Callable[..., Any], *arguments: Any) -> Any:
        """Do something on both, compare what it returns, and return it."""
        theirs, ours = (what(side, *arguments) for side in self)
        if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
            for one, other in zip(ours, theirs, strict=True):
                assert one == other, (one, other)
        assert ours == theirs, arguments
        return ours
