"""Finds the options in the arguments, with those of ``-readconfig`` files and the changes of ``-set``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmon.errors import UsageError, reason
from qmon.host.small_file import read_file
from qmon.notation.config_file import ConfigFileError, escape, read_sections
from qmon.notation.keyval import parse_keyval
from qmon.program.option_table import OPTIONS, Option, Treatment

_SETTING = re.compile(r"(?P<group>[^.]+)\.(?P<id>[^.]+)\.(?P<key>[^=]+)=(?P<value>.*)", re.DOTALL)

_OTHER_NAMES = {"boot-opts": "boot", "memory": "m", "smp-opts": "smp"}
"""QEMU's groups whose name differs from the option's."""

_SETTABLE = ("add-fd", "chardev", "drive", "mon")
"""The groups of ours whose options ``-set`` changes."""

_READABLE = (*_SETTABLE, "name", "object")
"""The groups of ours that a file of ``-readconfig`` may have."""


@dataclass(slots=True)
class Given:
    """One option as it was given."""

    typed: str
    """The option as typed, or the place in a file: ``vm.cfg:3: [drive "d0"]``."""
    option: Option | None
    """Its row in the table; None for a disk image, and for what is in no table."""
    argument: str = ""
    problem: str | None = None
    """Why it can't be used, None if it is known."""
    ignored: str | None = None
    """The name of an option that has no effect, if it differs from the option's own."""

    @property
    def shown(self) -> str:
        """The option with its argument."""
        takes_argument = self.option is not None and self.option.takes_argument
        return f"{self.typed} {self.argument}" if takes_argument else self.typed


def find_options(argv: Sequence[str]) -> list[Given]:
    """Return the options in their order. Reads the files that ``-readconfig`` names."""
    line: list[Given] = []
    for given in _look_up(argv):
        name = None if given.option is None or given.problem else given.option.name
        match name:
            case "readconfig":
                line += _read_config(given)
            case "set":
                line += _set(given, line)
            case _:
                line.append(given)
    return line


def _look_up(argv: Sequence[str]) -> Iterator[Given]:
    words = iter(argv)
    after_unknown = False
    for word in words:
        if not word.startswith("-"):
            if not after_unknown:  # else it may be the unknown option's argument
                yield Given(word, None, word)
            after_unknown = False
            continue
        option = OPTIONS.get(word[2:] if word.startswith("--") else word[1:])
        after_unknown = option is None
        if option is None:
            yield Given(word, None, problem="invalid option")
            continue
        argument = next(words, None) if option.takes_argument else ""
        if argument is None:
            yield Given(word, None, problem="requires an argument")
        else:
            yield Given(word, option, argument)


def _read_config(given: Given) -> Iterator[Given]:
    """Yield the options of a file's sections, and what is wrong with it."""
    path = given.argument
    try:
        text = read_file(path).decode("utf-8", "surrogateescape")
        sections = read_sections(text.splitlines())
    except ConfigFileError as error:
        yield Given(f"{given.typed} {path}:{error.line}", None, problem=str(error))
        return
    except (OSError, ValueError) as error:
        yield Given(given.shown, None, problem=f"Could not open '{path}': {reason(error)}")
        return
    for section in sections:
        typed = f"{given.typed} {path}:{section.line}: {section.head}"
        option = OPTIONS.get(_OTHER_NAMES.get(section.group, section.group))
        if option is None or not _is_group(section.group, option):
            yield Given(typed, None, problem=f"There is no option group '{section.group}'")
        else:
            yield Given(typed, option, section.argument)


def _is_group(group: str, option: Option) -> bool:
    """Whether a file may have sections of an option. Those of ours that QEMU has no group for are none."""
    return option.takes_argument and (option.treatment is not Treatment.OURS or group in _READABLE)


def _set(given: Given, line: Sequence[Given]) -> Iterator[Given]:
    """Change the option that a ``-set`` names; yield what is left to be told about it."""
    setting = _SETTING.fullmatch(given.argument)
    if setting is None:
        given.problem = f'can\'t parse: "{given.argument}": write GROUP.ID.KEY=VALUE'
        yield given
        return
    group = setting["group"]
    option = OPTIONS.get(_OTHER_NAMES.get(group, group))
    if option is not None and option.treatment is Treatment.IGNORED:
        given.ignored = f"-set {group}"
        yield given
        return
    if option is None or group not in _SETTABLE:
        given.problem = f"There is no option group '{group}'"
        yield given
        return
    target = next((each for each in line if each.option is option and _id(each) == setting["id"]), None)
    if target is None:
        given.problem = f'there is no {group} "{setting["id"]}" defined: -set changes an option before it'
        yield given
        return
    target.argument += f",{setting['key']}={escape(setting['value'])}"


def _id(given: Given) -> str | None:
    if given.argument.startswith("{"):
        return None  # as in QEMU, -set does not change options in JSON
    try:
        return parse_keyval(given.argument).get("id")
    except UsageError:
        return None
