"""CPU, memory, devices, networks, screens: qmon has none and says so. A reset and a power-off are answered.

And a QEMU that has them, driven by qmon's monitor, answers as its own monitor does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmon.hmp.monitor import Monitor
from qmon.qmp.absent import ABSENT
from tests.support.not_imitated import NOT_IMITATED, is_not_imitated
from tests.support.peers import require
from tests.support.qemu_target import QmpTarget, compare, named_qemu, ours
from tests.support.two_monitors import TwoMonitors, differing, told

LINES = r"""
watchdog_action reset
watchdog_action inject-nmi
watchdog_action ""
watchdog_action RESET
watchdog_action NoSuch
watchdog_action ÄRGER
system_reset
info status
system_powerdown
info status
stop
info status
system_powerdown
system_reset
info status
system_reset
cont
info status
system_wakeup
nmi
boot_set n
boot_set ""
device_del d0
device_del /nosuch
device_del machine
pcie_aer_inject_error a b
pcie_aer_inject_error -a -c a UNCOR 1 2 3 4 5 6 7 8
pcie_aer_inject_error a b c
netdev_del d0
set_link a on
set_link a off
set_link a no
hostfwd_add tcp::1-:1
hostfwd_add a b c
hostfwd_remove tcp::1
screendump ""
screendump x -f png
screendump x nosuch -f png
sendkey a -1
sendkey a x
set_password vnc x
set_password vnc 12345678901
set_password vnc x keep
set_password vnc x -d y
set_password vnc x -d y keep
set_password vnc x -d
expire_password vnc now
expire_password vnc nosuch
expire_password vnc now -d y
client_migrate_info spice h
client_migrate_info spice h 1 2 c
wavcapture x nosuch
wavcapture x nosuch 1 2 3
info virtio-status /machine
info virtio-queue-status x 0
info virtio-queue-status x 70000
info virtio-vhost-queue-status x 0
info virtio-queue-element x 0
info virtio-queue-element x 0 70000
info rocker ""
info rocker-of-dpa-flows x 1
info rocker-of-dpa-groups x 256
info mtree -x
info mtree x
x 0
x/4xb 0
x/i 0
x/0x 0
x/q 0
xp/x 1 2
gpa2hva 1 2
gva2gpa 0
gva2gpa -1
i/x 7 8
i/b 7 . 8 9
i/b 7 .
i -1
o 0x80
o 0x80 -1
o 0x80 1 1
sum 0
sum 0 -1
memsave 0 10 "x"
memsave -1 10 x
memsave 0 10
memsave 0 10 x y
memsave 0 -1 x
pmemsave 0 10
pmemsave 0 4294967296 "saved"
dump-guest-memory x
dump-guest-memory -p x
dump-guest-memory -d x
dump-guest-memory -z x
dump-guest-memory -w x
dump-guest-memory x 0 10
dump-guest-memory x 0 10 20
dump-guest-memory x a
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
mce 0 0 0 0 0
mce 0 0 0 0 0 0 0
mce -x 0 0 0 0 0 0
singlestep on off
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
info registers 4294967295
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
info sync-profile -x
info sync-profile 1 2
sync-profile on off
info stats vm
info stats vm x
info stats vm x kvm
info stats vm a,b, kvm
info stats vm x kvm y
exit_preconfig
exit_preconfig x
""".strip().split("\n")

QMP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("system_reset", {}),
    ("query-status", {}),
    ("system_powerdown", {}),
    ("stop", {}),
    ("system_reset", {}),
    ("query-status", {}),
    ("cont", {}),
    ("watchdog-set-action", {"action": "reset"}),
    ("watchdog-set-action", {"action": "nosuch"}),
    ("watchdog-set-action", {}),
    ("query-rx-filter", {}),
    ("query-pci", {}),
    ("x-query-rdma", {}),
    ("x-query-virtio", {}),
    ("query-mice", {}),
    ("query-vnc", {}),
    ("query-vnc-servers", {}),
    ("query-spice", {}),
    ("query-display-options", {}),
    ("query-balloon", {}),
    ("query-dump-guest-memory-capability", {}),
    ("query-cpus-fast", {}),
    ("query-current-machine", {}),
    ("query-kvm", {}),
    ("query-memory-devices", {}),
    ("query-memory-size-summary", {}),
    ("query-replay", {}),
    ("query-sev", {}),
    ("query-stats", {"target": "vm"}),
    ("query-stats", {"target": "vm", "providers": [{"provider": "kvm"}]}),
    ("query-stats-schemas", {}),
    ("query-stats-schemas", {"provider": "kvm"}),
    ("query-tpm", {}),
    ("x-query-irq", {}),
    ("x-query-numa", {}),
    ("x-query-opcount", {}),
    ("x-query-ramblock", {}),
    ("x-query-roms", {}),
)

ON_A_PC = """\
info mice
mouse_set 0
mouse_set 7
mouse_move 1 1
mouse_button 1
info pci
info qtree
info usb
info virtio
info virtio-status /machine/peripheral/r0
info vnc
info spice
info network
device_add virtio-rng-pci,id=r0,bus=pci.0,addr=4
info pci
info virtio
device_add virtio-rng-pci,max-bytes=nosuch
device_add id=a
device_del nosuch
netdev_add hubport,id=h0,hubid=3
netdev_add hubport,id=h1,hubid=x
netdev_add nosuch,id=h1
info network
set_link h0 off
set_link nosuch on
netdev_del h0
info network
sendkey ctrl-alt-nosuch
sendkey ctrl-alt-f1 1
sendkey 0x1e
boot_set nosuch
boot_set c
nmi
pcie_aer_inject_error a b
hostfwd_add tcp::1-:1
stopcapture 0
info capture
info usernet
screendump x
screendump x -f nosuch
set_password vnc x keep
watchdog_action nosuch
watchdog_action pause
system_powerdown
system_reset
info status
system_wakeup
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
info opcount
info mtree -f -x
exit_preconfig
""".splitlines()


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64")
    with TwoMonitors(tmp_path_factory.mktemp("absent")) as monitors:
        yield monitors


def test_lines_are_answered_as_by_a_qemu_that_has_none_of_it(monitors: TwoMonitors) -> None:
    differences = [text for line in LINES if (text := told(differing(monitors, [line])))]
    assert not differences, "\n".join(differences)


def test_what_is_not_imitated_differs(monitors: TwoMonitors) -> None:
    monitors.lines("dump-guest-memory x")
    for line in NOT_IMITATED:
        (found,) = differing(monitors, [line]).values()
        assert is_not_imitated(line, found[1]), line


def test_the_same_by_qmp(monitors: TwoMonitors) -> None:
    sides = [program.qmp() for program in (monitors.theirs, monitors.ours)]
    try:
        for command, arguments in QMP:
            theirs, ours = (side.ask(command, arguments) for side in sides)
            assert ours == theirs, (command, arguments)
        theirs_told, ours_told = (side.event_names for side in sides)
        assert ours_told == theirs_told
    finally:
        for side in sides:
            side.close()


def test_commands_that_always_fail_are_not_offered(monitors: TwoMonitors) -> None:
    """A client sees so, and learns no more by asking for one."""
    gone = [row.qmp for row in ABSENT if row.qmp and row.fails and not row.offered]
    with monitors.ours.qmp() as client:
        offered = {each["name"] for each in client.run("query-commands")}
        assert not offered & set(gone)
        assert {row.qmp for row in ABSENT if row.offered} <= offered
        for name in ("drive-mirror", "drive-backup", "blockdev-mirror", "block-commit", *gone):
            assert client.ask(name)["error"]["class"] == "CommandNotFound", name


def test_a_qemu_with_devices_answers_as_by_its_own_monitor(tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    machine = ("-M", "pc", "-S", "-m", "16", "-device", "qemu-xhci,id=usb", "-device", "usb-tablet")
    with named_qemu(tmp_path / "hmp", *machine) as hmp, named_qemu(tmp_path / "qmp", *machine) as other:
        qmp = QmpTarget(other.qmp())
        compare(hmp, Monitor(qmp), ON_A_PC)
        cpus = [hmp.command("info cpus"), *ours(Monitor(qmp), ["info cpus"])]
        assert [re.sub(r"\d+$", "N", answer) for answer in cpus] == ["* CPU #0: thread_id=N"] * 2
