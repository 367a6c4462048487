"""A QEMU that belongs to a manager is recognized, and its manager's own command is named."""

from __future__ import annotations

import pytest

from qmon.remote.migration.agreement.managers import Traits, why_managed

PLAIN = Traits("web1", ["pc.ram"], ["unix:vm.qmp,server=on", "stdio"], ["#block123", "fmt0", "disk0"])


@pytest.mark.parametrize(
    ("traits", "command"),
    [
        (
            Traits("web1", ["masterKey0"], [], []),
            "'virsh migrate --live --copy-storage-all web1 qemu+ssh://HOST/system'",
        ),
        (
            Traits("", [], [], ["libvirt-1-format"]),
            "'virsh migrate --live --copy-storage-all DOMAIN qemu+ssh://HOST/system'",
        ),
        (
            Traits("a b", [], ["unix:/var/lib/libvirt/qemu/domain-1-a b/monitor.sock,server=on"], []),
            "'virsh migrate --live --copy-storage-all 'a b' qemu+ssh://HOST/system'",
        ),
        (
            Traits("web1", [], ["unix:/var/run/qemu-server/104.qmp,server=on"], []),
            "'qm migrate 104 NODE --online --with-local-disks'",
        ),
        (Traits("c1", [], ["unix:/run/incus/c1/qemu.monitor,server=on"], []), "'incus move c1 REMOTE:'"),
        (Traits("c1", [], [], ["dev-incus_root"]), "'incus move c1 REMOTE:'"),
        (Traits("", [], [], ["lxd_root"]), "'lxc move INSTANCE REMOTE:'"),
    ],
)
def test_a_manager_is_named_with_its_command(traits: Traits, command: str) -> None:
    assert command in why_managed(traits)


def test_a_qemu_of_nobody_is_not_refused() -> None:
    assert why_managed(PLAIN) == ""
