"""What qmon does for a line that a QEMU's own monitor runs, besides passing it on."""

from __future__ import annotations

from qmon.errors import CommandError
from qmon.hmp.commands import general
from qmon.hmp.commands import help as help_commands
from qmon.hmp.commands.address_hints import hint_of
from qmon.hmp.commands.general import confirm_quit
from qmon.hmp.commands.guide import PAGES
from qmon.hmp.commands.migrate_disks import migrate_disks, moves_disks, refuse_while_moving
from qmon.hmp.commands.migration import look_for_early_end, wait_for_end
from qmon.hmp.commands.without_disks import warn_of_disks
from qmon.hmp.handlers import Call, on_qemu
from qmon.hmp.passing import ask_target, check, pass_on
from qmon.hmp.person import LineError

_NOT_HERE = "terminal does not allow synchronous migration, continuing detached"
"""What QEMU says to ``migrate`` without ``-d``: nobody waits at its end, so qmon waits."""


@on_qemu("hmp_migrate")
async def migrate(call: Call) -> None:
    if moves_disks(call):
        await migrate_disks(call)
        return
    await refuse_while_moving(call)
    await warn_of_disks(call)
    answer = await ask_target(call)
    if call.has("query-migrate"):
        answer = "\n".join(line for line in answer.split("\n") if line.strip() != _NOT_HERE)
    try:
        check(call, answer)
    except LineError:
        call.hint(hint_of(call))
        raise
    if answer:
        call.print(answer)
    if not call.has("query-migrate"):
        return
    info = await call.execute("query-migrate")
    try:
        if not call.flag("detach"):
            await wait_for_end(call, info)
        elif call.person.interactive:
            await look_for_early_end(call, info)
    except CommandError as error:
        raise LineError(str(error)) from error  # as QEMU's monitor, which prints the bare reason


@on_qemu("hmp_cpu")
async def cpu(call: Call) -> None:
    """Choose the CPU of later lines, which a QEMU forgets between two of them."""
    await pass_on(call)
    if call.has("query-cpus-fast"):
        call.monitor.cpu = int(call.values["index"])


@on_qemu("hmp_quit")
async def quit_(call: Call) -> None:
    await confirm_quit(call)
    call.monitor.quitting = True
    try:
        await pass_on(call)
    except LineError:
        call.monitor.quitting = False
        raise


@on_qemu("hmp_help")
async def help_(call: Call) -> None:
    words = call.text("name").split()
    command = call.monitor.tables.main.find(words[0]) if words else None
    is_ours = words[:1] == [PAGES] or (
        command is not None and (not command.is_on_target or command.ours_with is not None)
    )
    await (help_commands.help_ if call.person.interactive or is_ours else pass_on)(call)


@on_qemu("hmp_info_help")
async def info_help(call: Call) -> None:
    await (help_commands.info_help if call.person.interactive else pass_on)(call)


@on_qemu("hmp_info_history")
async def info_history(call: Call) -> None:
    await general.info_history(call)
