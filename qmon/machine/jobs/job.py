"""A job: some work, its state and progress, and what clients may ask of it (QAPI: job.json)."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from qmon.errors import CommandError, QmonError, reason
from qmon.machine.jobs.states import Status, Verb, check_transition, check_verb

CANCELED = "Operation canceled"
"""The error of a job that was cancelled."""

log = logging.getLogger("qmon.jobs")

Emit = Callable[[str, Mapping[str, Any]], None]
"""Emits an event: its name and data."""


class JobCancelledError(QmonError):
    """The job was cancelled: its work ends here."""

    def __init__(self) -> None:
        super().__init__(CANCELED)


class Ending(enum.Enum):
    """How a job that is ready was told to end."""

    COMPLETE = "complete"
    """By ``job-complete``."""
    LEAVE = "leave"
    """By ``block-job-cancel`` without force: the copy stays as it is, and nothing switches to it."""


class Work(abc.ABC):
    """What a job does. Each method may raise QmonError or OSError; then the job ends with that error."""

    kind: str
    """QAPI's JobType."""

    @abc.abstractmethod
    async def run(self, job: Job) -> None:
        """Do the work. It calls ``job.pause_point`` regularly, or ``job.check`` in a thread."""

    async def prepare(self) -> None:  # noqa: B027 - optional: most work takes effect as it runs
        """Let the result take effect, when the job is finalized."""


class Job:
    """A job that is not a block job. ``held`` is released when the job is dismissed."""

    def __init__(
        self,
        id: str,
        work: Work,
        emit: Emit,
        forget: Callable[[Job], None],
        *,
        auto_finalize: bool = True,
        auto_dismiss: bool = False,
    ) -> None:
        """Call ``start`` or ``discard`` next. ``forget`` is called when the job exists no more."""
        self.id = id
        self.status = Status.UNDEFINED
        self.error: str | None = None
        self.done = self.total = 0
        """The progress, in units of the work's own."""
        self.auto_finalize = auto_finalize
        self.auto_dismiss = auto_dismiss
        self.held = contextlib.ExitStack()
        self.ending: Ending | None = None
        self.is_cancelled = False
        """Whether the work shall end without a result. For any thread."""
        self.is_paused = False
        """Whether a client has paused it; it may take until the next pause point."""
        self._work = work
        self._is_finalizing = False
        self._emit = emit
        self._forget = forget
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        """Set when a client has asked for something."""
        self._move(Status.CREATED)

    @property
    def kind(self) -> str:
        return self._work.kind

    def info(self) -> dict[str, Any]:
        """Return a JobInfo."""
        info: dict[str, Any] = {
            "current-progress": self.done,
            "status": self.status.value,
            "total-progress": self.total,
            "type": self.kind,
            "id": self.id,
        }
        return info if self.error is None else {**info, "error": self.error}

    def _move(self, status: Status) -> None:
        check_transition(self.status, status)
        self.status = status
        self._emit("JOB_STATUS_CHANGE", {"status": status.value, "id": self.id})

    async def start(self) -> None:
        """Begin the work. It returns when the work first waits for something, or has ended."""
        self._move(Status.RUNNING)
        self._task = asyncio.get_running_loop().create_task(self._run())
        await asyncio.sleep(0)  # the task's first step comes before the return

    def discard(self) -> None:
        """End a job that has not started."""
        self._end()

    async def close(self) -> None:
        """Cancel the job, and wait until its work has ended."""
        self.is_cancelled = True
        self._news.set()
        if self._task is not None:
            await self._task
        self.held.close()

    # What the work calls.

    def check(self) -> None:
        """Raises JobCancelledError if the job was cancelled. For any thread."""
        if self.is_cancelled:
            raise JobCancelledError

    async def pause_point(self) -> None:
        """Wait while the job is paused. Raises JobCancelledError."""
        self.check()
        if not self.is_paused:
            return
        before = self.status
        self._move(Status.STANDBY if before is Status.READY else Status.PAUSED)
        while self.is_paused and not self.is_cancelled:
            await self.wait_for_news()
        self._move(before)
        self.check()

    async def wait_for_news(self) -> None:
        """Wait until a client asks for something: a pause, a resume, an end."""
        self._news.clear()
        await self._news.wait()

    def become_ready(self) -> None:
        """Say that everything is copied."""
        self._move(Status.READY)

    # What clients ask for. Each raises CommandError with QEMU's message if the job's state forbids it. Where
    # the work waits for news, it has taken its next step when the call returns.

    async def cancel(self, *, force: bool = True) -> None:
        """End the job without a result; without ``force`` one that is ready ends with its copy as it is."""
        self._check(Verb.CANCEL)
        if self.status is Status.PENDING:
            self.is_cancelled = True
            self.error = CANCELED
            self._abort()
            return
        if force or self.status not in (Status.READY, Status.STANDBY):
            self.is_cancelled = True
        elif self.ending is None:
            self.ending = Ending.LEAVE
        await self._tell_work()

    async def pause(self) -> None:
        self._check(Verb.PAUSE)
        if self.is_paused:
            raise CommandError("Job is already paused")
        self.is_paused = True
        await self._tell_work()

    async def resume(self) -> None:
        if not self.is_paused:
            raise CommandError("Can't resume a job that was not paused")
        self._check(Verb.RESUME)
        self.is_paused = False
        await self._tell_work()

    async def complete(self) -> None:
        """Tell a job that is ready to end."""
        self._check(Verb.COMPLETE)
        if self.ending is Ending.LEAVE or self.is_cancelled:
            raise CommandError(f"The active block job '{self.id}' cannot be completed")
        self.ending = Ending.COMPLETE
        await self._tell_work()

    async def finalize(self) -> None:
        """Let the result take effect."""
        self._check(Verb.FINALIZE)
        await self._finalize()

    def dismiss(self) -> None:
        """Forget a job that has ended."""
        self._check(Verb.DISMISS)
        self._end()

    def _check(self, verb: Verb) -> None:
        check_verb(self.id, self.status, verb)
        if self._is_finalizing:
            raise CommandError(f"Job '{self.id}' is being finalized")

    async def _tell_work(self) -> None:
        self._news.set()
        await asyncio.sleep(0)  # work that waits for news runs before the return

    # The way to the end.

    async def _run(self) -> None:
        await self._try(self._work.run(self))
        self.is_paused = False
        if self.is_cancelled and self.error is None:
            self.error = CANCELED
        if self.error is not None:
            self._abort()
            return
        self._move(Status.WAITING)
        self._move(Status.PENDING)
        if self.auto_finalize:
            await self._finalize()
        else:
            self.tell_pending()

    async def _try(self, doing: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine of the work; keep its error."""
        try:
            await doing
        except (QmonError, OSError, MemoryError) as error:
            self.error = reason(error)
        except Exception as error:
            log.exception("the job '%s' failed by an internal error", self.id)
            self.error = f"internal error: {error!r}"

    async def _finalize(self) -> None:
        self._is_finalizing = True
        await self._try(self._work.prepare())
        self._is_finalizing = False
        if self.error is None:
            self._conclude()
        else:
            self._abort()

    def _abort(self) -> None:
        self._move(Status.ABORTING)
        self._conclude()

    def _conclude(self) -> None:
        self.tell_end()
        self._move(Status.CONCLUDED)
        if self.auto_dismiss:
            self._end()

    def _end(self) -> None:
        self.held.close()
        self._move(Status.NULL)
        self._forget(self)

    # Further events, which only block jobs have.

    def tell_pending(self) -> None:
        """Say that the job waits to be finalized."""

    def tell_end(self) -> None:
        """Say how the job has ended."""
