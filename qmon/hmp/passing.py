"""Lines for the target's own monitor: sends them, and tells from the answer whether they failed.

``human-monitor-command`` succeeds for nearly every line; the text is the answer. Commands that do something
are silent when they succeed, so any text of theirs is an error. Some say that they have succeeded, and the
talkers print what was asked for.
"""

from __future__ import annotations

import re

from qmon.hmp.handlers import Call
from qmon.hmp.line.misplaced import qmp_hint, word_hint
from qmon.hmp.person import LineError
from qmon.hmp.tables.usage import usage
from qmon.qmp.target import MIGRATE_DISKS

TALKERS = frozenset("info help ? print p x xp qom-get qom-list ringbuf_read xen-event-list".split())
"""Commands whose answer may be any text."""

_DONE = {
    name: re.compile(pattern)
    for name, pattern in {
        "boot_set": r"boot device list now set to .*",
        "calc_dirty_rate": r"Starting dirty rate measurement .*|\[Please use .*",
        "cancel_vcpu_dirty_limit": r"\[Please use .*",
        "drive_add": r"OK",
        "dumpdtb": r"DTB dumped to .*",
        "gdbserver": r"Waiting for gdb connection on device .*|Disabled gdbserver",
        "gpa2hpa": r"Host physical address for .*",
        "gpa2hva": r"Host virtual address for .*",
        "gva2gpa": r"gpa: .*",
        "hostfwd_remove": r"host forwarding rule for .* removed",
        "i": r"port.\[.*",
        "pcie_aer_inject_error": r"OK id: .*",
        "set_vcpu_dirty_limit": r"\[Please use .*",
        "sum": r"\d+",
        "sync-profile": r"sync-profile is (?:on|off)",
    }.items()
}
"""What other commands print when they have succeeded: a pattern of each line."""

_FAILURE = re.compile(r"Error: |unknown command: '|.*\nTry \"help [^\n]*\" for more information\Z", re.DOTALL)
_CANNOT = frozenset(("Can not dump without CPU", "Cannot access memory", "No CPU available"))
"""Lines of talkers that have failed."""
_WITH_DISKS = re.compile(r"\s*migrate\s.*(?<!\S)(?:-b|-i|blk|inc)(?!\S)")
"""A line that only a console moves, which runs on a QMP monitor."""
_REMARK = re.compile(r"(?:warning|info): ")
"""Beginnings of lines that do not make an answer an error."""
_ASKS_HELP = re.compile(r"(?:^|[\s,=])(?:help|\?)(?:$|[\s,])")
"""The word in an argument that asks for a list: ``device_add help``."""


def has_failed(line: str, answer: str) -> bool:
    """Whether an answer, without its last newline, says that the line failed."""
    words = line.split(None, 1)
    if not words or not answer:
        return False
    name = words[0].partition("/")[0]
    if name in TALKERS or (len(words) > 1 and _ASKS_HELP.search(words[1])):
        return _FAILURE.match(answer) is not None or not _CANNOT.isdisjoint(answer.split("\n"))
    done = _DONE.get(name)
    said = [each for each in answer.split("\n") if each.strip() and not _REMARK.match(each)]
    return bool(said) and not (done is not None and all(done.fullmatch(each) for each in said))


async def ask_target(call: Call) -> str:
    """Send the call's line to the target's own monitor; return its answer, without the last newline.

    Raises CommandError if the line could not be sent.
    """
    reading = call.reading
    line = reading.line if reading.end == len(reading.text) else reading.line.rstrip()
    arguments: dict[str, str | int] = {"command-line": line}
    if call.monitor.cpu is not None:
        arguments["cpu-index"] = call.monitor.cpu
    answer = await call.monitor.line_target.execute("human-monitor-command", arguments)
    return str(answer).replace("\r\n", "\n").removesuffix("\n")


async def pass_on(call: Call) -> None:
    """Run the call's line on the target's own monitor, and print what it answers. Raises LineError."""
    answer = await ask_target(call)
    check(call, answer)
    if answer:
        call.print(answer)


def check(call: Call, answer: str) -> None:
    """Raises LineError if an answer to the call's line says that it failed."""
    if not has_failed(call.reading.line, answer):
        return
    command, arguments = call.reading.command, call.reading.arguments
    if command is not None and arguments.error and arguments.bad is None and arguments.awaited is not None:
        for line in usage(" ".join(name.text for name in call.reading.names[:-1]), command):
            call.hint(line)
    call.hint(word_hint(call.reading))
    call.hint(qmp_hint(call.reading, call.monitor.target.commands()))
    if _WITH_DISKS.match(call.reading.line) and not call.has(MIGRATE_DISKS):
        call.hint("To move the disks, too, connect to the QEMU's -qmp monitor, without -brief and hmp:")
    raise LineError(answer)
