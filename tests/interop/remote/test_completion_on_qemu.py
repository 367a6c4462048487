"""The names that a running QEMU has are completed there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.connections import connected_monitor, words
from tests.support.peer import Peer, three_drives

OPTIONS = """
    -M pc -S -object memory-backend-ram,id=m0,size=1M -device virtio-rng-pci,id=rng0
    -chardev ringbuf,id=ring0 -netdev user,id=n0 -device virtio-net-pci,netdev=n0,id=card0
    -blockdev driver=null-co,node-name=null0
""".split()


@pytest.fixture
def machine(program: Sequence[str], tmp_path: Path) -> Iterator[Peer]:
    with Peer(program, tmp_path / "qemu", three_drives, options=OPTIONS) as peer:
        yield peer


def completed(peer: Peer, *texts: str) -> list[list[str]]:
    async def run() -> list[list[str]]:
        async with connected_monitor(f"unix:{peer.qmp_path}") as (_, monitor):
            return [await words(monitor, text) for text in texts]

    return asyncio.run(run())


def test_names_of_drives_nodes_objects_devices_and_others(machine: Peer) -> None:
    found = completed(
        machine,
        "block_resize ",
        "object_del m",
        "device_del ",
        "ringbuf_read ",
        "cpu ",
        "set_link ",
        "info virtio-status ",
    )
    assert found == [
        ["d0", "d1", "ro", "null0"],
        ["m0"],
        ["card0", "rng0"],
        ["ring0"],
        ["0"],
        ["card0"],
        ["/machine/peripheral/card0/virtio-backend", "/machine/peripheral/rng0/virtio-backend"],
    ]


def test_exports_and_jobs_are_those_that_run(machine: Peer) -> None:
    machine.command("nbd_server_start unix:nbd")
    machine.command("nbd_server_add d0")
    machine.command("drive_mirror d1 copy.img")
    exports, jobs, waited = completed(machine, "nbd_server_remove ", "block_job_cancel d", "wait job ")
    assert (exports, jobs, waited) == (["d0", "-f"], ["d1"], ["d1"])


def test_a_path_of_the_object_tree_and_its_properties(machine: Peer) -> None:
    first, below, properties = completed(
        machine, "qom-list ", "qom-list /machine/peripheral/", "qom-get /machine/peripheral/rng0 max-"
    )
    assert first == ["/machine", "/objects"]
    assert below == ["/machine/peripheral/card0", "/machine/peripheral/rng0"]
    assert properties == ["max-bytes"]


def test_types_and_options_come_from_its_schema(machine: Peer) -> None:
    kinds, options, cards, devices = completed(
        machine,
        "object_add throttle-",
        "object_add secret,id=s0,f",
        "netdev_add us",
        "device_add virtio-rng-pci,max-",
    )
    assert kinds == ["throttle-group"]
    assert options == ["secret,id=s0,file=", "secret,id=s0,format="]
    assert cards == ["user"]
    assert devices == ["virtio-rng-pci,max-bytes="]


def test_migration_parameters_capabilities_and_info_subjects(machine: Peer) -> None:
    parameters, values, capabilities, subjects = completed(
        machine,
        "migrate_set_parameter multifd-comp",
        "migrate_set_parameter multifd-compression z",
        "migrate_set_capability return-",
        "info mem",
    )
    assert parameters == ["multifd-compression"]
    assert "zlib" in values
    assert capabilities == ["return-path"]
    assert set(subjects) == {"mem", "memdev", "memory-devices", "memory_size_summary"}


def test_commands_are_those_of_the_target_and_those_that_qmon_adds(machine: Peer) -> None:
    theirs, ours, unknown = completed(machine, "gdb", "wat", "migrate_res")
    assert (theirs, ours, unknown) == (["gdbserver"], ["watch", "watchdog_action"], [])
