"""Before an incremental copy: equal backing images, an empty overlay, or a line that says what would help."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qmon.errors import CommandError, ProblemsError
from qmon.remote.migration.agreement.inventory import take_inventory
from qmon.remote.migration.agreement.matching import BY_DRIVE, Pair
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof.answers import Answers
from qmon.remote.migration.proof.overlays import prove_overlays
from tests.support.connections import connected
from tests.support.images import MIB
from tests.support.peer import Peer
from tests.support.peers import require
from tests.support.qmp_client import QmpClient
from tests.support.waiting import eventually

SIZE = 64 * MIB
SEED = 7
BACKING = b"what both have\n" * 100_000


class Sides:
    """Two QEMUs with an overlay each; the destination's waits for a migration."""

    def __init__(self, folder: Path, program: Any) -> None:
        require(program[0], "qemu-img", "qemu-io")
        self.folders = {name: folder / name for name in ("source", "destination")}
        self._program = program
        self._starts = 0
        for name in self.folders:
            self.make_backing(name, "base.raw", BACKING)

    def make_backing(self, side: str, name: str, content: bytes) -> Path:
        path = self._folder(side) / name
        with path.open("wb") as file:
            file.write(content)
            file.truncate(SIZE)
        return path

    def _folder(self, side: str) -> Path:
        folder = self.folders[side].with_name(f"{side}-images")
        folder.mkdir(exist_ok=True)
        return folder

    def img(self, side: str, *words: str) -> None:
        subprocess.run(["qemu-img", *words], cwd=self._folder(side), check=True, capture_output=True)

    def overlay(
        self, side: str, backing: str = "base.raw", format_: str = "raw", name: str = "d0.qcow2"
    ) -> None:
        self.img(side, "create", "-q", "-f", "qcow2", "-b", backing, "-F", format_, name)

    def write(self, side: str, command: str, name: str = "d0.qcow2") -> None:
        words = ["qemu-io", "-c", command, name]
        subprocess.run(words, cwd=self._folder(side), check=True, capture_output=True)

    def image(self, side: str) -> Path:
        return self._folder(side) / "d0.qcow2"

    def allocated(self, side: str) -> list[tuple[int, int, bool]]:
        """The extents of an overlay's own: where they begin, how long they are, whether they are zeros."""
        words = ["qemu-img", "map", "--output=json", str(self.image(side))]
        found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        return [(each["start"], each["length"], each["zero"]) for each in found if each["depth"] == 0]

    def start(self, side: str) -> Peer:
        drive = f"if=none,id=d0,file={self._folder(side) / 'd0.qcow2'},format=qcow2"
        options = ["-incoming", "defer"] if side == "destination" else []
        self._starts += 1
        folder = self.folders[side].with_name(f"{side}-{self._starts}")
        return Peer(self._program, folder, lambda _: ["-drive", drive], options=options)

    def prove(self, verify: str = "sample") -> str:
        """Start both, and compare as an incremental copy would; return the words or the lines of refusal."""
        with self.start("source") as source, self.start("destination") as destination:
            before = [left(each) for each in (source, destination)]
            try:
                said = asyncio.run(_prove(source, destination, verify))
            except ProblemsError as problems:
                said = str(problems)
            assert [left(each) for each in (source, destination)] == before, "something is left behind"
            return said


def left(peer: Peer) -> tuple[Any, ...]:
    """What stands in a QEMU that a comparison could leave behind."""
    with peer.qmp() as qmp:
        try:
            qmp.run("nbd-server-stop")
            server = "an NBD server"
        except CommandError:
            server = "none"
        return server, qmp.run("query-block-exports"), len(qmp.run("query-named-block-nodes"))


async def _prove(source: Peer, destination: Peer, verify: str) -> str:
    async with (
        connected(f"unix:{source.qmp_path}") as here,
        connected(f"unix:{destination.qmp_path}") as there,
    ):
        answers = Answers(there, PrivateServer(there))
        requests = answers.requests(Phase.SETUP)

        async def ask(command: str, arguments: Mapping[str, Any]) -> Any:
            sent = json.loads(json.dumps(arguments))
            return json.loads(json.dumps(await requests[command](sent)))

        ours, theirs = await take_inventory(here), await take_inventory(there)
        pair = Pair(ours.disks[0], theirs.disks[0], BY_DRIVE)
        return await prove_overlays(here, [pair], "abcdef", ask, verify, SEED)


@pytest.fixture
def sides(tmp_path: Path, program: Any) -> Sides:
    return Sides(tmp_path, program)


