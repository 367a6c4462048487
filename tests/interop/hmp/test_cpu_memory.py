"""CPU, memory, debugging and the program: qmon says what QEMU says that has no CPU and no memory.

And a QEMU that has them, driven by qmon's monitor, answers as its own monitor does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmon.hmp.monitor import Monitor
from tests.interop.hmp.test_hmp import (
    Hmp,
    QmpTarget,
    compare,
    end,
    ours,
    start_qemu,
)
from tests.interop.qmp.test_qmp import Qmp
from tests.support.peers import require
from tests.support.processes import open_descriptors
from tests.support.two_monitors import TwoMonitors, differing, told

LINES = r"""
info mtree
info mtree -f
info mtree -d
info mtree -o
info mtree -D
info mtree -f -d
info mtree -f -o
info mtree -f -d -o -D
info mtree -x
info mtree x
x 0
x/4xb 0
x/i 0
x/0x 0
x/q 0
xp 0
xp/4xb 0
xp/2xg 0x1000
xp/3d -1
xp/3o 1
xp/20c 0xfffffffffffffff8
xp/2i 0
xp/0x 0
xp/0i 0
xp/x 1 2
gpa2hva 0
gpa2hva -1
gpa2hva 0x123456789abc
gpa2hva 1 2
gpa2hpa 0x10
gva2gpa 0
gva2gpa -1
i/b 0x60
i/h 0x60
i/w 0x60
i 0x60
i/g 0x60
i/i 0x60
i 0x3d4 . 5
i/b 0x3d4.5
i/b 0xffff.0x1ff
i/4w 0x10000
i/c 0xffffffff
i/x 7 8
i/b 7 . 8 9
i/b 7 .
i -1
o/b 0x80 0x1ff
o/g 0x80 1
o/i 0x80 1
o 0x80
o 0x80 -1
o 0x80 1 1
sum 0 10
sum 0 0
sum 0x1000 65537
sum 0
sum 0 -1
memsave 0 10 "x"
memsave -1 10 x
memsave 0 10
memsave 0 10 x y
memsave 0 -1 x
pmemsave 0 10 "saved"
pmemsave 0 0 "saved"
pmemsave -5 3000 "saved"
pmemsave 0 10 "/nosuch/saved"
pmemsave 0 10 "."
pmemsave 0 10 ""
pmemsave 0 10
pmemsave 0 4294967296 "saved"
pmemsave 0 1 saved
dump-guest-memory x
dump-guest-memory -p x
dump-guest-memory -d x
dump-guest-memory -z x
dump-guest-memory -l x
dump-guest-memory -s x
dump-guest-memory -w x
dump-guest-memory -p -z x
dump-guest-memory -p -l x
dump-guest-memory -z -l x
dump-guest-memory -w -s x
dump-guest-memory -p -d -z x 0 10
dump-guest-memory -l x 0
dump-guest-memory -d -w x 0 10
dump-guest-memory x 0
dump-guest-memory x 0 10
dump-guest-memory x 0 10 20
dump-guest-memory x a
dump-guest-memory /nosuch/x
dump-guest-memory ""
dump-guest-memory .
info dump
info dump x
dumpdtb x
dumpdtb /nosuch/x
dumpdtb x y
balloon 0
balloon 100
balloon -1
balloon 99999999999999
balloon 8796093022207
balloon 8796093022208
balloon 17592186044416
info balloon
cpu 0
cpu 4294967295
cpu -1
cpu 1 2
mce 0 0 0 0 0 0
mce -b 0 0 0 0 0 0
mce 0 0 0 0 0
mce 0 0 0 0 0 0 0
mce -x 0 0 0 0 0 0
singlestep
info status
singlestep off
info status
singlestep on
stop
info status
singlestep "off"
info status
cont
singlestep nosuch
singlestep ""
singlestep on off
info status
gdbserver
gdbserver tcp::0
gdbserver none
gdbserver ""
gdbserver unix:x
gdbserver none x
replay_break 1
replay_break -1
replay_break x
replay_delete_break
replay_delete_break 1
replay_seek 1
replay_seek -1
replay_seek
info replay
info registers
info registers -a
info registers 0
info registers 4294967295
info registers -a 0
info registers 0 1
info registers -x
info lapic
info lapic 0
info lapic x
info mem
info tlb
info memory-devices
info memory_size_summary
info hotpluggable-cpus
info ramblock
info roms
info opcount
info profile
info cpus
info kvm
info numa
info sev
info sgx
info vm-generation-id
info tpm
info irq
info pic
info sync-profile
info sync-profile -m
info sync-profile -m -n 10
info sync-profile -n 0
info sync-profile -x
info sync-profile 1 2
sync-profile
sync-profile off
sync-profile reset
sync-profile nosuch
sync-profile ""
sync-profile on off
info stats vm
info stats vm x
info stats vm x kvm
info stats vm a,b, kvm
info stats vm * nosuch
info stats vm "" ""
info stats nosuch
info stats nosuch x nosuch
info stats VM
info stats vm x kvm y
exit_preconfig
exit_preconfig x
log none
log guest_errors
log guest_errors,unimp
log tid
log all
log unimp,tid
log trace:nosuch
log trace:nosuch,trace:other
log trace:nosuch*
log trace:-nosuch
log trace:handle_hmp_command
info trace-events handle_hmp_command
log none
info trace-events handle_hmp_command
log trace:-handle_hmp*
info trace-events handle_hmp_command
log a b
trace-event handle_hmp_command on
info trace-events handle_hmp_command
trace-event handle_?mp_command off
info trace-events handle_hmp_*
trace-event nosuch on
trace-event nosuch* on
trace-event nosuch? off
trace-event [h] off
trace-event "" off
trace-event handle_hmp_command maybe
trace-event handle_hmp_command
trace-event handle_hmp_command on 0
trace-event nosuch off 5
trace-event handle_hmp_command on x
info trace-events handle_?mp_command
info trace-events migrate_set_state
info trace-events nosuch
info trace-events nosuch*
info trace-events nosuch 0
info trace-events handle_hmp_command 7
info trace-events handle_hmp_command -1
info trace-events a b
info trace-events ""
logfile x.log
log tid
log all
log none
logfile /nosuch/x.log
log unimp
log tid
logfile x%d.log
logfile x%s.log
logfile x%d%d.log
logfile x%%.log
logfile %
logfile %d%
logfile .
logfile a b
logfile y.log
log none
getfd x
getfd 1x
getfd ""
getfd x y
closefd x
closefd 1x
closefd ""
""".strip().split("\n")

QMP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("balloon", {}),
    ("balloon", {"value": "x"}),
    ("balloon", {"value": 1 << 20}),
    ("query-balloon", {}),
    ("memsave", {"val": 0, "size": 1, "filename": "x"}),
    ("memsave", {"val": 0, "size": 1, "filename": "x", "cpu-index": 0}),
    ("memsave", {"val": 0, "size": 1}),
    ("pmemsave", {"val": 0, "size": 3000, "filename": "saved"}),
    ("pmemsave", {"val": 0, "size": 1, "filename": "/nosuch/saved"}),
    ("pmemsave", {"val": "x", "size": 1}),
    ("dumpdtb", {}),
    ("dumpdtb", {"filename": "x"}),
    ("query-dump", {}),
    ("query-dump-guest-memory-capability", {}),
    ("dump-guest-memory", {}),
    ("dump-guest-memory", {"paging": False, "protocol": "x"}),
    ("dump-guest-memory", {"paging": False, "protocol": "fd:x"}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:"}),
    ("dump-guest-memory", {"paging": False, "protocol": "file:/nosuch/x", "detach": True}),
    ("dump-guest-memory", {"paging": True, "protocol": "x", "begin": 1}),
    ("dump-guest-memory", {"paging": False, "protocol": "x", "length": 1}),
    ("dump-guest-memory", {"paging": True, "protocol": "x", "format": "kdump-zlib"}),
    ("dump-guest-memory", {"paging": False, "protocol": "x", "format": "kdump-lzo"}),
    ("dump-guest-memory", {"paging": False, "protocol": "x", "format": "nosuch"}),
    ("query-cpus-fast", {}),
    ("query-hotpluggable-cpus", {}),
    ("query-current-machine", {}),
    ("query-kvm", {}),
    ("query-memory-devices", {}),
    ("query-memory-size-summary", {}),
    ("query-replay", {}),
    ("replay-break", {"icount": 1}),
    ("replay-break", {}),
    ("replay-delete-break", {}),
    ("replay-seek", {"icount": 1}),
    ("query-sev", {}),
    ("query-sev-capabilities", {}),
    ("query-sev-launch-measure", {}),
    ("query-sev-attestation-report", {"mnonce": "x"}),
    ("sev-inject-launch-secret", {"packet-header": "x", "secret": "y"}),
    ("sev-inject-launch-secret", {}),
    ("query-sgx", {}),
    ("query-sgx-capabilities", {}),
    ("query-stats", {"target": "vm"}),
    ("query-stats", {"target": "vm", "providers": [{"provider": "kvm"}]}),
    ("query-stats", {"target": "x"}),
    ("query-stats-schemas", {}),
    ("query-stats-schemas", {"provider": "kvm"}),
    ("query-stats-schemas", {"provider": "x"}),
    ("query-tpm", {}),
    ("query-vm-generation-id", {}),
    ("query-acpi-ospm-status", {}),
    ("x-exit-preconfig", {}),
    ("x-query-irq", {}),
    ("x-query-numa", {}),
    ("x-query-opcount", {}),
    ("x-query-profile", {}),
    ("x-query-ramblock", {}),
    ("x-query-roms", {}),
    ("trace-event-get-state", {"name": "nosuch"}),
    ("trace-event-get-state", {"name": "nosuch*"}),
    ("trace-event-get-state", {"name": "handle_hmp_command"}),
    ("trace-event-get-state", {"name": "handle_hmp_command", "vcpu": 0}),
    ("trace-event-set-state", {"name": "nosuch", "enable": True}),
    ("trace-event-set-state", {"name": "nosuch*", "enable": True}),
    ("trace-event-set-state", {"name": "handle_hmp_command", "enable": True, "ignore-unavailable": True}),
    ("trace-event-get-state", {"name": "handle_hmp_command"}),
    ("trace-event-set-state", {"name": "handle_hmp_command", "enable": False}),
    ("getfd", {"fdname": "x"}),
    ("getfd", {}),
    ("closefd", {"fdname": "x"}),
    ("add-fd", {"fdset-id": -1}),
    ("remove-fd", {"fdset-id": 1}),
    ("remove-fd", {"fdset-id": 1, "fd": 2}),
    ("remove-fd", {}),
    ("query-fdsets", {}),
)

OWN_ITEMS = "qmon tells the meanings of the items in its own words"
OWN_EVENTS = "qmon has trace events of its own"
NO_TRANSLATOR = "QEMU tells the size of a buffer of its own, qmon that it translates nothing"
NO_PROFILE = "qmon measures none of its locks"

ON_PURPOSE = {
    "log nosuch": OWN_ITEMS,
    "log help": OWN_ITEMS,
    'log ""': OWN_ITEMS,
    "log guest_errors,": OWN_ITEMS,
    "log trace:": OWN_ITEMS,
    "log trace:help": "QEMU prints the list on its standard output",
    "info trace-events": OWN_EVENTS,
    "info trace-events qmp_*_query_status": "qmon sorts the events by their names",
    "info jit": NO_TRANSLATOR,
    "info stats vcpu": "QEMU 7.2 dies of it",
    "dump-guest-memory x 0 0": "QEMU also prints a warning of a library",
    "sync-profile on": "",
    "info sync-profile": NO_PROFILE,
    "dump-skeys x": "qmon knows the command, whose QEMU is another",
    "info skeys 0": "the same",
    "info cmma 0 1": "the same",
    "info via": "the same",
    "trace-file": "a QEMU that was built otherwise has it",
    "trace-file set x": "the same",
    "one-insn-per-tb": "a later QEMU has it",
}
"""Lines that qmon answers otherwise than QEMU 7.2, with the reason; without one they agree."""

ON_A_PC = """\
info registers 7
info registers 0
info registers
info lapic
info lapic 9
info mem
info tlb
x/2xb 0
x/2i 0xfff0
xp/4xb 0x1000
xp/2i 0xffff0
gva2gpa 0x1000
gpa2hva 0xffffffffffff
i/b 0x60
o/b 0x80 1
sum 0 1000
cpu 0
cpu 5
memsave 0 10 saved
pmemsave 0 10 saved
info memory-devices
info memory_size_summary
info hotpluggable-cpus
info numa
info roms
info ramblock
info balloon
balloon 100
info kvm
info sev
info sgx
info vm-generation-id
info tpm
info irq
info pic
info replay
replay_break 1
info stats vm
info stats vcpu
info dump
dumpdtb x
singlestep
info status
singlestep off
sync-profile
info sync-profile
sync-profile nosuch
info trace-events handle_hmp_command
trace-event nosuch on
log nosuch
log none
info opcount
info mtree -f -x
exit_preconfig
getfd x
closefd x
""".splitlines()


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64")
    with TwoMonitors(tmp_path_factory.mktemp("cpu")) as monitors:
        yield monitors


def test_lines_are_answered_as_by_a_qemu_that_has_none_of_it(monitors: TwoMonitors) -> None:
    differences = differing_one_by_one(monitors, LINES)
    assert not differences, "\n".join(differences)


def differing_one_by_one(monitors: TwoMonitors, lines: list[str]) -> list[str]:
    """The lines that the two answer differently, where a line may be asked more than once."""
    return [text for line in lines if (text := told(differing(monitors, [line])))]


def test_what_qmon_answers_otherwise_on_purpose_differs(monitors: TwoMonitors) -> None:
    differing_lines = [line for line in ON_PURPOSE if differing(monitors, [line])]
    assert differing_lines == [line for line, reason in ON_PURPOSE.items() if reason]


NUMBERS = st.integers(0, 1 << 17) | st.integers(0, (1 << 33) - 1)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["i", "o", "xp", "sum", "gpa2hva"]),
    format_=st.text("0123odxuicbhwgL", max_size=3),
    first=NUMBERS,
    dot=st.sampled_from(["", " ", ".", " . "]),
    second=NUMBERS,
)
def test_any_port_and_address_has_the_same_answer(
    monitors: TwoMonitors, name: str, format_: str, first: int, dot: str, second: int
) -> None:
    if name in ("sum", "gpa2hva"):
        format_, second = "", second % 10000  # QEMU adds up byte by byte
    behind = f"{dot}{second}" if dot else ""
    differences = differing(monitors, [f"{name}{'/' if format_ else ''}{format_} {first}{behind}"])
    assert not differences, told(differences)


def test_the_same_by_qmp(monitors: TwoMonitors) -> None:
    sides = [Qmp(program.folder / "qmp") for program in (monitors.theirs, monitors.ours)]
    try:
        for side in sides:
            side.ask("qmp_capabilities")
        for command, arguments in QMP:
            theirs, ours = (side.ask(command, arguments) for side in sides)
            assert ours == theirs, (command, arguments)
    finally:
        for side in sides:
            side.close()


def test_a_qemu_with_a_cpu_answers_as_by_its_own_monitor(tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    machine = ("-M", "pc", "-S", "-m", "16")
    processes = []
    try:
        processes.append(start_qemu(tmp_path / "hmp", "-monitor", "unix:m,server,nowait", *machine))
        processes.append(start_qemu(tmp_path / "qmp", "-qmp", "unix:m,server,nowait", *machine))
        hmp, qmp = Hmp(tmp_path / "hmp" / "m"), QmpTarget(tmp_path / "qmp" / "m")
        compare(hmp, Monitor(qmp), ON_A_PC)
        cpus = [hmp.answer("info cpus"), *ours(Monitor(qmp), ["info cpus"])]
        assert [re.sub(r"\d+$", "N", answer) for answer in cpus] == ["* CPU #0: thread_id=N"] * 2
        hmp.close()
        qmp.close()
    finally:
        for process in processes:
            end(process)


def test_descriptors_come_with_a_line(monitors: TwoMonitors, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for line, comes_along in (
            ("getfd a", True),
            ("getfd a", False),
            ("getfd a", True),
            ("getfd 1a", True),
            ("info name", True),
            ("getfd b", False),
            ("closefd b", False),
            ("closefd a", False),
            ("closefd a", False),
        ):
            theirs, ours = (
                program.ask(line, [file.fileno()] if comes_along else [])
                for program in (monitors.theirs, monitors.ours)
            )
            assert ours == theirs, line
    assert str(path) not in open_descriptors(monitors.ours.process.pid)
