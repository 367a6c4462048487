"""Block nodes, ``json:`` names and drivers' options: qmon and QEMU say and do the same."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import NoHostsError, loop_device
from tests.support.images import blank, drive
from tests.support.locks_probe import locked_bytes
from tests.support.peer import MORE_NOISE, QEMU_7, QEMU_10, options_of
from tests.support.peers import lack, require
from tests.support.processes import Lab
from tests.support.qcow2_images import content, run, run_io
from tests.support.runs import one_line
from tests.support.runs import run as run_cli
from tests.support.two_monitors import TwoMonitors, differing, told

FILE: Mapping[str, Any] = {"driver": "file", "filename": "a.qcow2"}
QCOW2: Mapping[str, Any] = {"driver": "qcow2", "node-name": "n", "file": FILE}
RAW: Mapping[str, Any] = {"driver": "raw", "node-name": "n", "file": {**FILE, "filename": "r.img"}}

SAME: tuple[Mapping[str, Any], ...] = (
    {},
    {"driver": "nonsense"},
    {"driver": 1},
    {"driver": "file", "node-name": "n"},
    {"driver": "file", "filename": "r.img"},
    {"driver": "file", "node-name": "n", "filename": "absent"},
    {"driver": "file", "node-name": "n", "filename": ""},
    {"driver": "file", "node-name": "n", "filename": "r.img"},
    {"driver": "host_device", "node-name": "n", "filename": "r.img"},
    {"driver": "file", "node-name": "1n", "filename": "r.img"},
    {"driver": "file", "node-name": "n" * 32, "filename": "r.img"},
    {"driver": "file", "node-name": "d0", "filename": "r.img"},
    {"driver": "file", "node-name": "n", "filename": "r.img", "locking": "maybe"},
    {"driver": "file", "node-name": "n", "filename": "r.img", "locking": "on", "aio": "threads"},
    {"driver": "file", "node-name": "n", "filename": "r.img", "aio": "fast"},
    {"driver": "file", "node-name": "n", "filename": "r.img", "colour": "red"},
    RAW,
    {**RAW, "offset": "x"},
    {**RAW, "backing": None},
    {**RAW, "file": "absent"},
    {**RAW, "file": 5},
    {**RAW, "file": None},
    {**RAW, "file": {}},
    {**RAW, "read-only": "on"},
    {**RAW, "read-only": True},
    {**RAW, "discard": "always"},
    {**RAW, "discard": "unmap", "detect-zeroes": "unmap"},
    {**RAW, "detect-zeroes": "unmap"},
    {**RAW, "detect-zeroes": "some"},
    {**RAW, "cache": {"direct": "on"}},
    {**RAW, "cache": {"colour": True}},
    {**RAW, "cache": {"no-flush": True}},
    {**RAW, "force-share": True},
    {**RAW, "force-share": True, "read-only": True},
    {**RAW, "auto-read-only": True},
    QCOW2,
    {"driver": "qcow2", "node-name": "n"},
    {**QCOW2, "backing": None},
    {**QCOW2, "backing": ""},
    {**QCOW2, "backing": "absent"},
    {**QCOW2, "backing": 3},
    {**QCOW2, "backing": {"driver": "raw", "file": {"driver": "file", "filename": "r.img"}}},
    {**QCOW2, "file": {**FILE, "filename": "o.qcow2"}, "backing": None},
    {**QCOW2, "file": {**FILE, "filename": "o.qcow2"}, "backing": {"driver": "qcow2", "file": FILE}},
    {**QCOW2, "l2-cache-size": "1M"},
    {**QCOW2, "l2-cache-size": 1048576},
    {**QCOW2, "cache-size": 1048576, "l2-cache-size": 2097152},
    {**QCOW2, "cache-size": 1048576, "refcount-cache-size": 2097152},
    {**QCOW2, "cache-size": 1048576, "l2-cache-size": 1, "refcount-cache-size": 1},
    {**QCOW2, "l2-cache-entry-size": 4096},
    {**QCOW2, "l2-cache-entry-size": 1000},
    {**QCOW2, "l2-cache-entry-size": 256},
    {**QCOW2, "l2-cache-entry-size": 131072},
    {**QCOW2, "cache-clean-interval": 60},
    {**QCOW2, "cache-clean-interval": 5000000000},
    {**QCOW2, "lazy-refcounts": True},
    {**QCOW2, "lazy-refcounts": "on"},
    {**QCOW2, "lazy-refcounts": True, "file": {**FILE, "filename": "old.qcow2"}},
    {**QCOW2, "overlap-check": "none"},
    {**QCOW2, "overlap-check": "most"},
    {**QCOW2, "overlap-check": {"template": "all", "main-header": False}},
    {**QCOW2, "overlap-check": {"template": "most"}},
    {**QCOW2, "overlap-check": {"colour": True}},
    {**QCOW2, "overlap-check": 1},
    {**QCOW2, "pass-discard-request": True, "pass-discard-snapshot": False, "pass-discard-other": True},
    {**QCOW2, "colour": "red"},
    {"driver": "throttle", "node-name": "n", "file": FILE},
    {"driver": "throttle", "node-name": "n", "throttle-group": "absent", "file": FILE},
    {"driver": "throttle", "node-name": "n", "throttle-group": "g", "file": QCOW2},
    {"driver": "throttle", "node-name": "n", "throttle-group": "g", "file": {**QCOW2, "node-name": "q"}},
    {"driver": "throttle", "node-name": "n", "throttle-group": "g", "file": {**FILE, "filename": "r.img"}},
)
"""Arguments of blockdev-add."""

ON_DRIVES = """\
l2-cache-size=1M
l2-cache-size=banana
l2-cache-size=
l2-cache-size=99999999999999999999
cache-size=2M
cache-size=1M,l2-cache-size=2M
cache-size=1M,refcount-cache-size=2M
cache-size=1M,l2-cache-size=1k,refcount-cache-size=1k
refcount-cache-size=1M,l2-cache-size=1M
l2-cache-entry-size=4k
l2-cache-entry-size=1000
l2-cache-entry-size=128k
cache-clean-interval=60
cache-clean-interval=soon
cache-clean-interval=5000000000
lazy-refcounts=on
lazy-refcounts=maybe
overlap-check=none
overlap-check=most
overlap-check.template=all
overlap-check.template=most
overlap-check=none,overlap-check.template=all
overlap-check.main-header=off
overlap-check.main-header=maybe
pass-discard-request=on
pass-discard-snapshot=maybe
pass-discard-other=off
colour=red
file.locking=off
file.locking=maybe
file.aio=threads
file.aio=fast
file.driver=file
file.filename=a.qcow2
file.colour=red
file.cache.direct=on
file.cache.direct=maybe
file.read-only=on
file.node-name=f
file.node-name=1
backing.driver=nonsense
backing.file.filename=r.img
backing.driver=raw,backing.file.filename=r.img
backing=absent
""".splitlines()

NO_FILE = """\
driver=qcow2,file.filename=a.qcow2
driver=qcow2,file.driver=file,file.filename=a.qcow2
file.filename=a.qcow2
file.driver=file,file.filename=a.qcow2
file.driver=file
driver=raw,file.filename=absent
file=a.qcow2,readonly=on,file.read-only=on
file=a.qcow2,readonly=on,file.force-share=on
file=a.qcow2,file.force-share=on
file=a.qcow2,readonly=on,force-share=on,file.locking=off
driver=raw,l2-cache-size=1M,file.filename=r.img
file.filename=r.img,l2-cache-size=1M
file=json:{"driver":"qcow2",,"file":{"driver":"file",,"filename":"a.qcow2"}}
file=json:{"driver":"qcow2",,"file.filename":"a.qcow2"}
file=json:{"driver":"qcow2",,"file.driver":"file",,"file.filename":"a.qcow2"}
file=json:{"file.filename":"a.qcow2"}
file=json:{"driver":"qcow2",,"file.filename":"a.qcow2"},format=raw
file=json:{"driver":"qcow2",,"file.filename":"a.qcow2",,"l2-cache-size":"x"}
file=json:{"driver":"qcow2",,"file.filename":"a.qcow2",,"l2-cache-size":1048576}
file=json:{"driver":"qcow2",,"file.filename":"o.qcow2",,"backing":null}
file=json:{"driver":"qcow2",,"file.filename":"o.qcow2",,"backing":{"driver":"raw",,"file.filename":"r.img"}}
file=json:{"driver":"qcow2",,"file.filename":"absent"}
file=json:{"driver":"raw"}
file=json:{"driver":"nonsense",,"file.filename":"r.img"}
file=json:{"driver":"raw",,"colour":1,,"file.filename":"r.img"}
file=json:{"driver":"raw",,"file":{"driver":"file",,"filename":"r.img",,"colour":1}}
file=json:
file=json:{
file=json:[]
file=json:{}
file=jj.qcow2
file=jk.qcow2
file=jn.qcow2
file=jr.qcow2
""".splitlines()


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-system-x86_64", "qemu-img", "qemu-io")


def images(folder: Path) -> list[str]:
    """The images that the lines above name, and a drive d0."""
    (folder / "sub").mkdir()
    for name in ("d0.img", "r.img"):
        (folder / name).write_bytes(bytes(1 << 20))
    run("create", "-q", "-f", "qcow2", folder / "a.qcow2", "1M")
    run("create", "-q", "-f", "qcow2", "-o", "compat=0.10", folder / "old.qcow2", "1M")
    run_io(folder / "a.qcow2", "write -P 7 0 64k")
    names = {
        "o": "a.qcow2",
        "jj": 'json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}',
        "jk": 'json:{"driver":"qcow2","file.filename":"a.qcow2"}',
        "jn": 'json:{"file.filename":"a.qcow2"}',
        "jr": 'json:{"driver":"qcow2","file.filename":"o.qcow2","backing":null}',
    }
    for name, backing in names.items():
        run("create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", folder / f"{name}.qcow2", "1M")
    return [
        *options_of("id=d0,file=d0.img,format=raw"),
        "-object",
        "throttle-group,id=g,x-bps-total=1000000",
    ]


@pytest.fixture(params=[pytest.param(QEMU_7, id="7"), pytest.param(QEMU_10, id="10")])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoMonitors]:
    require(request.param[0])
    with TwoMonitors(tmp_path, qemu=request.param, drives=images, noise=MORE_NOISE) as monitors:
        yield monitors


def outcome(client: Any, arguments: Mapping[str, Any]) -> str:
    """What blockdev-add says, or the node that it made; it is gone again."""
    answer = client.ask("blockdev-add", arguments)
    if "error" in answer:
        return str(answer["error"]["desc"])
    (node,) = (each for each in client.run("query-named-block-nodes") if each["node-name"] == "n")
    client.run("blockdev-del", node_name="n")
    return f"{node['file']} ({node['drv']}, {'read-only' if node['ro'] else 'writable'})"


def test_a_node_is_added_or_refused_as_by_qemu(both: TwoMonitors) -> None:
    with both.theirs.qmp() as theirs, both.ours.qmp() as ours:
        answers = [(json.dumps(each), outcome(theirs, each), outcome(ours, each)) for each in SAME]
    assert not [each for each in answers if each[1] != each[2]]


def test_options_of_a_drive_are_taken_as_by_qemu(both: TwoMonitors) -> None:
    found = {}
    for given in [*(f"file=a.qcow2,format=qcow2,{each}" for each in ON_DRIVES), *NO_FILE]:
        lines = [f"drive_add 0 if=none,id=x,{given}", "info block -v x", "drive_del x"]
        found.update({f"{given}: {line}": answers for line, answers in differing(both, lines).items()})
    assert not found, told(found)


NODES_AND_DRIVES = """\
info block -v e
info block x
drive_add 0 if=none,id=b,file=r.img
drive_add 0 if=none,id=z,node-name=b,file=r.img
eject b
change b r.img
block_set_io_throttle b 0 0 0 0 0 0
drive_del e
""".splitlines()

JSON_NAMES = """\
change d0 json:{"driver":"raw","file.filename":"r.img"}
info block -v d0
change d0 "json:{\\"driver\\":\\"qcow2\\",\\"file.filename\\":\\"o.qcow2\\",\\"backing\\":null}"
info block -v
snapshot_blkdev d0 new.qcow2
info block d0
info block -n
snapshot_blkdev_internal d0 s
info block d0
snapshot_delete_blkdev_internal d0 s
commit d0
drive_del d0
""".splitlines()


def test_nodes_of_the_command_line_are_shown_as_by_qemu(tmp_path: Path) -> None:
    """Those with a drive on them, as -device makes one in QEMU, are listed by it as well."""

    def nodes(folder: Path) -> list[str]:
        (folder / "b.img").write_bytes(bytes(1 << 20))
        base = "driver=file,node-name=b,filename=b.img,read-only=on"
        return [
            *images(folder),
            *("-blockdev", base),
            *("-drive", "if=none,id=e,file=a.qcow2,format=qcow2,backing=b"),
        ]

    with TwoMonitors(tmp_path, drives=nodes, noise=MORE_NOISE) as both:
        found = differing(both, NODES_AND_DRIVES)
        assert both.ours.command("info block").startswith("b: b.img (file, read-only)\n")
    assert not found, told(found)


def test_json_names_are_shown_and_used_as_by_qemu(both: TwoMonitors) -> None:
    found = differing(both, JSON_NAMES)
    assert not found, told(found)


def as_libvirt(folder: Path) -> list[str]:
    """A disk on a backing image, below a throttle filter, and a CD, as libvirt gives them."""
    cache = {"direct": True, "no-flush": False}
    nodes: list[dict[str, Any]] = [
        {"driver": "file", "filename": f"{folder}/base.qcow2", "node-name": "s2", "auto-read-only": True},
        {
            "node-name": "f2",
            "read-only": True,
            "cache": cache,
            "driver": "qcow2",
            "file": "s2",
            "backing": None,
        },
        {"driver": "file", "filename": f"{folder}/disk.qcow2", "node-name": "s1", "discard": "unmap"},
        {
            "node-name": "f1",
            "read-only": False,
            "cache": cache,
            "driver": "qcow2",
            "file": "s1",
            "backing": "f2",
        },
        {"driver": "throttle", "node-name": "d0", "throttle-group": "limits", "file": "f1"},
        {"driver": "file", "filename": f"{folder}/cd.iso", "node-name": "cd", "read-only": True},
    ]
    run("create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    run("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", folder / "disk.qcow2")
    (folder / "cd.iso").write_bytes(b"CD" * 1024)
    group = {"qom-type": "throttle-group", "id": "limits", "limits": {"iops-total": 200}}
    options = ["-object", json.dumps(group)]
    for node in nodes:
        options += ["-blockdev", json.dumps(node)]
    return [*options, "-device", '{"driver":"virtio-blk-pci","drive":"d0","id":"virtio-disk0"}']


def test_nodes_as_libvirt_makes_them_serve_guests(lab: Lab) -> None:
    qmon = lab.start("one", *as_libvirt(lab.folder))
    qmon.export("d0", "cd")
    with qmon.guest() as guest:
        guest.write(4096, b"x" * 512)
        guest.flush()
    with qmon.guest("cd") as guest:
        assert guest.read(0, 2048) == b"CD" * 1024
    shown = qmon.command("info block d0")
    assert 'd0: json:{"throttle-group": "limits", "driver": "throttle", "file": {"backing": ' in shown
    blocks = {block["inserted"]["node-name"]: block for block in qmon.qmp("query-block")}
    assert {block["device"] for block in blocks.values()} == {""}
    assert (blocks["d0"]["inserted"]["iops"], blocks["d0"]["inserted"]["group"]) == (200, "limits")
    names = [each["node-name"] for each in qmon.qmp("query-named-block-nodes")]
    assert sorted(names) == ["cd", "d0", "f1", "f2", "s1", "s2"]
    ignored = "-device, -blockdev auto-read-only, -blockdev discard"
    assert f"qmon: these options are ignored: {ignored}" in qmon.log()
    qmon.close()
    assert content(lab.folder / "disk.qcow2")[4096:4608] == b"x" * 512


def test_a_node_takes_the_place_of_those_below_it(lab: Lab) -> None:
    for name in ("base", "top"):
        run("create", "-q", "-f", "qcow2", lab.folder / name, "1M")
    run_io(lab.folder / "base", "write -P 5 0 1M")
    qmon = lab.start("one")
    for name in ("base", "top"):
        file = {"driver": "file", "filename": f"{lab.folder}/{name}"}
        qmon.qmp("blockdev-add", driver="qcow2", node_name=name, file=file, read_only=name == "base")
    qmon.export("top")
    add = {"driver": "throttle", "node_name": "t", "throttle_group": "g", "file": "top"}
    assert qmon.qmp_error("blockdev-add", **add) == "Node 'top' is exported: remove its exports first"
    qmon.quietly("nbd_server_stop")
    assert qmon.qmp_error("blockdev-add", **add) == "Throttle group 'g' does not exist"
    assert qmon.command("info block").count("(qcow2") == 2
    qmon.qmp("blockdev-del", node_name="top")
    file = {"driver": "file", "filename": f"{lab.folder}/top"}
    qmon.qmp("blockdev-add", driver="qcow2", node_name="d0", file=file, backing="base")
    (block,) = qmon.qmp("query-block")
    assert (block["inserted"]["node-name"], block["inserted"]["backing_file_depth"]) == ("d0", 1)
    assert qmon.command('qemu-io d0 "read -P 5 0 1M"').startswith("read 1048576/1048576")
    in_use = "Node 'base' is busy: node is used as backing hd of 'd0'"
    assert qmon.qmp_error("blockdev-del", node_name="base") == in_use
    assert qmon.qmp_error("blockdev-del", node_name="top") == "Failed to find node with node-name='top'"
    qmon.qmp("blockdev-del", node_name="d0")
    (block,) = qmon.qmp("query-block")
    assert block["inserted"]["node-name"] == "base"
    qmon.qmp("blockdev-del", node_name="base")
    assert qmon.qmp("query-block") == []


def test_a_node_without_users_is_a_drive_again(lab: Lab) -> None:
    """As scripts do: each node by itself, from the lowest up, and back again."""
    run("create", "-q", "-f", "qcow2", lab.folder / "base", "1M")
    run("create", "-q", "-f", "qcow2", lab.folder / "top", "1M")
    qmon = lab.start("one", "-blockdev", f"driver=file,node-name=bf,filename={lab.folder}/base")
    qmon.qmp("blockdev-add", driver="qcow2", node_name="b", file="bf")
    qmon.qmp("blockdev-add", driver="file", node_name="tf", filename=f"{lab.folder}/top")
    qmon.qmp("blockdev-add", driver="qcow2", node_name="t", file="tf", backing="b")
    assert qmon.qmp_error("blockdev-del", node_name="bf") == "Block device bf is in use"
    nodes = qmon.qmp("query-named-block-nodes")
    assert [(each["node-name"], each["ro"]) for each in nodes] == [
        ("t", False),
        ("tf", False),
        ("b", False),
        ("bf", False),
    ]
    qmon.qmp("blockdev-del", node_name="t")
    qmon.qmp("blockdev-del", node_name="tf")
    qmon.export("b")
    with qmon.guest("b") as guest:
        guest.write(0, b"b" * 512)
        guest.flush()
    qmon.quietly("nbd_server_stop")
    qmon.qmp("blockdev-del", node_name="b")
    assert locked_bytes(lab.folder / "base")
    qmon.qmp("blockdev-del", node_name="bf")
    assert qmon.qmp("query-named-block-nodes") == []
    assert not locked_bytes(lab.folder / "base")
    qmon.close()
    assert content(lab.folder / "base")[:512] == b"b" * 512


def test_two_overlays_can_rest_on_one_node(lab: Lab) -> None:
    run("create", "-q", "-f", "qcow2", lab.folder / "base", "1M")
    options = ["-blockdev", f"driver=qcow2,node-name=b,file.driver=file,file.filename={lab.folder}/base"]
    for name in "xy":
        run("create", "-q", "-f", "qcow2", lab.folder / name, "1M")
        file = f"file.driver=file,file.filename={lab.folder}/{name}"
        options += ["-blockdev", f"driver=qcow2,node-name={name},{file},backing=b"]
    qmon = lab.start("one", *options)
    shown = [block["inserted"]["node-name"] for block in qmon.qmp("query-block")]
    assert shown == ["x", "y"]
    names = [each["node-name"] for each in qmon.qmp("query-named-block-nodes")]
    assert [name for name in names if not name.startswith("#")] == ["y", "x", "b"]
    qmon.qmp("blockdev-del", node_name="x")
    assert [block["inserted"]["node-name"] for block in qmon.qmp("query-block")] == ["y"]
    qmon.qmp("blockdev-del", node_name="y")
    assert [block["inserted"]["node-name"] for block in qmon.qmp("query-block")] == ["b"]


def test_a_block_device_is_called_so(lab: Lab) -> None:
    image = blank(lab.folder / "d.img", 1 << 20)
    with contextlib.ExitStack() as stack:
        try:
            device = stack.enter_context(loop_device(image))
        except NoHostsError as error:
            lack(str(error))
        qmon = lab.start("one", "-blockdev", f"driver=host_device,node-name=d0,filename={device}")
        assert qmon.command("info block -n").startswith(f"d0: {device} (host_device)")
        qmon.close()
        assert one_line(run_cli("-blockdev", f"driver=file,node-name=d0,filename={device}")) == (
            f"'file' driver requires '{device}' to be a regular file"
        )


@pytest.mark.parametrize("node", [True, False])
def test_an_image_that_another_writes_is_read_with_force_share(node: bool, lab: Lab) -> None:
    image = blank(lab.folder / "d.img", 1 << 20)
    writer = lab.start("writer", *drive(image))
    keys = "read-only=on,force-share=on"
    options = ["-drive", f"file={image},format=raw,if=none,id=d0,{keys}"]
    if node:
        options = ["-blockdev", f"raw,node-name=d0,file.driver=file,file.filename={image},{keys}"]
    reader = lab.start("reader", *options)
    assert "ignored" not in reader.log()
    writer.command('qemu-io d0 "write -P 6 0 64k"')
    assert reader.command('qemu-io d0 "read -P 6 0 64k"').startswith("read 65536/65536")
    writer.close()
    assert locked_bytes(image) == {100}
    assert "force-share=on can only be used" in one_line(run_cli(*drive(image, **{"force-share": "on"})))


TEMPORARY = """\
drive_add 0 if=none,id=x,file=r.img,snapshot=on
info block -v x
info block -n
qemu-io x "write -P 5 0 64k"
commit x
drive_del x
drive_add 0 if=none,id=x,file=a.qcow2,readonly=on,snapshot=on,node-name=below
info block -v x
info block below
commit x
snapshot_blkdev_internal x s
drive_del x
drive_add 0 if=none,id=x,file=a.qcow2,snapshot=on,l2-cache-entry-size=128k
drive_add 0 if=none,id=x,file=absent,snapshot=on
drive_add 0 if=none,id=x,snapshot=on
info block x
""".splitlines()


def test_temporary_overlays_are_shown_and_used_as_by_qemu(tmp_path: Path) -> None:
    noise = (*MORE_NOISE, (re.compile(r"/vl\.\w+"), "/vl.X"))
    with TwoMonitors(tmp_path, drives=images, noise=noise) as both:
        found = differing(both, TEMPORARY)
    assert not found, told(found)
