"""Settings of a migration two by two: the disk arrives equal, or one clear line refuses the pair."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import run
from tests.support.qmp_client import QmpClient
from tests.support.waiting import eventually

SIZE = 2 * MIB

SETTINGS = {
    "recover": "migrate_set_capability x-qmon-recover on",
    "multifd": "migrate_set_capability multifd on",
    "zlib": "migrate_set_parameter multifd-compression zlib",
    "auto-converge": "migrate_set_capability auto-converge on",
    "write-blocking": "migrate_set_parameter x-qmon-copy-mode write-blocking",
    "bitmaps": "migrate_set_capability dirty-bitmaps on",
    "pause": "migrate_set_capability pause-before-switchover on",
    "return-path": "migrate_set_capability return-path on",
    "no forwarding": "migrate_set_capability x-qmon-forward off",
}
WAYS = ("unix", "exec to a destination", "exec to a file", "file", "pipe")
MODES = ("blk", "blk inc", "")
ONE_WAY = ("exec to a file", "file", "pipe")


@dataclass(frozen=True)
class Combination:
    """What is used together; ``refused`` is the line that says why it is not possible."""

    way: str
    mode: str
    settings: tuple[str, ...]
    refused: str = ""

    def __str__(self) -> str:
        return f"{self.way} {self.mode or 'shared'}: {', '.join(self.settings)}"

    @property
    def everything(self) -> set[str]:
        return {self.way, self.mode, *self.settings}


COMMON = ("auto-converge", "write-blocking", "bitmaps", "pause", "no forwarding")
ANSWERED = (*COMMON, "return-path")
DONE = (
    *(
        Combination(way, mode, (*ANSWERED, "recover", "zlib"))
        for way in ("unix", "exec to a destination")
        for mode in MODES
    ),
    *(Combination("unix", mode, (*ANSWERED, "multifd", "zlib")) for mode in MODES),
    *(Combination(way, mode, (*COMMON, "recover", "zlib")) for way in ONE_WAY for mode in MODES),
)
NOT_WITH_RECOVER = (
    "multifd is not possible with x-qmon-recover, which resumes one connection: turn one of them off"
)
REFUSED = (
    *(Combination("unix", mode, ("multifd", "recover"), NOT_WITH_RECOVER) for mode in MODES),
    *(
        Combination(way, mode, ("multifd",), "Migration requires multi-channel URIs (e.g. tcp)")
        for way in WAYS
        if way != "unix"
        for mode in MODES
    ),
    *(Combination(way, mode, ("return-path",), "does not answer") for way in ONE_WAY for mode in MODES),
)


def test_each_pair_is_done_or_refused() -> None:
    tried = {
        pair for each in (*DONE, *REFUSED) for pair in itertools.combinations(sorted(each.everything), 2)
    }
    wanted = set(itertools.combinations(sorted({*SETTINGS, *WAYS, *MODES}), 2))
    exclusive = {pair for group in (WAYS, MODES) for pair in itertools.combinations(sorted(group), 2)}
    assert wanted - exclusive - tried == set()


def images(lab: Lab, mode: str) -> tuple[Path, Path]:
    """The disks of both sides."""
    if mode == "":
        one = filled(lab.folder / "a", SIZE)
        return one, one
    here, there = lab.folder / "a.qcow2", lab.folder / "b.qcow2"
    if mode == "blk":
        run("convert", "-f", "raw", "-O", "qcow2", filled(lab.folder / "raw", SIZE), here)
        run("create", "-q", "-f", "qcow2", there, str(SIZE))
        return here, there
    base = filled(lab.folder / "base", SIZE, 2)
    for image in (here, there):
        run("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", image)
    return here, there


def uris(lab: Lab, way: str, source: Qmon, target: Qmon) -> tuple[str, str]:
    """Where the source goes, and where the destination reads."""
    there = f"unix:{lab.folder}/in"
    match way:
        case "unix":
            return there, there
        case "exec to a destination":
            return f'"exec:socat - {there}"', there
        case "exec to a file":
            return f'"exec:cat > {lab.folder}/x"', f'"exec:cat {lab.folder}/x"'
        case "file":
            return f"file:{lab.folder}/x", f"file:{lab.folder}/x"
    ends = os.pipe()
    for qmon, end in zip((target, source), ends, strict=True):
        with QmpClient(qmon.qmp_path) as client:
            assert client.ask("getfd", descriptors=[end], fdname="line") == {"return": {}}
        os.close(end)
    return "fd:line", "fd:line"


@pytest.mark.parametrize("tried", DONE, ids=str)
def test_the_disk_arrives(lab: Lab, tried: Combination) -> None:
    require("qemu-img", *(["socat"] if "exec" in tried.way else []))
    here, there = images(lab, tried.mode)
    kind = "qcow2" if tried.mode else "raw"
    source = lab.start("source", *drive(here, format=kind))
    target = lab.start("target", *drive(there, format=kind), "-incoming", "defer")
    for name in tried.settings:
        for side in (source, target):
            side.quietly(SETTINGS[name])
    source.export("d0")
    source.qmp("block-dirty-bitmap-add", node="d0", name="b0")
    with source.guest() as guest:
        guest.write(0, noise(4096, 7))
    to, back = uris(lab, tried.way, source, target)
    is_answered = tried.way not in ONE_WAY
    if is_answered or tried.way == "pipe":
        target.quietly(f"migrate_incoming {back}")
    source.quietly(f"migrate -d {tried.mode} {to}")
    source.wait_migration("pre-switchover")
    source.quietly("migrate_continue pre-switchover")
    source.wait_migration("completed")
    if not is_answered and tried.way != "pipe":
        target.quietly(f"migrate_incoming {back}")
    target.wait_migration("completed")
    eventually(lambda: target.status() == "running", "it runs")
    assert ("unconfirmed: " in source.command("info migrate")) is not is_answered
    (disk,) = target.qmp("query-block")
    assert [each["name"] for each in disk["inserted"]["dirty-bitmaps"]] == ["b0"]
    assert "is off at" not in source.log() + target.log()
    has_no_effect = [line for line in source.log().splitlines() if "has no effect" in line]
    expected = 2 * bool(tried.mode) if not is_answered else "multifd" in tried.settings
    assert len(has_no_effect) == expected, has_no_effect
    target.close()
    source.close()
    if tried.mode:
        run("compare", here, there)
    if tried.mode == "":
        assert here.read_bytes()[:4096] == noise(4096, 7)


def test_what_makes_no_sense_is_refused_in_one_line(lab: Lab) -> None:
    image, empty = filled(lab.folder / "a", SIZE), blank(lab.folder / "b", SIZE)
    source = lab.start("source", *drive(image))
    target = lab.start("target", *drive(empty), "-incoming", "defer")
    for tried in REFUSED:
        for name in tried.settings:
            source.quietly(SETTINGS[name])
        to, _ = uris(lab, tried.way, source, target)
        said = source.command(f"migrate -d {tried.mode} {to}") or source.wait_migration("failed")
        assert tried.refused in said, tried
        assert "\n" not in said, tried
        assert source.status() == "running"
        for name in tried.settings:
            source.quietly(SETTINGS[name].replace(" on", " off"))
    assert not same(image, empty)
    assert "Traceback" not in source.log()


def test_write_blocking_that_is_set_too_late_says_that_it_has_no_effect(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="32k")
    for side in (source, target):
        side.quietly(SETTINGS["multifd"])
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("active")
    assert "has no effect" not in source.log()
    source.quietly(SETTINGS["write-blocking"])
    source.wait_log("x-qmon-copy-mode write-blocking has no effect")
    source.quietly("migrate_set_parameter max-bandwidth 0")
    source.wait_migration("completed")
    assert source.log().count("has no effect") == 1


def test_channels_go_over_tls_too_and_commands_do_not(lab: Lab) -> None:
    authority, uri = Authority(lab.folder / "pki"), f"tcp:localhost:{free_port()}"
    image, empty = filled(lab.folder / "a", SIZE), blank(lab.folder / "b", SIZE)
    source = lab.start("source", *drive(image))
    target = lab.start("target", *drive(empty), "-incoming", "defer")
    for side, endpoint in ((source, "client"), (target, "server")):
        folder = authority.folder(endpoint)
        side.quietly(f"object_add tls-creds-x509,id=tls0,dir={folder},endpoint={endpoint}")
        side.quietly("migrate_set_parameter tls-creds tls0", SETTINGS["multifd"], SETTINGS["zlib"])
    target.quietly(f"migrate_incoming {uri}")
    source.quietly("migrate_set_capability multifd off")
    for kind, place in (("exec", '"exec:cat > /dev/null"'), ("file", f"file:{lab.folder}/x")):
        said = source.command(f"migrate -d blk {place}")
        assert said == f"Error: TLS is not possible with {kind}: set the parameter tls-creds to ''"
    source.quietly(SETTINGS["multifd"])
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(image, empty)
    assert int(source.figures()["multifd bytes"].removesuffix(" kbytes")) << 10 >= SIZE
