"""The states of a job, its transitions, and the commands that it accepts in each state. One table for each.

Source: QAPI, job.json (JobStatus, JobVerb), and the answers of QEMU 7.2.
"""

from __future__ import annotations

import enum

from qmon.errors import CommandError


class Status(enum.Enum):
    """QAPI's JobStatus."""

    UNDEFINED = "undefined"
    """It does not exist yet."""
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    """It was running and is paused."""
    READY = "ready"
    """It has copied everything, and copies what changes until it is told to end."""
    STANDBY = "standby"
    """It was ready and is paused."""
    WAITING = "waiting"
    """Its work is done."""
    PENDING = "pending"
    """Its result takes effect with the command ``job-finalize``."""
    ABORTING = "aborting"
    CONCLUDED = "concluded"
    """It has ended, and is kept until ``job-dismiss``, so that its result can be read."""
    NULL = "null"
    """It does not exist any more."""


class Verb(enum.Enum):
    """QAPI's JobVerb: what a command asks of a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    SET_SPEED = "set-speed"
    COMPLETE = "complete"
    DISMISS = "dismiss"
    FINALIZE = "finalize"


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.UNDEFINED: frozenset({Status.CREATED}),
    Status.CREATED: frozenset({Status.RUNNING, Status.ABORTING, Status.NULL}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.READY, Status.WAITING, Status.ABORTING}),
    Status.PAUSED: frozenset({Status.RUNNING}),
    Status.READY: frozenset({Status.STANDBY, Status.WAITING, Status.ABORTING}),
    Status.STANDBY: frozenset({Status.READY}),
    Status.WAITING: frozenset({Status.PENDING, Status.ABORTING}),
    Status.PENDING: frozenset({Status.ABORTING, Status.CONCLUDED}),
    Status.ABORTING: frozenset({Status.CONCLUDED}),
    Status.CONCLUDED: frozenset({Status.NULL}),
    Status.NULL: frozenset(),
}

_UNTIL_ITS_WORK_IS_DONE = frozenset(
    {Status.CREATED, Status.RUNNING, Status.PAUSED, Status.READY, Status.STANDBY}
)

ACCEPTED: dict[Verb, frozenset[Status]] = {
    Verb.CANCEL: _UNTIL_ITS_WORK_IS_DONE | {Status.WAITING, Status.PENDING},
    Verb.PAUSE: _UNTIL_ITS_WORK_IS_DONE,
    Verb.RESUME: _UNTIL_ITS_WORK_IS_DONE,
    Verb.SET_SPEED: _UNTIL_ITS_WORK_IS_DONE,
    Verb.COMPLETE: frozenset({Status.READY, Status.STANDBY}),
    Verb.FINALIZE: frozenset({Status.PENDING}),
    Verb.DISMISS: frozenset({Status.CONCLUDED}),
}


def check_transition(old: Status, new: Status) -> None:
    """Raises ValueError if a job never goes from one state to the other."""
    if new not in TRANSITIONS[old]:
        raise ValueError(f"a job does not go from '{old.value}' to '{new.value}'")


def check_verb(id: str, status: Status, verb: Verb) -> None:
    """Raises CommandError with QEMU's message if a job in this state does not accept a command."""
    if status not in ACCEPTED[verb]:
        raise CommandError(f"Job '{id}' in state '{status.value}' cannot accept command verb '{verb.value}'")
