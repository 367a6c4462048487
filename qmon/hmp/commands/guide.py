"""What ``help`` says to a person at a terminal: tasks, a command, or the commands about a word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches

from qmon.errors import CommandError
from qmon.hmp.commands import works
from qmon.hmp.commands.columns import WIDTH, columns, paragraph
from qmon.hmp.disks import query_disks
from qmon.hmp.handlers import EVERYTHING, EXPLANATIONS, Call
from qmon.hmp.person import LineError
from qmon.hmp.prompt import PROMPT
from qmon.hmp.tables.manual import page
from qmon.hmp.tables.search import Named, search
from qmon.hmp.tables.table import Command, Table
from qmon.hmp.tables.topics import Topic, default_topics, find_topic
from qmon.hmp.tables.usage import forms, syntax

ALL = "all"
"""``help all`` lists every command."""
PAGES = "-v"
"""Before a command's name, it asks for the manual page. Not a flag in the table: ``-x`` may be a name."""

FOUND_MAX = 12
"""The most commands that a search shows."""

_PLACES = {"DRIVE": "the drive's id", "SIZE": "its size in bytes"}
"""What stands in a topic's lines for the machine's own drive."""
_PLACE = re.compile(rf"\b(?:{'|'.join(_PLACES)})\b")
_BARE = re.compile(r"\w[\w-]*")
_LIKENESS = 0.6
_NEAREST_MAX = 3


class Guide:
    """Answers one ``help``."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._table: Table = call.monitor.tables.main
        self._everything = False
        self._left_out: set[str] = set()
        fitting = [
            topic
            for topic in default_topics()
            if any(map(self._runs, topic.rows[0].lines)) and _fits(topic, call)
        ]
        topics = list({topic.name: topic for topic in fitting}.values())
        self._left_out = {
            f"help {topic.name}"
            for topic in default_topics()
            if all(topic.name != each.name for each in topics)
        }
        self._topics = [self._on_target(topic) for topic in topics]

    def _on_target(self, topic: Topic) -> Topic:
        """Return a task without the lines that do nothing on the target."""
        rows = [replace(row, lines=tuple(filter(self._runs, row.lines))) for row in topic.rows]
        text = [line for line in topic.text.split("\n") if self._runs(line.removeprefix(PROMPT))]
        return replace(topic, rows=[row for row in rows if row.lines], text="\n".join(text))

    def _runs(self, line: str) -> bool:
        """Whether a line may be shown: it begins with no command, or with one that does something here."""
        table = self._table
        if line in self._left_out:
            return False
        for word in line.split():
            command = table.find(word)
            if command is None:
                return True
            if command.sub_table is None:
                return works(command, self._call.monitor.target)
            table = command.sub_table
        return True

    async def answer(self, words: list[str]) -> str:
        """Return the text about the words. Raises LineError, which names what is near, if there is none."""
        flags = {word for word in words if word in (EVERYTHING, PAGES)}
        self._everything = EVERYTHING in flags
        words = [word for word in words if word not in flags]
        plain = [word.lower() for word in _BARE.findall(" ".join(words))]
        found = self._find(words) or self._find(plain)
        if found is not None:
            return await self._about(*found, pages=PAGES in flags)
        if not plain:
            lines = self._overview()
        elif plain == [ALL]:
            lines = self._all()
        else:
            lines = self._inside(plain) or await self._topic(plain) or self._search(plain)
        return "\n".join(lines)

    async def _about(self, name: str, command: Command, *, pages: bool) -> str:
        if pages:
            text = page(command) or "\n".join(usage(name, command))
            return "\n".join([text, *_more(f"help {name} (its arguments)", "help (tasks)")])
        if command.sub_table is not None:
            return "\n".join(self._subjects(name, command.sub_table))
        return "\n".join(await self._command(name, command))

    def _find(self, words: list[str]) -> Named | None:
        """Return the command that the words begin with; what follows may be arguments."""
        table, found = self._table, None
        for number, word in enumerate(words):
            command = table.find(word) or table.find(word.lower()) or table.find_also(word.lower())
            if command is None:
                return None
            found = " ".join([*words[:number], command.entry.names[0]]), command
            if command.sub_table is None:
                # "help i want to ..." is not about the command i
                return found if number == len(words) - 1 or self._shows(command) else None
            table = command.sub_table
        return found

    def _shows(self, command: Command) -> bool:
        return self._everything or works(command, self._call.monitor.target)

    def _overview(self) -> list[str]:
        rows = []
        for topic in self._topics:
            shown = [row for row in topic.rows if row.in_overview]
            for number, row in enumerate(shown):
                rows.append(("" if number else topic.name, ", ".join(row.lines), row.phrase))
        return columns(rows, indent="")

    def _all(self) -> list[str]:
        named = sorted(self._table.everything(), key=lambda each: " " in each[0])
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in named:
            if self._shows(command):
                section = sections.setdefault(command.entry.heading or "Others", [])
                section.append((_with_path(name, command), _sentence(command)))
        lines = []
        for heading, rows in sections.items():
            lines += [f"{heading}:", *columns(rows), ""]
        return [*lines, *self._and_hidden(["help NAME (one command)"], [command for _, command in named])]

    def _subjects(self, name: str, table: Table) -> list[str]:
        rows = [(f"{name} {each.name}", _sentence(each)) for each in table if self._shows(each)]
        pointers = [f"help {name} NAME (one of them)"]
        return [*columns(rows), *self._and_hidden(pointers, list(table), name)]

    def _and_hidden(self, pointers: list[str], listed: list[Command], name: str = ALL) -> list[str]:
        """Return where to go next, and how to list the commands that are not shown."""
        hidden = sum(not self._shows(command) for command in listed)
        if hidden:
            pointers.append(f"help {EVERYTHING} {name} ({hidden} more that this machine has no use for)")
        return _more(*pointers)

    async def _command(self, name: str, command: Command) -> list[str]:
        lines = usage(name, command)
        lines += [f"  {line}" for line in forms(command)]
        lines += [line for topic in self._topics if topic.name == name for line in _rows(topic)]
        explain = EXPLANATIONS.get(command.entry.handler or "")
        if explain is not None:
            lines += await explain(self._call, self._everything)
        if not works(command, self._call.monitor.target):
            lines.append("  This machine lacks what the command is for.")
        pointers = [f"help {topic.name}" for topic in self._topics if topic.names(name)]
        pointers += [f"help -v {name} (its manual page)"] * bool(page(command))
        return [*lines, *_more(*pointers or ["help"])]

    async def _topic(self, words: list[str]) -> list[str]:
        topic = find_topic(self._topics, words)
        if topic is None:
            return []
        text = await self._text(topic)
        return [topic.about, *text, "", *_rows(topic), *_more("help NAME (one command)", "help (all tasks)")]

    async def _text(self, topic: Topic) -> list[str]:
        """Return a topic's lines to type, with the machine's own drive in them."""
        if not topic.text:
            return []
        known = await self._first_drive() if "DRIVE" in topic.text else {}
        lines = [f"  {_filled(line, known)}" for line in topic.text.split("\n")]
        unknown = [f"{place} is {what}" for place, what in _PLACES.items() if place in topic.text]
        return lines if known or not unknown else [f"  # {', '.join(unknown)}", *lines]

    async def _first_drive(self) -> dict[str, str]:
        try:
            disks = await query_disks(self._call.monitor.line_target)
        except CommandError:
            return {}  # the lines are useful without the names
        for disk in disks:
            if disk.name and disk.node and disk.size_bytes is not None and not disk.node.get("ro"):
                return {"DRIVE": disk.name, "SIZE": str(disk.size_bytes)}
        return {}

    def _inside(self, words: list[str]) -> list[str]:
        """Return the sub-commands about the words after a table's name: ``info disk``."""
        table = self._table.find(words[0])
        if table is None or table.sub_table is None:
            return []
        named = [(f"{words[0]} {name}", command) for name, command in table.sub_table.everything()]
        return self._found([each for each in named if self._shows(each[1])], words[1:])

    def _search(self, words: list[str]) -> list[str]:
        named = list(self._table.everything())
        return (
            self._found([each for each in named if self._shows(each[1])], words)
            or self._found(named, words)
            or self._nothing(words)
        )

    def _found(self, named: list[Named], words: list[str]) -> list[str]:
        found = search(named, words)
        if not found:
            return []
        rows = [(name, _sentence(command)) for name, command in found[:FOUND_MAX]]
        left = len(found) - len(rows)
        pointers = ["help NAME (one command)", "help (tasks)"]
        if left:
            pointers.append(f"{left} more match: add another word")
        return [*columns(rows), *_more(*pointers)]

    def _nothing(self, words: list[str]) -> list[str]:
        names = [name for name, command in self._table.everything() if self._shows(command)]
        names += [word for topic in self._topics for word in (topic.name, *topic.also)]
        near = [each for word in words for each in get_close_matches(word, names, _NEAREST_MAX, _LIKENESS)]
        said = [f"help: no command, task or manual page is about '{_shortened(' '.join(words))}'"]
        if near:
            said += paragraph("Did you mean " + " or ".join(f"'help {each}'" for each in near[:3]) + "?")
        raise LineError("\n".join([*said, *_more("help (tasks)", "help all (every command)")]))


