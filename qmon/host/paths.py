"""Where qmon keeps what outlives a run."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from qmon.errors import reason

_ATTEMPT_BYTES = 4096


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_STATE_HOME/qmon`` by the XDG Base Directory Specification: a relative path is unset."""
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        home = Path(
            os.path.expanduser("~")
        )  # stays "~" for a user without HOME whom the system does not know
        state = (home if home.is_absolute() else Path("/")) / ".local" / "state"
    return state / "qmon"


def why_unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder, which is made with it if need be; None where nothing is known.

    Nothing is left of the attempt.
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
            return None  # some file systems know no file without a name
        return f"{place}: {reason(error)}"
    return None
