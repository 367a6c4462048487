"""How much of the machine's memory a process holds."""

from __future__ import annotations

from pathlib import Path

from tests.support.images import KIB, MIB
from tests.support.processes import Qmon

MEMORY_MAX = 200 * MIB
"""What a qmon never holds, whatever its clients do."""


def memory(qmon: Qmon) -> int:
    """What a process holds of the machine's memory, in bytes."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * KIB


def peak(qmon: Qmon) -> int:
    """The most that it ever held."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * KIB
