"""Setting and listing the parameters and capabilities of migrations."""

from __future__ import annotations

from qmon.errors import CommandError
from qmon.hmp.commands.choices import execute_choice
from qmon.hmp.commands.migration_parameters import parameter_lines, parameter_warning, read_parameter
from qmon.hmp.handlers import Call, handler
from qmon.qmp.target import ask

_UNDER_WAY = "There's a migration process in progress"
_BEFORE = "A capability is set before migrate"
_NOW = ". What can be set now: 'migrate_set_parameter x-qmon-copy-mode write-blocking'"


@handler("hmp_migrate_set_parameter", "migrate-set-parameters")
async def migrate_set_parameter(call: Call) -> None:
    name, text = call.text("parameter"), call.text("value")
    warning = parameter_warning(name, text)
    if warning is not None:
        call.print(warning)
    if name == "block-bitmap-mapping":
        call.hint(f"""by QMP: 'qmp migrate-set-parameters {{"{name}": [...]}}'""")
    value = read_parameter(name, text)
    try:
        await call.execute("migrate-set-parameters", {name: value})
    except CommandError as error:
        call.hint(await _words_of(call, name))
        if str(error) != f"Parameter '{name}' is unexpected":
            raise
        raise CommandError(
            f"invalid parameter value: {name}"
        ) from error  # the target is a QEMU without this parameter


@handler("hmp_migrate_set_capability", "migrate-set-capabilities")
async def migrate_set_capability(call: Call) -> None:
    change = {"capability": call.text("capability"), "state": call.values["state"]}
    try:
        await execute_choice(call, "migrate-set-capabilities", {"capabilities": [change]})
    except CommandError as error:
        if str(error) == _UNDER_WAY:
            call.hint(_BEFORE + (_NOW if change["capability"] == "auto-converge" else ""))
        raise


async def _words_of(call: Call, name: str) -> str | None:
    """Return the words that a parameter takes, None if it takes others, or they are not known."""
    rows = (await ask(call.monitor.line_target, "x-qmon-query-migrate-settings", {})).get("parameters", ())
    words: list[str] = next((row["values"] for row in rows if row["name"] == name), [])
    return f"{name} takes {', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else None


@handler("hmp_migrate_set_speed", "migrate-set-parameters")
async def migrate_set_speed(call: Call) -> None:
    await call.execute("migrate-set-parameters", {"max-bandwidth": call.values["value"]})


@handler("hmp_migrate_set_downtime", "migrate-set-parameters")
async def migrate_set_downtime(call: Call) -> None:
    downtime_ms = round(float(call.values["value"]) * 1000)
    await call.execute("migrate-set-parameters", {"downtime-limit": downtime_ms})


@handler("hmp_info_migrate_parameters", "query-migrate-parameters")
async def info_migrate_parameters(call: Call) -> None:
    for line in parameter_lines(await call.execute("query-migrate-parameters")):
        call.print(line)


@handler("hmp_info_migrate_capabilities", "query-migrate-capabilities")
async def info_migrate_capabilities(call: Call) -> None:
    for each in await call.execute("query-migrate-capabilities"):
        call.print(f"{each['capability']}: {'on' if each['state'] else 'off'}")
