"""The prompt of a monitor, and its first line."""

import re

from qmon.version import VERSION

PROMPT = "(qemu) "
BANNER = f"qmon {VERSION} monitor - type 'help' for more information"

NAME_MOST = 24
"""The most characters of a name in a prompt."""

_NOT_IN_NAME = re.compile(r"[^\w.:@/+-]")


def prompt_of(name: str) -> str:
    """Return the prompt of a console on the machine of this name: ``(qemu web1) ``."""
    shown = _NOT_IN_NAME.sub("_", name)[:NAME_MOST]
    return f"(qemu {shown}) " if shown else PROMPT
