"""The configuration file: TOML, with tables for the console and for the defaults of migration parameters."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qmon.errors import CommandError, QmonError, UsageError, reason
from qmon.hmp.commands.migration_parameters import PARAMETERS, read_parameter
from qmon.host.small_file import read_file
from qmon.notation.config_words import instead, written
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Target

CONSOLE_TABLES = ("console", "colours", "bindings")
"""The tables that only a console on a terminal reads (``qmon.console.settings``)."""

_PARAMETERS = "parameters"
_LIMIT_BYTES = 1 << 20
_MISSING = (errno.ENOENT, errno.ENOTDIR)


class ConfigError(QmonError):
    """The file is wrong where that must not be ignored; the text names it and how to start without it."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {one_line(what)} (-no-user-config starts without this file)")


@dataclass(frozen=True, slots=True)
class UserConfig:
    """A configuration file that was read; with ``path`` None there is none."""

    path: Path | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)
    """``CONSOLE_TABLES``, as they are in the file."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Values for ``migrate-set-parameters``."""

    async def set_parameters(self, target: Target) -> None:
        """Make the parameters those of a machine. Raises ConfigError for a value that it refuses."""
        for name, value in self.parameters.items():
            try:
                await target.execute("migrate-set-parameters", {name: value})
            except CommandError as error:
                assert self.path is not None
                raise _wrong_parameter(self.path, name, reason(error)) from error


def read_config(path: Path) -> UserConfig:
    """Read a file; one that is missing sets nothing.

    Raises OSError if it can't be read; ConfigError if it is not TOML, or has an unknown table or a wrong
    parameter. The tables of the console are not checked.
    """
    try:
        data = read_file(str(path), _LIMIT_BYTES)
    except OSError as error:
        if error.errno in _MISSING:
            return UserConfig()
        raise
    import tomllib

    try:
        tables = tomllib.loads(data.decode())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, f"not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, f"not TOML: byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise ConfigError(path, "not TOML: it is nested too deeply") from error
    known = (*CONSOLE_TABLES, _PARAMETERS)
    for name in tables:
        if name not in known:
            raise ConfigError(path, f"{name}: unknown table: {instead(name, known)}")
    parameters = tables.pop(_PARAMETERS, {})
    if not isinstance(parameters, dict):
        raise ConfigError(path, f"{_PARAMETERS}: expected a table, found {written(parameters)}")
    return UserConfig(
        path, tables, {name: _parameter(path, name, value) for name, value in parameters.items()}
    )


def _parameter(path: Path, name: str, value: object) -> Any:
    """Read a parameter's value, which is written as for ``migrate_set_parameter``. Raises ConfigError."""
    names = [row.name for row in PARAMETERS]
    if name not in names:
        raise _wrong_parameter(path, name, f"unknown parameter: {instead(name, names)}")
    if isinstance(value, bool):
        text = "on" if value else "off"
    elif isinstance(value, str | int):
        text = str(value)
    else:
        what = f"expected a text, a number, true or false, found {written(value)}"
        raise _wrong_parameter(path, name, what)
    try:
        return read_parameter(name, text)
    except (CommandError, UsageError) as error:
        raise _wrong_parameter(path, name, f"{written(value)}: {reason(error)}") from error


def _wrong_parameter(path: Path, name: str, what: str) -> ConfigError:
    return ConfigError(path, f"{_PARAMETERS}.{name}: {what}")
