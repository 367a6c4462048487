"""Where qmon keeps files between runs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from qmon.errors import reason

_ATTEMPT_BYTES = 4096


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ``$XDG_STATE_HOME/qmon``."""
    return _base(environ, "XDG_STATE_HOME", ".local/state") / "qmon"


def has_home(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the state folder's place is anybody's: a user without a home has none."""
    home = os.path.expanduser("~")  # "/" if HOME is empty
    return Path(environ.get("XDG_STATE_HOME", "")).is_absolute() or (home != "/" and os.path.isdir(home))


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ``$XDG_CONFIG_HOME/qmon/config.toml``."""
    return _base(environ, "XDG_CONFIG_HOME", ".config") / "qmon" / "config.toml"


def _base(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    """Return a base directory; by the XDG Base Directory Specification a relative path is ignored."""
    base = Path(environ.get(variable, ""))
    if base.is_absolute():
        return base
    # stays "~" without HOME for a user who is not in the password database
    home = Path(os.path.expanduser("~"))
    return (home if home.is_absolute() else Path("/")) / usual


def why_unwritable(folder: Path) -> str | None:
    """Return why no file can be made in a folder, or None if one can or the file system can't tell.

    A missing folder counts as writable if it can be created. The test leaves nothing behind.
    """
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, bytes(_ATTEMPT_BYTES))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP and os.access(place, os.W_OK | os.X_OK):
            return None  # some file systems do not support O_TMPFILE
        return f"{place}: {reason(error)}"
    return None
