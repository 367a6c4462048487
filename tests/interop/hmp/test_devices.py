"""Devices, networks, screens and the machine's buttons: qmon says what QEMU says that has none of them.

And a QEMU that has them, driven by qmon's monitor, answers as its own monitor does.
"""

from __future__ import annotations

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
    start_qemu,
)
from tests.interop.qmp.test_qmp import Qmp
from tests.support.peers import require
from tests.support.two_monitors import TwoMonitors, differing, told

LINES = """\
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
device_add nosuch,help
device_add x,?
device_add id=a
device_add driver=
device_add driver=x,driver=y
device_add xyz,=
device_add xyz,id=a,b=c,d
device_del d0
device_del /nosuch
device_del ""
device_del /
device_del /machine
device_del machine
pcie_aer_inject_error a b
pcie_aer_inject_error -a -c a UNCOR 1 2 3 4 5 6 7 8
pcie_aer_inject_error a b c
netdev_add user
netdev_add id=t0
netdev_add nosuch,id=n1
netdev_add none,id=t1
netdev_add nic,id=t1
netdev_add vmnet-host,id=t4
netdev_add type=,id=x
netdev_add user,help
netdev_del d0
set_link a on
set_link a off
set_link a no
hostfwd_add tcp::1-:1
hostfwd_add n0 tcp::1-:1
hostfwd_add a b c
hostfwd_remove tcp::1
hostfwd_remove n0 tcp::1
screendump ""
screendump x -f png
screendump x -f nosuch
screendump x -f PNG
screendump x nosuch
screendump x nosuch 1
screendump x -f ppm d 0
screendump x nosuch -f png
sendkey a
sendkey ctrl-alt-f1
sendkey ctrl-nosuch-f1
sendkey a-
sendkey -
sendkey -a
sendkey a--b
sendkey <
sendkey <-a
sendkey a-<
sendkey <<
sendkey a 100
sendkey a 0
sendkey a -1
sendkey a x
sendkey 0x1e-0x1f
sendkey 0x1eg
sendkey 0x
sendkey 0X1e
sendkey 0xffffffffffffffffffffff
sendkey 0x80000000
sendkey 0x-1
sendkey 42
sendkey ""
sendkey "a b"
sendkey A
sendkey f13
sendkey ctrl_l
sendkey less-0x7fffffff-nosuch
sendkey a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q-r-s-t-u-v-w-x-y-z
sendkey ac_bookmarks-lang2-pause-ro-kp_comma-kp_equals-power-hiragana-henkan-yen-muhenkan-compose-wake-stop
sendkey a 2147483648
mouse_move 1 1
mouse_move x y
mouse_move 0x10 010 -1
mouse_button 1
mouse_button 99
mouse_set 0
mouse_set 4294967295
set_password vnc x
set_password vnc 12345678901
set_password spice x
set_password nosuch x
set_password vnc x keep
set_password vnc x fail
set_password vnc x nosuch
set_password spice x nosuch
set_password spice x disconnect
set_password nosuch x other
set_password vnc x -d y
set_password vnc x -d y keep
set_password vnc x -d y z
set_password vnc x -d
set_password spice x -d y
expire_password vnc now
expire_password vnc nosuch
expire_password spice now
expire_password nosuch now
expire_password vnc now -d y
client_migrate_info spice h
client_migrate_info spice h 1 2 c
client_migrate_info nosuch h 1
client_migrate_info "" h
stopcapture 0
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
""".splitlines()

NO_MODELS = "qmon has no device models: every name is unknown to it"
NO_NETWORKS = "qmon has no networks: it answers as a QEMU that was built without the type"

ON_PURPOSE = {
    "device_add virtio-blk-pci,drive=d0": NO_MODELS,
    "device_add usb-tablet": NO_MODELS,
    "device_add loader,file=d0.img": NO_MODELS,
    "device_add cpu": NO_MODELS,
    "device_add help": NO_MODELS,
    "netdev_add help": NO_NETWORKS,
    "netdev_add hubport,id=h0": NO_NETWORKS,
    "netdev_add socket,id=s0": NO_NETWORKS,
    "netdev_add user,id=n0": NO_NETWORKS,
    "info network": NO_NETWORKS,
    "set_link n0 off": NO_NETWORKS,
    "netdev_del n0": NO_NETWORKS,
}
"""Lines that qmon answers otherwise than QEMU, with the reason; in an order in which they make sense."""