def _fits(topic: Topic, call: Call) -> bool:
    """Whether the lines of a topic can be given to the target: a QEMU can't move disks as qmon does."""
    if topic.needs and not call.has(topic.needs):
        return False
    if not call.monitor.passes:
        return True
    lines = [line.removeprefix(PROMPT) for line in topic.text.split("\n") if line.startswith(PROMPT)]
    return all(call.monitor.read(line).error is None for line in lines)


def usage(name: str, command: Command) -> list[str]:
    """Return a command's syntax and what it does, as lines for a terminal."""
    entry = command.entry
    *above, last = syntax(" ".join(name.split(" ")[:-1]), command)
    sentence, *flags = entry.help.split("\n")
    line = f"{last} -- {sentence}"
    fits = len(line) <= WIDTH
    lines = [*above, *([line] if fits else [*paragraph(last), *paragraph(sentence, "    ")])]
    return lines + [line for flag in flags for line in paragraph(flag.strip(), "    ")]


def _filled(line: str, known: Mapping[str, str]) -> str:
    """Put names in their places in a line; a comment after it stays in its column."""
    typed, space, comment = line.partition("  # ")
    filled = _PLACE.sub(lambda place: known.get(place[0], place[0]), typed.rstrip())
    return filled.ljust(len(typed)) + space + comment if space else filled


def _rows(topic: Topic) -> list[str]:
    return columns([(", ".join(row.lines), row.phrase) for row in topic.rows])


def _more(*pointers: str) -> list[str]:
    """Return where to go next."""
    return paragraph(f"More: {', '.join(pointers)}")


def _with_path(name: str, command: Command) -> str:
    return " ".join([*name.split(" ")[:-1], command.name])


def _sentence(command: Command) -> str:
    return command.entry.help.split("\n")[0]


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."
