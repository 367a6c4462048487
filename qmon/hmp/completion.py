"""What could stand at the end of a line: text in, suggestions out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.arguments import outline_arguments
from qmon.hmp.commands.migration_parameters import PARAMETERS
from qmon.hmp.monitor import Monitor
from qmon.hmp.signature import Parameter
from qmon.hmp.table import Table, look_up, skip_space
from qmon.hmp.words import comment_start, read_word

FILES_MAX = 200
"""So many names of a folder are offered at most."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``text`` could stand in place of what the line holds from ``start`` on; ``meaning`` is a few words."""

    text: str
    start: int
    meaning: str
    is_flag: bool = False


_Choice = tuple[str, str]
"""A text and its meaning."""

_Completer = Callable[[Monitor, str, str], Awaitable[list[_Choice]]]
"""From the monitor, a parameter's key and the arguments' text before it to what could stand there."""


async def complete(monitor: Monitor, text: str) -> list[Suggestion]:
    """What could stand at the end of ``text``, the line up to the cursor; sorted, flags first.

    Raises CommandError when the target was asked for its drives and failed.
    """
    if comment_start(text) < len(text):
        return []
    start = _last_word(text)
    before, typed = text[:start], text[start:]
    table = _table_for(monitor, before)
    choices: Iterable[_Choice]
    flags: list[_Choice] = []
    if table is not None:
        choices = _names(table)
    else:
        found = look_up(monitor.tables.main, before)
        if found is None or found.command is None or found.end == len(before):
            return []
        outline = outline_arguments(found.command, before, found.start)
        flags = _flags(outline.flags)
        choices = []
        if outline.awaited is not None and outline.bad is None:
            completer = found.command.entry.completion
            arguments = before[found.start :]
            choices = await _values(monitor, outline.awaited, completer, arguments, typed)
    suggestions = [Suggestion(text, start, meaning, is_flag=True) for text, meaning in flags]
    suggestions += [Suggestion(text, start, meaning) for text, meaning in choices]
    return [suggestion for suggestion in suggestions if suggestion.text.startswith(typed)]


def _last_word(text: str) -> int:
    """Where the word begins that the text ends in; its end behind white space."""
    position = skip_space(text, 0)
    while position < len(text):
        word = read_word(text, position)
        if word is None or word.end == len(text):
            return position
        position = skip_space(text, word.end)
    return position


def _table_for(monitor: Monitor, before: str) -> Table | None:
    """The table in which the next word is looked up; None when arguments come next."""
    found = look_up(monitor.tables.main, before)
    if found is None:
        return monitor.tables.main
    if found.command is not None and found.end < found.start == len(before):
        return found.command.sub_table
    return None


def _names(table: Table) -> list[_Choice]:
    choices = []
    for name in table.names():
        command = table.find(name)
        assert command is not None
        choices.append((name, command.entry.help.split("\n")[0]))
    return choices


def _flags(flags: list[Parameter]) -> list[_Choice]:
    choices = [(f"-{flag.letter}", flag.key) for flag in flags]
    return choices + [(flag.word, f"the same as -{flag.letter}") for flag in flags if flag.word]


async def _values(
    monitor: Monitor, parameter: Parameter, completer: str | None, arguments: str, typed: str
) -> list[_Choice]:
    if completer in _COMPLETERS:
        return await _COMPLETERS[completer](monitor, parameter.key, arguments)
    match parameter.kind:
        case "B":
            return await _drives(monitor)
        case "F":
            return _files(typed)
        case "b":
            return [("off", ""), ("on", "")]
    return []


async def _drives(monitor: Monitor) -> list[_Choice]:
    if "query-block" not in monitor.target.commands():
        return []
    blocks: list[dict[str, Any]] = await monitor.target.execute("query-block")
    return sorted((block["device"], block.get("inserted", {}).get("file", "")) for block in blocks)


def _files(typed: str) -> list[_Choice]:
    quoted = typed.startswith('"')
    path = typed.removeprefix('"').replace('\\"', '"').replace("\\\\", "\\")
    folder, _, name = path.rpartition("/")
    start = folder + "/" if "/" in path else ""
    try:
        found = sorted(
            entry.name + "/" * entry.is_dir()
            for entry in Path(start or ".").iterdir()
            if entry.name.startswith(name) and (name or not entry.name.startswith("."))
        )
    except OSError:
        return []  # no such folder, or not ours to read: there is nothing to offer
    return [(_quote(start + name, quoted), "") for name in found[:FILES_MAX]]


