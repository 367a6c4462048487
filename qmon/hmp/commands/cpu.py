"""The CPU: what a machine has of it and does with it; mostly that there is none."""

from __future__ import annotations

from qmon.hmp.handlers import Call, Handler, handler
from qmon.hmp.person import LineError

NO_CPU = "No CPU available"
NO_S390X = "this machine is not an S390 one: it has no storage keys"

_WITHOUT_CPU = {
    "hmp_cpu": "invalid CPU index",
    "hmp_info_local_apic": NO_CPU,
    "hmp_info_mem": NO_CPU,
    "hmp_info_tlb": NO_CPU,
    "hmp_memsave": NO_CPU,
    "hmp_info_skeys": NO_S390X,
    "hmp_info_cmma": NO_S390X,
    "hmp_dump_skeys": NO_S390X,
    "hmp_info_via": "this machine has no VIA chip",
}
"""Commands that QMP has no words for, and what they fail with where there is no CPU."""

_SILENT_WITHOUT_CPU = ("hmp_mce", "hmp_info_pic")
"""Such commands that say nothing, as QEMU's do."""

_SILENT_WHEN_EMPTY = {
    "hmp_info_memory_devices": "query-memory-devices",
    "hmp_hotpluggable_cpus": "query-hotpluggable-cpus",
    "hmp_info_tpm": "query-tpm",
}
"""Listings to the query that says whether there is anything to list."""

_NO_CPU_INDEX = 1 << 31
"""From here on a 32-bit number is negative to QEMU, which stands for the CPU at hand."""

STATS_TARGETS = ("vm", "vcpu", "cryptodev")
STATS_PROVIDERS = ("kvm", "cryptodev")


def _failing(text: str) -> Handler:
    async def fail(call: Call) -> None:
        await call.pass_on(text)

    return fail


async def _say_nothing(call: Call) -> None:
    await call.pass_on("", fails=False)


def _listing(query: str) -> Handler:
    async def show(call: Call) -> None:
        if await call.execute(query):
            await call.pass_on(f"{call.typed}: only a target with a monitor of its own can show them")

    return show


def _add_handlers() -> None:
    for name, text in _WITHOUT_CPU.items():
        handler(name)(_failing(text))
    for name in _SILENT_WITHOUT_CPU:
        handler(name)(_say_nothing)
    for name, query in _SILENT_WHEN_EMPTY.items():
        handler(name)(_listing(query))


_add_handlers()


@handler("hmp_info_cpus")
async def info_cpus(call: Call) -> None:
    for number, cpu in enumerate(await call.execute("query-cpus-fast")):
        mark = " " if number else "*"
        call.print(f"{mark} CPU #{cpu['cpu-index']}: thread_id={cpu['thread-id']}")


@handler("hmp_info_registers")
async def info_registers(call: Call) -> None:
    if call.flag("cpustate_all"):
        await call.pass_on("", fails=False)
    elif int(call.values.get("vcpu", _NO_CPU_INDEX)) < _NO_CPU_INDEX:
        await call.pass_on(f"CPU#{call.values['vcpu']} not available")
    else:
        await call.pass_on(NO_CPU)


@handler("hmp_info_kvm")
async def info_kvm(call: Call) -> None:
    kvm = await call.execute("query-kvm")
    state = ("enabled" if kvm["enabled"] else "disabled") if kvm["present"] else "not compiled"
    call.print(f"kvm support: {state}")


@handler("hmp_info_sev")
async def info_sev(call: Call) -> None:
    if (await call.execute("query-sev"))["enabled"]:
        await call.pass_on("SEV is enabled")
    else:
        call.print("SEV is not enabled")


@handler("hmp_info_sgx")
async def info_sgx(call: Call) -> None:
    await call.execute_bare("query-sgx")
    await call.pass_on("SGX is enabled")


@handler("hmp_info_vm_generation_id")
async def info_vm_generation_id(call: Call) -> None:
    call.print(str((await call.execute("query-vm-generation-id"))["guid"]))


@handler("hmp_singlestep")
async def singlestep(call: Call) -> None:
    option = call.text("option", "on")
    if option not in ("on", "off"):
        raise LineError(f"unexpected option {option}")
    if call.has("x-qmon-singlestep"):
        await call.execute("x-qmon-singlestep", {"enable": option == "on"})
    else:
        await call.pass_on("single-stepping needs a CPU")


handler("hmp_one_insn_per_tb")(singlestep)


@handler("hmp_gdbserver")
async def gdbserver(call: Call) -> None:
    device = call.text("device", "tcp::1234")
    await call.pass_on(
        "gdbstub: meaningless to attach gdb to a machine without any CPU.\n"
        f"Could not open gdbserver on device '{device}'"
    )


@handler("hmp_info_replay")
async def info_replay(call: Call) -> None:
    replay = await call.execute("query-replay")
    if replay["mode"] == "none":
        call.print("Record/replay is not active")
    else:
        doing = "Replaying" if replay["mode"] == "play" else "Recording"
        call.print(f"{doing} '{replay.get('filename', '')}': instruction count = {replay['icount']}")


@handler("hmp_replay_break")
async def replay_break(call: Call) -> None:
    await call.execute_bare("replay-break", {"icount": int(call.values["icount"])})


@handler("hmp_replay_delete_break")
async def replay_delete_break(call: Call) -> None:
    await call.execute_bare("replay-delete-break", {})


@handler("hmp_replay_seek")
async def replay_seek(call: Call) -> None:
    await call.execute_bare("replay-seek", {"icount": int(call.values["icount"])})


@handler("hmp_info_stats")
async def info_stats(call: Call) -> None:
    target, provider = call.text("target"), call.text("provider")
    if target not in STATS_TARGETS:
        raise LineError(f"invalid stats target {target}")
    if "provider" in call.values and provider not in STATS_PROVIDERS:
        raise LineError(f"invalid stats provider {provider}")
    if target == "vcpu" and not await call.execute("query-cpus-fast"):
        raise LineError(NO_CPU)
    if await call.execute("query-stats", {"target": target}):
        await call.pass_on(f"{call.typed}: only a target with a monitor of its own can show them")
