"""The registry of a program's QMP commands: maps names to coroutine functions and checks arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError, QmonError, reason
from qmon.host.trace import TraceEvent, trace_event
from qmon.notation.qapi import Schema, default_schema
from qmon.qmp.events import EventBus
from qmon.qmp.introspection import event_names, introspect
from qmon.qmp.schema import Binding, check_arguments
from qmon.qmp.target import Arguments, Listener

CommandFunction = Callable[..., Awaitable[Any]]
_AT_ONCE = 100
"""Entries of the schema that are made before others get the loop: 2 ms, where all 600 take 10 ms."""

_MARK = "_qmp_command"


def command(name: str) -> Callable[[CommandFunction], CommandFunction]:
    """Mark a method as the QMP command ``name``; ``Registry.add_from`` finds it."""

    def mark(function: CommandFunction) -> CommandFunction:
        setattr(function, _MARK, name)
        return function

    return mark


class Registry:
    """A Target whose commands are functions of this process."""

    def __init__(self, events: EventBus | None = None, schema: Schema | None = None) -> None:
        """``schema`` describes the commands; without it, the program's own does."""
        self.events = events or EventBus()
        self._given_schema = schema
        self._commands: dict[str, CommandFunction] = {}
        self._bindings: dict[str, Binding] = {}
        self.add("query-commands", self._query_commands)
        self.add("query-events", self._query_events)
        self.add("query-qmp-schema", self._query_schema)

    @property
    def schema(self) -> Schema:
        """What describes the commands."""
        return self._given_schema or default_schema()

    def add(self, name: str, function: CommandFunction) -> None:
        """Serve ``function`` as the command ``name``."""
        self._commands[name] = function
        self._bindings.pop(name, None)
        _trace_events(name)

    def add_from(self, owner: object) -> None:
        """Serve every method of ``owner`` that is marked with ``@command``.

        Raises ValueError for a command that is already registered.
        """
        for attribute in dir(type(owner)):
            name = getattr(getattr(type(owner), attribute), _MARK, None)
            if name is not None:
                if name in self._commands:
                    raise ValueError(f"the command '{name}' is already registered")
                self.add(name, getattr(owner, attribute))

    def commands(self) -> frozenset[str]:
        return frozenset(self._commands)

    def function(self, name: str) -> CommandFunction:
        """The function that serves a command. Raises KeyError."""
        return self._commands[name]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self.events.subscribe(listener)

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command. Raises CommandNotFoundError, or CommandError for bad arguments or a failure."""
        function = self._commands.get(command)
        if function is None:
            raise CommandNotFoundError(command)
        enter, leave = _trace_events(command)
        enter("%s", dict(arguments or {}))
        try:
            result = await function(**self._bind(command, function, arguments or {}))
        except CommandError as error:
            leave("%s 0", error)
            raise
        except (QmonError, OSError, MemoryError) as error:
            leave("%s 0", reason(error))
            raise CommandError(reason(error)) from error
        leave("%s 1", result)
        return result

    def _bind(self, command: str, function: CommandFunction, arguments: Arguments) -> dict[str, Any]:
        """Check a command's arguments; return the function's. Raises CommandError with QEMU's words."""
        check_arguments(self.schema, command, arguments)
        if command not in self._bindings:
            self._bindings[command] = Binding(function)
        return self._bindings[command].bind(arguments)

    async def _query_commands(self) -> list[dict[str, str]]:
        return [{"name": name} for name in sorted(self._commands)]

    async def _query_events(self) -> list[dict[str, str]]:
        return [{"name": name} for name in event_names(self.schema)]

    async def _query_schema(self) -> list[dict[str, Any]]:
        found = []
        for number, entity in enumerate(introspect(self.schema), 1):
            found.append(entity)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return found


def _trace_events(command: str) -> tuple[TraceEvent, TraceEvent]:
    """Return the trace events of a command's start and end. They exist once the command is served."""
    name = command.replace("-", "_")
    return trace_event(f"qmp_enter_{name}"), trace_event(f"qmp_exit_{name}")
