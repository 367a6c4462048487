"""The contexts qemu:dirty-bitmap:NAME and qemu:allocation-depth tell what QEMU tells of the same image."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bitmaps import add, nbd_map, served
from tests.support.both_by_qmp import Both, both_in
from tests.support.images import MIB, drive
from tests.support.nbd_servers import NbdProgram
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import run, run_io
from tests.support.qmp_client import QmpClient

ADD, EXPORT = "block-dirty-bitmap-add", "block-export-add"


@pytest.fixture(autouse=True)
def peers() -> None:
    require("qemu-system-x86_64", "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    with both_in(tmp_path) as both:
        yield both


def joined(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours of one kind as one."""
    found: list[tuple[int, int, int]] = []
    for offset, length, kind in runs:
        if found and found[-1][2] == kind:
            found[-1] = (found[-1][0], found[-1][1] + length, kind)
        else:
            found.append((offset, length, kind))
    return found


def chain(folder: Path) -> Path:
    """Three images: a short raw one, one that is as long as the topmost, and this with bitmaps."""
    (folder / "raw").write_bytes(b"x" * MIB)
    run("create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", folder / "middle", "8M")
    run_io(folder / "middle", "write 2M 1M", "write -z 6M 64k")
    run("create", "-q", "-f", "qcow2", "-b", "middle", "-F", "qcow2", folder / "top", "8M")
    add(folder / "top", "--disable,none", "-g,512,small", "usual")
    run_io(folder / "top", "write 64k 64k", "write -z 3M 128k", "write 7M 1", "discard 2M 64k")
    return folder / "top"


def test_maps_are_those_of_qemu_nbd(lab: Lab) -> None:
    top = chain(lab.folder)
    theirs: dict[str, Any] = {
        name: joined(nbd_map(f"qemu:dirty-bitmap:{name}", *served(top, "-B", name)))
        for name in ("none", "small", "usual")
    }
    theirs["depth"] = joined(nbd_map("qemu:allocation-depth", *served(top, "-A")))
    qmon = lab.start("one", *drive(top, format="qcow2", readonly="on"))
    path = lab.folder / "socket"
    qmon.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
    with QmpClient(qmon.folder / "one.qmp") as client:
        node = client.run("query-block")[0]["inserted"]["node-name"]
        bitmaps = ["none", "usual", {"node": node, "name": "small"}]
        client.run(
            EXPORT, type="nbd", id="e", node_name=node, name="d0", bitmaps=bitmaps, allocation_depth=True
        )
    uri = f"nbd+unix:///d0?socket={path}"
    ours = {name: joined(nbd_map(f"qemu:dirty-bitmap:{name}", uri)) for name in ("none", "small", "usual")}
    ours["depth"] = joined(nbd_map("qemu:allocation-depth", uri))
    assert ours == theirs
    assert {kind for _, _, kind in ours["depth"]} == {1, 2, 3}
    listed = json.loads(subprocess.run(["nbdinfo", "--json", uri], capture_output=True, check=True).stdout)
    names = [f"qemu:dirty-bitmap:{name}" for name in ("none", "usual", "small")]
    assert listed["exports"][0]["contexts"] == ["base:allocation", "qemu:allocation-depth", *names]
    image = "driver=nbd,server.type=unix,export=d0,server.path=" + str(path)
    for context, name in {"qemu:dirty-bitmap:usual": "usual", "qemu:allocation-depth": "depth"}.items():
        mapped = run("map", "--output=json", "--image-opts", f"{image},x-dirty-bitmap={context}")
        told = [(each["start"], each["length"], each["data"], each["zero"]) for each in json.loads(mapped)]
        assert told == qemu_map(top, context, name), context


def qemu_map(image: Path, context: str, name: str) -> list[tuple[int, int, bool, bool]]:
    """What qemu-img map says of a context that qemu-nbd serves."""
    options = ["-A"] if name == "depth" else ["-B", name]
    words = ["qemu-nbd", "--persistent", "-r", "-f", "qcow2", "-k", "{socket}", "-x", "d0", *options]
    with NbdProgram(image.parent, *words, image, name="theirs") as server:
        nbd = f"driver=nbd,server.type=unix,export=d0,server.path={server.socket},x-dirty-bitmap={context}"
        mapped = run("map", "--output=json", "--image-opts", nbd)
    return [(each["start"], each["length"], each["data"], each["zero"]) for each in json.loads(mapped)]


