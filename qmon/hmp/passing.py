"""Lines for the target's own monitor: sends them, and tells from the answer whether they failed.

``human-monitor-command`` succeeds for nearly every line; the text is the answer. Commands that do something
are silent when they succeed, so any text of theirs is an error. The talkers are the commands that print more.
"""

from __future__ import annotations

import re

from qmon.hmp.handlers import Call
from qmon.hmp.person import LineError
from qmon.hmp.tables.usage import usage

TALKERS = frozenset(
    """
    info help ? print p x xp i sum gva2gpa gva2hva gpa2hva gpa2hpa qom-get qom-list gdbserver ringbuf_read
    sync-profile calc_dirty_rate set_vcpu_dirty_limit cancel_vcpu_dirty_limit pcie_aer_inject_error dumpdtb
    xen-event-list xen-event-inject hostfwd_remove
    """.split()
)
"""Commands that print something when they succeed."""

_DONE = {"drive_add": re.compile(r"OK")}
"""What other commands print when they have succeeded."""

_FAILURE = re.compile(r"Error: |unknown command: '|.*\nTry \"help [^\n]*\" for more information\Z", re.DOTALL)
_REMARK = re.compile(r"(?:warning|info): ")
"""Beginnings of lines that do not make an answer an error."""
_ASKS_HELP = re.compile(r"(?:^|[\s,=])(?:help|\?)(?:$|[\s,])")
"""The word in an argument that asks for a list: ``device_add help``."""


def has_failed(line: str, answer: str) -> bool:
    """Whether an answer, without its last newline, says that the line failed."""
    words = line.split(None, 1)
    if not words or not answer:
        return False
    name = re.split("/", words[0])[0]
    if name in TALKERS or (len(words) > 1 and _ASKS_HELP.search(words[1])):
        return _FAILURE.match(answer) is not None
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
    raise LineError(answer)
