"""Reads the files that a start needs: command tables, and the configuration file."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qmon.errors import reason
from qmon.host.paths import config_file
from qmon.host.small_file import read_file
from qmon.program.options import Options
from qmon.program.user_config import UserConfig, read_config

if TYPE_CHECKING:
    from qmon.console.settings import Settings
    from qmon.hmp.tables.table import Tables


def read_tables(files: Sequence[str]) -> Tables | None:
    """Return the command tables with these files added; None for no files. Raises HxError or OSError."""
    if not files:
        return None
    from qmon.hmp.tables.given import read_given

    return read_given(files, read_file)


def read_user_config(options: Options) -> UserConfig:
    """Return the configuration file; warn about one that can't be read.

    Raises ConfigError, or OSError if descriptors are short, which is not the file's fault.
    """
    if not options.user_config:
        return UserConfig()
    path = config_file()
    try:
        return read_config(path)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        print(f"qmon: {path}: {reason(error)}: the configuration file is not used", file=sys.stderr)
        return UserConfig()


def read_console_settings(config: UserConfig, options: Options) -> Settings:
    """Return the console's settings; warn about those that are wrong."""
    from qmon.console.settings import read_settings

    settings, wrong = read_settings(config.tables)
    for each in wrong:
        print(f"qmon: {config.path}: {each}", file=sys.stderr)
    return replace(settings, plain=settings.plain or options.plain)
