"""Two drives with one disk are recognized, whatever the ways to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from qmon.remote.migration.agreement import identity
from qmon.remote.migration.agreement.identity import Leaf, identities_of, leaves_of
from tests.support.hosts import NoHostsError, loop_device
from tests.support.images import MIB, blank
from tests.support.peers import lack


def node(name: str, driver: str, file: str = "") -> dict[str, Any]:
    return {"node-name": name, "drv": driver, "file": file}


def graph(nodes: list[dict[str, Any]], *edges: tuple[str, str, str]) -> dict[str, Any]:
    numbers = {each["node-name"]: number for number, each in enumerate(nodes)}
    return {
        "nodes": [{"id": number, "type": "block-driver", "name": name} for name, number in numbers.items()],
        "edges": [
            {"parent": numbers[above], "child": numbers[below], "name": kind} for above, kind, below in edges
        ],
    }


NODES = [
    node("top", "qcow2", "top.qcow2"),
    node("top-file", "file", "top.qcow2"),
    node("data", "host_device", "/dev/sdb"),
    node("base", "raw", "base.img"),
    node("base-file", "file", "base.img"),
]
GRAPH = graph(
    NODES,
    ("top", "file", "top-file"),
    ("top", "data-file", "data"),
    ("top", "backing", "base"),
    ("base", "file", "base-file"),
)


def test_the_files_of_an_overlay_are_found_without_its_backing_image() -> None:
    assert leaves_of(NODES, GRAPH)["top"] == [Leaf("file", "top.qcow2"), Leaf("host_device", "/dev/sdb")]
    assert Leaf("file", "base.img") in leaves_of(NODES, GRAPH, backing=True)["top"]


def test_a_circle_of_nodes_ends() -> None:
    nodes = [node("a", "raw"), node("b", "raw")]
    assert leaves_of(nodes, graph(nodes, ("a", "file", "b"), ("b", "file", "a")))["a"]


def test_a_file_is_the_same_by_each_of_its_names(tmp_path: Path) -> None:
    blank(tmp_path / "disk", MIB)
    os.link(tmp_path / "disk", tmp_path / "hard")
    (tmp_path / "soft").symlink_to("disk")
    blank(tmp_path / "other", MIB)
    known = {name: list(identities_of(tmp_path / name)) for name in ("disk", "hard", "soft", "other")}
    assert known["disk"] == known["hard"] == known["soft"] != []
    assert known["other"] != known["disk"]
    assert list(identities_of(tmp_path / "missing")) == []


def test_a_loop_device_is_its_file_too(tmp_path: Path) -> None:
    blank(tmp_path / "disk", MIB)
    try:
        with loop_device(tmp_path / "disk") as one, loop_device(tmp_path / "disk") as other:
            shared = set(identities_of(one)) & set(identities_of(other))
            assert shared == set(identities_of(tmp_path / "disk"))
    except NoHostsError as error:
        lack(f"a loop device: {error}")


def test_a_disk_of_a_san_has_one_name_on_all_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "devices/sda"
    (disk / "device").mkdir(parents=True)
    (disk / "device/wwid").write_text("naa.600140512345678\n")
    (disk / "sda1").mkdir()
    (disk / "sda1/partition").write_text("1\n")
    emulated = tmp_path / "devices/sdb/device"
    emulated.mkdir(parents=True)
    (emulated / "wwid").write_text("t10.ATA     QEMU HARDDISK           QM00001\n")
    for number, name in (("8:0", "sda"), ("8:1", "sda/sda1"), ("8:16", "sdb")):
        (tmp_path / number).symlink_to(f"devices/{name}")
    monkeypatch.setattr(identity, "_SYSFS", tmp_path)
    monkeypatch.setattr(identity, "boot_id", lambda: "")
    assert list(identity.identities_of_device("8:0")) == ["naa.600140512345678"]
    assert list(identity.identities_of_device("8:1")) == ["naa.600140512345678, partition 1"]
    assert list(identity.identities_of_device("8:16")) == []
