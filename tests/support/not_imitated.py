"""The one list of lines that qmon answers otherwise than QEMU because it has nothing of the kind.

The monitor reads them by the same grammar: what that refuses is refused in the same words. Then it gives the
answer of the command's row in ``qmon.qmp.absent``, whatever the arguments are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qmon.qmp.absent import ABSENT
from tests.support.peer import Answer

NO_CPU = "qmon has no CPU"
NO_MEMORY = "qmon has no memory and no I/O ports"
NO_DEVICES = "qmon has no device bus"
NO_NETWORK = "qmon has no network"
NO_SCREEN = "qmon has no screen, keyboard, mouse or sound"
NO_TREE = "qmon has no object tree"
NO_PROFILE = "qmon does not measure its locks"

NOT_IMITATED: Mapping[str, str] = {
    "calc_dirty_rate 1": NO_MEMORY,
    "client_migrate_info nosuch host": NO_SCREEN,
    "device_add nosuch": NO_DEVICES,
    "device_del /machine": NO_TREE,
    "dump-guest-memory -z -l x": NO_MEMORY,
    "expire_password spice now": NO_SCREEN,
    "gdbserver": NO_CPU,
    "gpa2hpa 0": NO_MEMORY,
    "gpa2hva 0": NO_MEMORY,
    "hostfwd_add n0 tcp::1-:1": NO_NETWORK,
    "hostfwd_remove n0 tcp::1": NO_NETWORK,
    "i 0": NO_MEMORY,
    "mce 0 0 0 0 0 0": NO_CPU,
    "mouse_button 1": NO_SCREEN,
    "mouse_move 1 1": NO_SCREEN,
    "mouse_set 0": NO_SCREEN,
    "netdev_add user,id=n0": NO_NETWORK,
    "o/b 0x80 1": NO_MEMORY,
    "object_add help": "qmon has fewer types of objects",
    'pmemsave 0 10 "saved"': NO_MEMORY,
    "qemu-io -d /machine x": NO_TREE,
    "qom-get / machine": NO_TREE,
    "qom-list": NO_TREE,
    "qom-set /machine usb on": NO_TREE,
    "screendump x nosuch": NO_SCREEN,
    "sendkey a": NO_SCREEN,
    "set_password spice x": NO_SCREEN,
    "singlestep off": NO_CPU,
    "stopcapture 0": NO_SCREEN,
    "sum 0 10": NO_MEMORY,
    "sync-profile": NO_PROFILE,
    "xp 0": NO_MEMORY,
    "info dump": "QEMU has tried to dump by then",
    "info memdev": "QEMU prints an empty line",
    "info mtree": NO_MEMORY,
    "info qom-tree": NO_TREE,
    "info registers 0": NO_CPU,
    "info stats nosuch": NO_CPU,
    "info sync-profile": NO_PROFILE,
}
"""For each command a line that differs, with the reason."""


def _command(line: str) -> str:
    words = [word.partition("/")[0] for word in line.split()[:2]]
    return " ".join(words) if words[:1] == ["info"] else "".join(words[:1])


_COMMANDS = {_command(line) for line in NOT_IMITATED}
_TEXTS = {row.text for row in ABSENT}
_OTHER_TEXTS = re.compile(
    r"Error: Device '.*' not found|List of user creatable objects:\n.*|\S+ options:\n.*", re.DOTALL
)


def is_not_imitated(line: str, ours: Answer) -> bool:
    """Whether a line's command is listed, and qmon answers nothing but the text that it has instead."""
    text = "\n".join(ours)
    return _command(line) in _COMMANDS and (text in _TEXTS or _OTHER_TEXTS.fullmatch(text) is not None)
