"""The registry of a program's QMP commands: maps names to coroutine functions and checks arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError, QmonError, reason
from qmon.host.trace import TraceEvent, trace_event
from qmon.qmp.events import EventBus
from qmon.qmp.schema import Signature
from qmon.qmp.target import Arguments, Listener

CommandFunction = Callable[..., Awaitable[Any]]
_MARK = "_qmp_command"


def command(name: str, *underscored: str) -> Callable[[CommandFunction], CommandFunction]:
    """Mark a method as the QMP command ``name``; ``Registry.add_from`` finds it.

    ``underscored`` names the parameters whose QMP name keeps its underscores.
    """

    def mark(function: CommandFunction) -> CommandFunction:
        setattr(function, _MARK, (name, frozenset(underscored)))
        return function

    return mark


class Registry:
    """A Target whose commands are functions of this process."""

    def __init__(self, events: EventBus | None = None) -> None:
        self.events = events or EventBus()
        self._commands: dict[str, tuple[CommandFunction, Signature]] = {}
        self.add("query-commands", self._query_commands)

    def add(self, name: str, function: CommandFunction, underscored: frozenset[str] = frozenset()) -> None:
        """Serve ``function`` as the command ``name``."""
        self.add_described(name, function, Signature(function, underscored))

    def add_described(self, name: str, function: CommandFunction, signature: Signature) -> None:
        """Serve a function whose parameters a table describes, not its annotations."""
        self._commands[name] = (function, signature)
        _trace_events(name)

    def add_from(self, owner: object) -> None:
        """Serve every method of ``owner`` that is marked with ``@command``.

        Raises ValueError for a command that is already registered.
        """
        for attribute in dir(type(owner)):
            mark = getattr(getattr(type(owner), attribute), _MARK, None)
            if mark is not None:
                name, underscored = mark
                if name in self._commands:
                    raise ValueError(f"the command '{name}' is already registered")
                self.add(name, getattr(owner, attribute), underscored)

    def commands(self) -> frozenset[str]:
        return frozenset(self._commands)

    def described(self, name: str) -> tuple[CommandFunction, Signature]:
        """The function of a command and its parameters. Raises KeyError."""
        return self._commands[name]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self.events.subscribe(listener)

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command. Raises CommandNotFoundError, or CommandError for bad arguments or a failure."""
        entry = self._commands.get(command)
        if entry is None:
            raise CommandNotFoundError(command)
        function, signature = entry
        enter, leave = _trace_events(command)
        enter("%s", dict(arguments or {}))
        try:
            result = await function(**signature.bind(arguments or {}))
        except CommandError as error:
            leave("%s 0", error)
            raise
        except (QmonError, OSError, MemoryError) as error:
            leave("%s 0", reason(error))
            raise CommandError(reason(error)) from error
        leave("%s 1", result)
        return result

    async def _query_commands(self) -> list[dict[str, str]]:
        return [{"name": name} for name in sorted(self._commands)]


def _trace_events(command: str) -> tuple[TraceEvent, TraceEvent]:
    """Return the trace events of a command's start and end. They exist once the command is served."""
    name = command.replace("-", "_")
    return trace_event(f"qmp_enter_{name}"), trace_event(f"qmp_exit_{name}")
