"""The interface between the human side and the machine side: a QMP command, its arguments, its result."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from qmon.errors import CommandError, reason

Arguments = Mapping[str, Any]
"""A command's arguments under their QMP names; values are what JSON can hold."""


@dataclass(frozen=True, slots=True)
class Event:
    """A QMP event: its name, its data, and its time (seconds since the epoch).

    A ``private`` event goes only to this program's human monitors. QMP clients do not get it.
    """

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    timestamp: float = 0.0
    private: bool = False


Listener = Callable[[Event], None]


class Target(Protocol):
    """The receiver of a monitor's commands: the embedded machine, or a connection to another program."""

    def commands(self) -> frozenset[str]:
        """The names of the QMP commands that this target has."""

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run one command and return its result, built of JSON's types.

        Raises CommandError when it fails, CommandNotFoundError when the target has no such command.
        """

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each event, on the loop; return a function that unsubscribes it."""


@contextmanager
def well_formed() -> Iterator[None]:
    """Turn the failure of a block that reads an answer of another shape than QMP's into a CommandError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"an answer of the target has an unknown shape: {reason(error)}") from error


@runtime_checkable
class TakesOutOfBand(Protocol):
    """A Target that can run a few commands while another one runs (QMP specification, "Out-of-band")."""

    takes_out_of_band: bool
    """Whether that is possible now."""

    async def execute_out_of_band(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command at once. Raises as ``execute``."""


def at_once(target: Target) -> Callable[[str, Arguments | None], Awaitable[Any]]:
    """Return how a command is run past the one that runs; in turn with it where there is no other way."""
    if isinstance(target, TakesOutOfBand) and target.takes_out_of_band:
        return target.execute_out_of_band
    return target.execute


class Kind(enum.Enum):
    """What a target is, as far as monitor lines differ by it."""

    QMON = enum.auto()
    """A qmon: the embedded machine, or one that runs elsewhere. Every line is translated to QMP."""
    QEMU = enum.auto()
    """A QEMU, which runs monitor lines itself."""
    STORAGE_DAEMON = enum.auto()
    """A qemu-storage-daemon: block nodes, exports and jobs, but no machine and no monitor for lines."""


MIGRATE_DISKS = "x-qmon-migrate-disks"
"""The command of a connection to a QEMU that moves its guest with the disks (``qmon.remote.migration``)."""


def kind_of(target: Target) -> Kind:
    """Return what a target is, by the commands that it has."""
    commands = target.commands()
    if any(name.startswith("x-qmon-") for name in commands) and MIGRATE_DISKS not in commands:
        return Kind.QMON
    if "human-monitor-command" in commands:
        return Kind.QEMU
    return Kind.STORAGE_DAEMON if "block-export-add" in commands and MACHINE not in commands else Kind.QMON


MACHINE = "query-status"
"""A command that each target with a machine has."""


async def ask(target: Target, query: str, otherwise: Any, arguments: Arguments | None = None) -> Any:
    """Return a target's answer to a query, ``otherwise`` if it has no such query. Raises CommandError."""
    return await target.execute(query, arguments) if query in target.commands() else otherwise