QMP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("system_reset", {}),
    ("query-status", {}),
    ("system_powerdown", {}),
    ("stop", {}),
    ("system_reset", {}),
    ("query-status", {}),
    ("cont", {}),
    ("system_wakeup", {}),
    ("inject-nmi", {}),
    ("watchdog-set-action", {"action": "reset"}),
    ("watchdog-set-action", {"action": "nosuch"}),
    ("watchdog-set-action", {}),
    ("device_add", {}),
    ("device_add", {"driver": "nosuch"}),
    ("device_add", {"driver": "nosuch", "id": "d0", "x": "y"}),
    ("device_add", {"driver": "nosuch", "id": "9"}),
    ("device_del", {"id": "nosuch"}),
    ("device_del", {"id": "/machine"}),
    ("netdev_add", {"type": "user"}),
    ("netdev_add", {"type": "user", "id": "1"}),
    ("netdev_add", {"type": "nosuch", "id": "n"}),
    ("netdev_add", {"type": "none", "id": "n"}),
    ("netdev_add", {"id": "x"}),
    ("netdev_del", {"id": "nosuch"}),
    ("set_link", {"name": "x", "up": True}),
    ("set_link", {"name": "x"}),
    ("query-rx-filter", {}),
    ("query-rx-filter", {"name": "x"}),
    ("query-rocker", {"name": "x"}),
    ("query-rocker", {}),
    ("query-rocker-ports", {"name": "x"}),
    ("query-rocker-of-dpa-flows", {"name": "x"}),
    ("query-rocker-of-dpa-groups", {"name": "x", "type": 255}),
    ("query-rocker-of-dpa-groups", {"name": "x", "type": 256}),
    ("query-pci", {}),
    ("x-query-usb", {}),
    ("x-query-rdma", {}),
    ("x-query-virtio", {}),
    ("x-query-virtio-status", {"path": "x"}),
    ("x-query-virtio-queue-status", {"path": "x", "queue": 1}),
    ("x-query-virtio-queue-status", {"path": "x", "queue": 65536}),
    ("x-query-virtio-vhost-queue-status", {"path": "x", "queue": 1}),
    ("x-query-virtio-queue-element", {"path": "x", "queue": 1}),
    ("send-key", {"keys": []}),
    ("send-key", {"keys": [{"type": "qcode", "data": "nosuch"}]}),
    ("send-key", {"keys": [{"type": "qcode", "data": "a"}, {"type": "number", "data": 30}], "hold-time": 5}),
    ("send-key", {"keys": [{"type": "number", "data": "a"}]}),
    ("send-key", {"keys": [{"type": "x", "data": 30}]}),
    ("send-key", {"keys": [{"type": "qcode"}]}),
    ("send-key", {"keys": [{"type": "qcode", "data": 3}]}),
    ("send-key", {"keys": [{}]}),
    ("send-key", {"keys": [3]}),
    ("send-key", {"keys": [{"type": "qcode", "data": "a", "x": 1}]}),
    ("send-key", {}),
    ("input-send-event", {"events": []}),
    ("input-send-event", {"events": [{"type": "rel", "data": {"axis": "x", "value": 1}}]}),
    ("input-send-event", {"events": [{"type": "nosuch", "data": {}}]}),
    ("input-send-event", {"device": "x", "events": []}),
    ("query-mice", {}),
    ("query-vnc", {}),
    ("query-vnc-servers", {}),
    ("query-spice", {}),
    ("query-display-options", {}),
    ("change-vnc-password", {"password": "x"}),
    ("set_password", {}),
    ("set_password", {"protocol": "vnc"}),
    ("set_password", {"protocol": "vnc", "password": "x"}),
    ("set_password", {"protocol": "vnc", "password": "x", "display": "y"}),
    ("set_password", {"protocol": "vnc", "password": "x", "connected": "fail"}),
    ("set_password", {"protocol": "vnc", "password": "x", "connected": "nosuch"}),
    ("set_password", {"protocol": "spice", "password": "x", "connected": "fail"}),
    ("set_password", {"protocol": "spice", "password": "x", "display": "y"}),
    ("set_password", {"protocol": "nosuch", "password": "x"}),
    ("expire_password", {"protocol": "vnc", "time": "now"}),
    ("expire_password", {"protocol": "spice", "time": "now"}),
    ("expire_password", {"protocol": "spice", "time": "now", "display": "x"}),
    ("screendump", {"filename": "x"}),
    ("screendump", {"filename": "x", "format": "nosuch"}),
    ("screendump", {"filename": "x", "device": "nosuch", "head": 1}),
    ("screendump", {"filename": "x", "head": 1}),
    ("client_migrate_info", {"protocol": "spice", "hostname": "x"}),
    ("client_migrate_info", {"protocol": "vnc", "hostname": "x", "port": 1, "tls-port": 2}),
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
""".splitlines()


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64")
    with TwoMonitors(tmp_path_factory.mktemp("devices")) as monitors:
        yield monitors


def test_lines_are_answered_as_by_a_qemu_that_has_none_of_it(monitors: TwoMonitors) -> None:
    differences = differing(monitors, LINES)
    assert not differences, told(differences)


def test_what_qmon_answers_otherwise_on_purpose_differs(monitors: TwoMonitors) -> None:
    assert list(differing(monitors, list(ON_PURPOSE))) == list(ON_PURPOSE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(
        st.sampled_from(["a", "ctrl", "kp_7", "<", "0x1e", "0x", "A", "less", ""])
        | st.text("0x1a<_ ", max_size=4)
    )
)
def test_any_keys_are_told_from_what_is_none(monitors: TwoMonitors, keys: list[str]) -> None:
    differences = differing(monitors, [f'sendkey "{"-".join(keys)}"'])
    assert not differences, told(differences)


def test_the_same_by_qmp(monitors: TwoMonitors) -> None:
    sides = [Qmp(program.folder / "qmp") for program in (monitors.theirs, monitors.ours)]
    try:
        for side in sides:
            side.ask("qmp_capabilities")
        for command, arguments in QMP:
            theirs, ours = (side.ask(command, arguments) for side in sides)
            assert ours == theirs, (command, arguments)
        theirs_told, ours_told = (side.events for side in sides)
        assert ours_told == theirs_told
    finally:
        for side in sides:
            side.close()


def test_a_qemu_with_devices_answers_as_by_its_own_monitor(tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    machine = ("-M", "pc", "-S", "-device", "qemu-xhci,id=usb", "-device", "usb-tablet")
    processes = []
    try:
        processes.append(start_qemu(tmp_path / "hmp", "-monitor", "unix:m,server,nowait", *machine))
        processes.append(start_qemu(tmp_path / "qmp", "-qmp", "unix:m,server,nowait", *machine))
        hmp, qmp = Hmp(tmp_path / "hmp" / "m"), QmpTarget(tmp_path / "qmp" / "m")
        compare(hmp, Monitor(qmp), ON_A_PC)
        hmp.close()
        qmp.close()
    finally:
        for process in processes:
            end(process)