def test_a_writable_export_tells_what_was_written_since(lab: Lab) -> None:
    run("create", "-q", "-f", "qcow2", lab.folder / "d0", "8M")
    qmon = lab.start("one", *drive(lab.folder / "d0", format="qcow2"))
    qmon.qmp(ADD, node="d0", name="b", granularity=512)
    path = lab.folder / "socket"
    qmon.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
    qmon.qmp("nbd-server-add", device="d0", writable=True, bitmap="b")
    uri = f"nbd+unix:///d0?socket={path}"
    assert nbd_map("qemu:dirty-bitmap:b", uri) == [(0, 8 * MIB, 0)]
    written = range(0, 8 * MIB, 4096)
    command = ["qemu-io", "-f", "raw", uri]
    for offset in written[:6000:3]:
        command += ["-c", f"write {offset} 512"]
    subprocess.run(command, check=True, capture_output=True)
    found = nbd_map("qemu:dirty-bitmap:b", uri)
    assert [(offset, length) for offset, length, kind in found if kind] == [
        (offset, 512) for offset in written[:6000:3]
    ]
    assert qmon.qmp_error("block-dirty-bitmap-clear", node="d0", name="b").endswith("cannot be used")
    assert "Permission conflict" in qmon.command("block_resize d0 9M")
    qmon.qmp("nbd-server-remove", name="d0")
    qmon.qmp("block-dirty-bitmap-clear", node="d0", name="b")


def test_what_an_export_may_offer(both: Both, tmp_path: Path) -> None:
    for name in ("a", "b"):
        both.ask(ADD, node="n", name=name)
        both.ask(ADD, node="n", name=f"{name}-off", disabled=True)
    both.ask(ADD, node="r", name="other", disabled=True)
    export = {"type": "nbd", "node_name": "n"}
    assert both.put(EXPORT, **export, id="e", bitmaps=["nope"]) == "NBD server not running"
    for side in ("qemu", "qmon"):
        client = both.clients[side == "qmon"]
        client.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / side / "nbd")}})
    both.ask(EXPORT, **export, id="e0", writable=True, bitmaps=["a"])
    both.bitmaps()
    other = {"node": "r", "name": "other"}
    for number, (writable, bitmaps) in enumerate(
        [
            (True, ["a"]),
            (False, ["b"]),
            (False, ["a"]),
            (False, ["a-off", "a"]),
            (True, ["nope"]),
            (True, ["other"]),
            (True, [{"node": "nope", "name": "x"}]),
            (True, [{"node": "r", "name": "x"}]),
            (True, [{"node": "r"}]),
            (True, [3]),
            (True, "a"),
            (False, ["a-off", other, "a-off"]),
            (False, ["a-off"]),
            (False, []),
        ]
    ):
        both.put(EXPORT, **export, id=f"f{number}", name=f"f{number}", writable=writable, bitmaps=bitmaps)
        both.bitmaps()
    both.put(EXPORT, **export, id="g", name="f12", bitmaps=["nope"])
    both.put(EXPORT, **export, id="g", allocation_depth="x")
    both.ask(EXPORT, **export, id="g", name="g", allocation_depth=True)
    for bitmap, writable in (("b", False), ("nope", True), ("a", True), ("b-off", False), ("b", True)):
        both.put("nbd-server-add", device="d0", name=f"{bitmap}{writable}", bitmap=bitmap, writable=writable)
        both.bitmaps()
    for command in ("remove", "clear", "enable", "disable"):
        assert isinstance(both.put(f"block-dirty-bitmap-{command}", node="n", name="a"), str)
    both.put("block-dirty-bitmap-merge", node="n", target="a", bitmaps=["b"])
    both.ask("nbd-server-stop")
    both.bitmaps()
