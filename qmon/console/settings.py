"""The settings of the console, and how the configuration file writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from qmon.console.free_keys import is_free
from qmon.console.style import PARTS, build_style
from qmon.notation.config_words import instead, written
from qmon.notation.plain_text import one_line

EDITING = ("emacs", "vi")

TABLES = ("console", "colours", "bindings")
"""The tables of the configuration file that ``read_settings`` reads."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the console looks and behaves; the first six are the keys of the table ``console``."""

    keys: str = "emacs"
    """The editing mode, one of ``EDITING``."""
    bell: bool = True
    """Whether the end of a long migration rings the bell and sends the terminal's notification."""
    plain: bool = False
    """Whether text is only ever added: nothing is redrawn, nothing is coloured, there is no menu."""
    suggestions: bool = True
    """Whether the rest of a line from the history is suggested."""
    toolbar: bool = True
    """Whether there is a row below the prompt."""
    completion: bool = True
    """Whether the menu opens while typing; TAB opens it in any case."""
    colours: Mapping[str, str] = field(default_factory=dict)
    """Styles of prompt_toolkit by the names of ``style.PARTS``."""
    bindings: Mapping[str, str] = field(default_factory=dict)
    """Lines to run by the keys that run them, in prompt_toolkit's names."""


DEFAULTS = Settings()

_SWITCHES = tuple(each.name for each in fields(Settings) if each.type == "bool")


def read_settings(tables: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Read the tables ``TABLES`` of a configuration file; return the settings and a line for each error.

    A wrong key leaves its setting as it is by default.
    """
    wrong: list[str] = []
    chosen: dict[str, Any] = {}
    for key, value in _table(tables, "console", wrong).items():
        if value in EDITING if key == "keys" else key in _SWITCHES and isinstance(value, bool):
            chosen[key] = value
        elif key in _SWITCHES:
            wrong.append(f"console.{key}: expected true or false, found {written(value)}")
        elif key == "keys":
            wrong.append(f'console.keys: expected "emacs" or "vi", found {written(value)}')
        else:
            wrong.append(f"console.{key}: unknown key: {instead(key, ('keys', *_SWITCHES))}")
    colours = {}
    for part, style in _table(tables, "colours", wrong).items():
        if part not in PARTS:
            wrong.append(f"colours.{part}: unknown key: {instead(part, PARTS)}")
        elif is_style(part, style):
            colours[part] = style
        else:
            wrong.append(f'colours.{part}: expected a style such as "bold ansired", found {written(style)}')
    bindings = {}
    for key, line in _table(tables, "bindings", wrong).items():
        if not is_free(key):
            wrong.append(f'bindings.{key}: expected a free key such as "f5" or "c-t"')
        elif not isinstance(line, str) or not line.strip() or "\n" in line:
            wrong.append(f"bindings.{key}: expected a line to run, found {written(line)}")
        else:
            bindings[key] = line
    return Settings(**chosen, colours=colours, bindings=bindings), [one_line(each) for each in wrong]


def is_style(part: str, style: object) -> bool:
    """Whether a value is a style for a part, as prompt_toolkit writes styles."""
    if not isinstance(style, str):
        return False
    try:
        build_style({part: style})
    except ValueError:
        return False
    return True


def _table(tables: Mapping[str, Any], name: str, wrong: list[str]) -> Mapping[str, Any]:
    table = tables.get(name, {})
    if isinstance(table, Mapping):
        return table
    wrong.append(f"{name}: expected a table, found {written(table)}")
    return {}
