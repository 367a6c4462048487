"""The programs of other projects that tests run against, and what happens to a test whose peer is missing.

``QMON_REQUIRE_PEERS=1`` in the environment turns "not installed" from a reason to skip into a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import NoReturn

REQUIRED = os.environ.get("QMON_REQUIRE_PEERS") == "1"

missing: set[str] = set()
"""What ``require`` did not find in this run; the closing summary names it."""


def lack(what: str) -> NoReturn:
    """Skip the running test, or fail it when peers are required, for want of something."""
    import pytest  # not there where only the demonstrations run

    missing.add(what)
    if REQUIRED:
        pytest.fail(f"missing: {what}")
    pytest.skip(f"not to be had: {what}")


def require(*programs: str) -> None:
    """Skip the running test, or fail it when peers are required, unless every program is there.

    A program is a name looked up on PATH, or a path such as ``/opt/qemu10/run``. Call it before anything is
    started; in a fixture or at the top of a test.
    """
    absent = _absent(programs)
    missing.update(absent)
    if not absent:
        return
    import pytest

    names = ", ".join(absent)
    if REQUIRED:
        pytest.fail(f"missing peer: {names} (tools/install-peers installs it)")
    pytest.skip(f"not installed: {names}")


def exit_without(*programs: str) -> None:
    """End a program that is no test with a line, unless every program is there."""
    absent = _absent(programs)
    if absent:
        sys.exit(f"not installed: {', '.join(absent)} (tools/install-peers, as root)")


def _absent(programs: Sequence[str]) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]
