"""What is wrong is refused in one list, and neither QEMU has changed then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.images import MIB, blank
from tests.support.vms.consoles import Consoles, Script
from tests.support.vms.disks import Image
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Machine, Version
from tests.support.vms.pair import Pair, Setup

DEFER = ("-incoming", "defer")
MANAGED = (*DEFER, "-object", "secret,id=masterKey0,data=none", "-name", "web1")


class OtherPair(Pair):
    """A pair whose destination has other options, images or another machine."""

    def __init__(
        self,
        folder: Path,
        setup: Setup | None = None,
        *,
        options: Sequence[str] = DEFER,
        kind: str = "",
        images: Sequence[Image] = (),
    ) -> None:
        self._options, self._kind, self._other = options, kind, images
        super().__init__(folder, setup)

    def _start(self, name: str, version: Version, images: list[Image]) -> Machine:
        if name == "source":
            return super()._start(name, version, images)
        return Machine(
            self.folder,
            name,
            version,
            self._other or images,
            style=self.setup.style,
            kind=self._kind or self.setup.kind,
            options=self._options,
        )


def refused(pair: Pair) -> str:
    """What the source's console says to the line. The guest counts on, and nothing is left."""
    with Consoles(pair) as consoles:
        consoles.wait_listening()
        consoles.source.type(consoles.line)
        assert consoles.source.wait() == 1, consoles.source.printed()
        said = consoles.source.printed()
        assert "Traceback" not in said
    assert judge(pair, pair.source) == []
    return said


def not_listening(pair: Pair) -> str:
    """What the destination's console says when it is to listen."""
    with Consoles(pair) as consoles:
        assert consoles.destination.wait() == 1, consoles.destination.printed()
        return consoles.destination.printed()


def test_all_that_does_not_match_is_told_at_once(tmp_path: Path) -> None:
    blank(tmp_path / "extra", MIB)
    extra = ("-drive", "if=none,id=extra,file=extra,format=raw", "-device", "virtio-blk-pci,drive=extra")
    options = (*DEFER, "-m", "32", "-smp", "2", *extra)
    with OtherPair(tmp_path, Setup(source=Version.SEVEN), options=options, kind="pc") as pair:
        said = refused(pair)
    for each in (
        "refused for 4 reasons",
        "drive 'extra' (1048576 bytes) of the destination has no counterpart at the source",
        "the guest's machine is pc-i440fx-7.2, and the destination's is pc-i440fx-10.0",
        "the guest has 16 MiB of memory, and the destination 32 MiB: start the destination with -m 16",
        "the guest has 1 CPUs, and the destination 2: start the destination with -smp 1",
    ):
        assert each in said


def test_a_machine_that_the_destination_does_not_know_is_refused(tmp_path: Path) -> None:
    setup = Setup(source=Version.TEN, destination=Version.SEVEN)

    class Newer(OtherPair):
        def _start(self, name: str, version: Version, images: list[Image]) -> Machine:
            self._kind = "pc"
            return Machine(
                self.folder,
                name,
                version,
                images,
                style=self.setup.style,
                options=DEFER if name == "destination" else (),
            )

    with Newer(tmp_path, setup) as pair:
        said = refused(pair)
    assert "machine is pc-i440fx-10.0, which the destination's QEMU 7.2" in said


def test_a_destination_with_a_smaller_disk_is_refused_with_both_sizes(tmp_path: Path) -> None:
    blank(tmp_path / "small", 31 * MIB)
    with OtherPair(tmp_path, images=[Image(tmp_path / "small", "raw")]) as pair:
        said = refused(pair)
    assert "drive 'd0' has 33554432 bytes at the source and 32505856 bytes at the destination" in said


@pytest.mark.parametrize("version", Version)
def test_a_copy_onto_the_same_file_is_refused(tmp_path: Path, version: Version) -> None:
    class Linked(OtherPair):
        def _start(self, name: str, version: Version, images: list[Image]) -> Machine:
            if name == "destination":
                os.link(self.source.images[0].path, self.folder / "link")
                self._other = [Image(self.folder / "link", "raw")]
            return super()._start(name, version, images)

    with Linked(tmp_path, Setup(source=version, destination=version)) as pair:
        said = refused(pair)
    assert "the destination's drive 'd0' is the disk of the source's drive 'd0' (inode" in said


@pytest.mark.parametrize("version", Version)
def test_a_destination_that_qemu_itself_listens_for_is_refused(tmp_path: Path, version: Version) -> None:
    setup = Setup(source=version, destination=version)
    with OtherPair(tmp_path, setup, options=("-incoming", "tcp:127.0.0.1:0")) as pair:
        said = not_listening(pair)
    assert "this QEMU itself waits for a migration at an address: start it with -incoming defer" in said


def test_a_destination_whose_guest_runs_is_refused(tmp_path: Path) -> None:
    with OtherPair(tmp_path, options=()) as pair:
        said = not_listening(pair)
    assert "this QEMU does not wait for a migration (its state is 'running'): start it with -incom" in said


def test_a_managed_destination_is_refused_with_its_managers_command(tmp_path: Path) -> None:
    with OtherPair(tmp_path, options=MANAGED) as pair:
        said = not_listening(pair)
    assert "libvirt manages this QEMU: 'virsh migrate --live --copy-storage-all web1 qemu+ssh" in said


def test_what_is_under_way_at_the_source_is_refused_before_it_is_asked_for_a_destination(
    tmp_path: Path,
) -> None:
    with Pair(tmp_path) as pair:
        pair.source.look.run("object-add", qom_type="secret", id="masterKey0", data="none")
        script = Script(pair.source, lines=["migrate blk tcp:127.0.0.1:1"])
        assert script.wait() == 1
        script.close()
        assert "Error: libvirt manages this QEMU" in script.printed()
        pair.source.look.run("object-del", id="masterKey0")


def test_jobs_exports_and_a_pause_at_the_source_are_refused_together(tmp_path: Path) -> None:
    blank(tmp_path / "backup", 32 * MIB)
    with Pair(tmp_path) as pair:
        look = pair.source.look
        node = look.run("query-block")[0]["inserted"]["node-name"]
        look.run("blockdev-add", driver="file", filename="backup", node_name="backup")
        look.run(
            "blockdev-mirror", job_id="j0", device="d0", target="backup", sync="full", filter_node_name="f0"
        )
        look.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "nbd")}})
        look.run("block-export-add", type="nbd", id="e0", node_name=node, name="e0")
        look.run("stop")
        with Consoles(pair) as consoles:
            consoles.wait_listening()
            consoles.source.type(consoles.line)
            assert consoles.source.wait() == 1
            said = consoles.source.printed()
    assert "1. the guest is paused: resume it with 'cont'" in said
    assert "job j0 (mirror) has not ended: wait for its end, or end it with 'block_job_cancel j0'" in said
    assert "export e0 of" in said