def _quote(path: str, quoted: bool) -> str:
    """A path as an argument: in quotes when it needs them; a folder's stay open, to go on."""
    if not quoted and not any(character in ' \t"\\' for character in path):
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}' if path.endswith("/") else f'"{escaped}"'


async def _help(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    table = _table_for(monitor, arguments)
    return _names(table) if table is not None else []


async def _migration_capabilities(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if key != "capability":
        return [("off", ""), ("on", "")]
    if "query-migrate-capabilities" not in monitor.target.commands():
        return []
    known: list[dict[str, Any]] = await monitor.target.execute("query-migrate-capabilities")
    return sorted((each["capability"], "on" if each["state"] else "off") for each in known)


async def _migration_parameters(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if key != "parameter":
        return []
    known = frozenset(row.name for row in PARAMETERS)
    values: dict[str, Any] = {}
    if "query-migrate-parameters" in monitor.target.commands():
        values = await monitor.target.execute("query-migrate-parameters")
    return sorted((name, str(values[name])) for name in values if name in known)


async def _exports(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if "query-block-exports" not in monitor.target.commands():
        return []
    exports: list[dict[str, Any]] = await monitor.target.execute("query-block-exports")
    return sorted((export["id"], export.get("node-name", "")) for export in exports)


async def _resolutions(monitor: Monitor, key: str, before: str) -> list[_Choice]:
    return [("keep", "the disks are this side's"), ("release", "the disks are the other side's")]


async def _object_types(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if arguments.strip() or "qom-list-types" not in monitor.target.commands():
        return []
    wanted = {"implements": "user-creatable", "abstract": False}
    types: list[dict[str, Any]] = await monitor.target.execute("qom-list-types", wanted)
    return sorted((row["name"], "") for row in types)


async def _trace_events(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if key == "option":
        return [("off", ""), ("on", "")]
    if key != "name" or "trace-event-get-state" not in monitor.target.commands():
        return []
    events: list[dict[str, Any]] = await monitor.target.execute("trace-event-get-state", {"name": "*"})
    return sorted((event["name"], event["state"]) for event in events)


async def _objects(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if "qom-list" not in monitor.target.commands():
        return []
    try:
        rows: list[dict[str, Any]] = await monitor.target.execute("qom-list", {"path": "/objects"})
    except CommandError:
        return []  # nobody has made one
    found = [(row["name"], row["type"]) for row in rows if row["type"].startswith("child<")]
    return sorted((name, shown.removeprefix("child<").removesuffix(">")) for name, shown in found)


async def _chardevs(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if "query-chardev" not in monitor.target.commands():
        return []
    found: list[dict[str, Any]] = await monitor.target.execute("query-chardev")
    return sorted((each["label"], each["filename"]) for each in found)


async def _ring_buffers(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if key != "device":
        return []
    chardevs = await _chardevs(monitor, key, arguments)
    return [choice for choice in chardevs if choice[1] in ("ringbuf", "memory")]


async def _chardev_kinds(monitor: Monitor, key: str, arguments: str) -> list[_Choice]:
    if "query-chardev-backends" not in monitor.target.commands():
        return []
    kinds: list[dict[str, str]] = await monitor.target.execute("query-chardev-backends")
    return sorted((kind["name"], "") for kind in kinds)


_COMPLETERS: dict[str | None, _Completer] = {
    "chardev_add_completion": _chardev_kinds,
    "chardev_remove_completion": _chardevs,
    "help_completion": _help,
    "migrate_resolve_completion": _resolutions,
    "migrate_set_capability_completion": _migration_capabilities,
    "migrate_set_parameter_completion": _migration_parameters,
    "nbd_server_remove_completion": _exports,
    "object_add_completion": _object_types,
    "object_del_completion": _objects,
    "ringbuf_write_completion": _ring_buffers,
    "trace_event_completion": _trace_events,
    "info_trace_events_completion": _trace_events,
}
"""By the name that the table gives as ``.command_completion``."""