@pytest.mark.parametrize(
    ("verify", "words"),
    [
        ("sample", "256 samples of the backing images compared"),
        ("full", "all 64 MiB of the backing images compared"),
        ("off", ""),
    ],
)
def test_equal_backing_images_and_an_empty_overlay_are_proved(sides: Sides, verify: str, words: str) -> None:
    for side in sides.folders:
        sides.overlay(side)
    sides.write("source", "write 1M 64k")
    assert sides.prove(verify) == words


def test_chains_of_other_depths_with_the_same_contents_are_equal(sides: Sides) -> None:
    sides.overlay("source", name="mid.qcow2")
    sides.write("source", "write -P 9 5M 64k", "mid.qcow2")
    sides.overlay("source", "mid.qcow2", "qcow2")
    sides.img(
        "source", "convert", "-O", "raw", "mid.qcow2", str(sides.folders["destination"]) + "-images/base.raw"
    )
    sides.overlay("destination")
    assert sides.prove("full") == "all 64 MiB of the backing images compared"


def test_one_flipped_bit_in_a_backing_image_is_found_and_shown(sides: Sides) -> None:
    path = sides.make_backing("destination", "base.raw", BACKING)
    with path.open("r+b") as file:
        file.seek(SIZE - 100)
        file.write(b"\1")
    for side in sides.folders:
        sides.overlay(side)
    said = sides.prove("full")
    assert said.startswith(
        "the backing image of drive 'd0' differs between the source and the destination, in the 1048576 bytes"
        f" at {SIZE - MIB}: copy the source's "
    )


@pytest.mark.parametrize("command", ["write -P 0 3M 64k", "write -z 3M 64k"])
def test_an_overlay_with_data_of_its_own_is_refused_with_what_helps(sides: Sides, command: str) -> None:
    for side in sides.folders:
        sides.overlay(side)
    sides.write("destination", command)
    said = sides.prove("off")
    assert "the overlay of drive 'd0' is not empty at the destination (data at byte 3145728)" in said
    run = shlex.split(said.split("'")[3])
    subprocess.run(run, check=True, capture_output=True)
    assert sides.prove("off") == ""


def test_a_backing_image_of_another_size_is_refused(sides: Sides) -> None:
    for side in sides.folders:
        sides.overlay(side)
    sides.img("destination", "resize", "-f", "raw", "base.raw", "80M")
    assert f"has {SIZE} bytes at the source and {80 * MIB} at the destination" in sides.prove("off")


def test_an_overlay_without_a_backing_image_is_refused(sides: Sides) -> None:
    sides.overlay("source")
    sides.img("destination", "create", "-q", "-f", "qcow2", "d0.qcow2", "64M")
    assert "has a backing image at the source and none at the destination" in sides.prove("off")


def test_an_incremental_copy_of_a_long_chain_is_the_top_layer_alone(sides: Sides) -> None:
    sides.overlay("source", name="mid.qcow2")
    sides.write("source", "write -P 9 5M 64k", "mid.qcow2")
    sides.overlay("source", "mid.qcow2", "qcow2")
    sides.write("source", "write -P 3 7M 64k")
    sides.write("source", "write -z 5M 4k")
    flat = sides.make_backing("destination", "base.raw", b"")
    sides.img("source", "convert", "-O", "raw", "mid.qcow2", str(flat))
    sides.overlay("destination")
    with sides.start("source") as source, sides.start("destination") as destination:
        copy_top(source, destination)
    assert sides.allocated("destination") == sides.allocated("source")
    paths = [str(sides.image(side)) for side in sides.folders]
    subprocess.run(["qemu-img", "compare", *paths], check=True, capture_output=True)


def copy_top(source: Peer, destination: Peer) -> None:
    """Copy the top layer of d0 as an incremental migration does."""
    with source.qmp() as here, destination.qmp() as there:
        there.run("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd"}})
        node = there.run("query-block")[0]["inserted"]["node-name"]
        there.run("block-export-add", type="nbd", id="x", node_name=node, name="x", writable=True)
        server = {"type": "unix", "path": str(destination.folder / "nbd")}
        here.run("blockdev-add", driver="nbd", node_name="t", export="x", server=server, discard="unmap")
        node = here.run("query-block")[0]["inserted"]["node-name"]
        here.run("blockdev-mirror", job_id="m", device=node, target="t", sync="top", auto_dismiss=False)
        wait_for(here, "ready")
        here.run("block-job-cancel", device="m", force=False)
        wait_for(here, "concluded")


def wait_for(qmp: QmpClient, status: str) -> None:
    eventually(lambda: qmp.run("query-jobs")[0]["status"] == status, f"the copy is {status}")
