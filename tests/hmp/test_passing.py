"""Whether an answer of QEMU's own monitor says that the line failed."""

from __future__ import annotations

import pytest

from qmon.hmp.passing import has_failed


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("stop", ""),
        ("info block", "d0: d0.img (raw)"),
        ("info foo", "Errors: none"),
        ("print/x 255", "0xff"),
        ("x/2x 0", "0000000000000000: 0xf000ff53 0xf000ff53"),
        ("drive_add 0 if=none,id=d9", "OK"),
        ("boot_set d", "boot device list now set to d"),
        ("gdbserver", "Waiting for gdb connection on device 'tcp::1234'"),
        ("device_add help", 'Controller/Bridge/Hub devices:\nname "pci-bridge", bus PCI'),
        ("device_add virtio-blk-pci,help", "virtio-blk-pci options:"),
        ("object_add ?", "List of user creatable objects:"),
        ("migrate_set_capability compress on", "warning: option 'compress' is deprecated"),
        ("hostfwd_remove tcp::1", "host forwarding rule for tcp::1 removed"),
        ("sync-profile", "sync-profile is off"),
    ],
)
def test_what_succeeds(line: str, answer: str) -> None:
    assert not has_failed(line, answer)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("eject x", "Error: Device 'x' not found"),
        ("info foo", "unknown command: 'info foo'"),
        ("foo", "unknown command: 'foo'"),
        ("print", 'print: unexpected end\nTry "help print" for more information'),
        ("commit x", "Device 'x' not found"),
        ("sendkey x", "invalid parameter: x"),
        ("boot_set z", "Invalid boot device 'z'"),
        ("drive_add 0 if=none", "Device needs media, but drive is empty"),
        ("x 0", "Can not dump without CPU"),
        ("x/4x 0xffffff", "0000000000ffffff: 0x00\nCannot access memory"),
        ("hostfwd_remove nosuch", "unrecognized netdev id 'nosuch'"),
        ("migrate -b tcp:h:1", "warning: option '-b' is deprecated\nError: block migration is disabled"),
        ("gdbserver", "Could not open gdbserver on device 'tcp::1234'"),
    ],
)
def test_what_fails(line: str, answer: str) -> None:
    assert has_failed(line, answer)
