"""TLS with keys that both ends share: real clients at qmon's server, and qmon's drives on real servers.

The qmons run in Python 3.13, which has such keys.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, same
from tests.support.nbd_servers import QEMU_7, QEMU_10, NbdProgram, nbdkit, qemu_nbd
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import Qmon, migrated
from tests.support.psk import NO_1_3, credentials, key_folders, lab_with_keys
from tests.support.waiting import PATIENCE, eventually

VERSIONS = {"1.3": "", "1.2": NO_1_3}

RIGHT = [("ours", "qemu"), ("ours", "joe")]
WRONG = [("theirs", "qemu"), ("theirs", "ann")]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return key_folders(tmp_path_factory.mktemp("keys"))


@dataclass
class Secured:
    """A qmon whose NBD server requires a key."""

    qmon: Qmon
    port: int
    image: Path
    keys: Path
    version: str

    def logged_since(self, before: str) -> str:
        """The line that it logs next."""
        eventually(lambda: self.qmon.log().removeprefix(before).endswith("\n"), "a line in the log")
        (line,) = self.qmon.log().removeprefix(before).splitlines()
        return line


@pytest.fixture(scope="module", params=VERSIONS)
def secured(
    request: pytest.FixtureRequest, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder, port = tmp_path_factory.mktemp("psk"), free_port()
    image = filled(folder / "disk.img", 4 * MIB)
    with lab_with_keys(folder) as lab:
        qmon = lab.start("secured", *drive(image))
        made = credentials("tls0", keys / "ours", "server", more=VERSIONS[request.param])
        qmon.quietly(f"object_add {made}", f"nbd_server_start -a -w -t tls0 127.0.0.1:{port}")
        yield Secured(qmon, port, image, keys, request.param)


def qemu_io(*program: str) -> Callable[[Secured, str, str], list[str]]:
    def line(secured: Secured, keys: str, user: str) -> list[str]:
        made = credentials("c", secured.keys / keys, "client", user=user)
        export = f"driver=nbd,host=127.0.0.1,port={secured.port},export=d0,tls-creds=c"
        return [*program, "--object", made, "-c", "read 0 64k", "--image-opts", export]

    return line


def nbdinfo(secured: Secured, keys: str, user: str) -> list[str]:
    file = secured.keys / keys / "keys.psk"
    return ["nbdinfo", f"nbds://{user}@127.0.0.1:{secured.port}/d0?tls-psk-file={file}"]


CLIENTS = {
    "qemu-io 7.2": qemu_io("qemu-io"),
    "qemu-io 10": qemu_io("/opt/qemu10/run", "qemu-io"),
    "libnbd": nbdinfo,
}

LOGGED = {
    ("1.3", "qemu"): "TLS: the client has another key for this user name: compare keys.psk at both ends",
    ("1.2", "qemu"): "TLS: the client has another key: compare keys.psk at both ends",
    ("1.3", "ann"): "TLS: the client's user name is not in keys.psk, or it has other types of credentials: "
    "compare the credentials of both ends",
    ("1.2", "ann"): "TLS: the client's user name is not in keys.psk: compare keys.psk at both ends",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_with_the_key_gets_in_and_no_other(secured: Secured, client: str) -> None:
    def run(keys: str, user: str) -> subprocess.CompletedProcess[str]:
        line = CLIENTS[client](secured, keys, user)
        require(line[0])
        return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)

    for keys, user in RIGHT:
        done = run(keys, user)
        assert done.returncode == 0, done.stderr
        assert "with TLS" in done.stdout or "read 65536/65536" in done.stdout
    for keys, user in WRONG:
        before = secured.qmon.log()
        done = run(keys, user)
        assert done.returncode == 1
        (told,) = done.stderr.splitlines()
        assert "A TLS fatal alert has been received" in told
        logged = secured.logged_since(before)
        assert logged.startswith("qmon: NBD client ")
        assert logged.endswith(f" was disconnected: {LOGGED[secured.version, user]}")


def test_a_client_without_tls_is_told_that_it_is_required(secured: Secured) -> None:
    require("qemu-img")
    before = secured.qmon.log()
    line = ["qemu-img", "info", f"nbd://127.0.0.1:{secured.port}/d0"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "server reported: this server requires TLS: connect with TLS credentials" in done.stderr
    logged = secured.logged_since(before)
    assert logged.endswith(" was refused: it did not start TLS, which this server requires")


def test_libnbd_copies_both_ways_with_a_key(secured: Secured, tmp_path: Path) -> None:
    require("nbdcopy")
    uri = nbdinfo(secured, "ours", "joe")[1]
    content, back = filled(tmp_path / "new.img", 4 * MIB, seed=7), tmp_path / "back.img"
    subprocess.run(["nbdcopy", "--flush", str(content), uri], check=True, timeout=PATIENCE)
    subprocess.run(["nbdcopy", uri, str(back)], check=True, timeout=PATIENCE)
    assert same(back, content)
    assert same(secured.image, content)


def served(name: str, folder: Path, keys: Path) -> NbdProgram:
    """A server that requires a key."""
    if name == "nbdkit":
        return nbdkit(folder, "--tls=require", f"--tls-psk={keys / 'keys.psk'}", "file", "remote.img")
    tls = ("--object", credentials("t", keys, "server"), "--tls-creds", "t")
    return qemu_nbd(QEMU_7 if name == "qemu-nbd 7.2" else QEMU_10, folder, "remote.img", *tls)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qmon]:
    with lab_with_keys(tmp_path_factory.mktemp("client")) as lab:
        yield lab.start("client")


def added(client: Qmon, keys: Path, user: str, export: str, more: str = "") -> str:
    """What the client says of a drive on an export, with the keys of a folder."""
    client.quietly(f"object_add {credentials('c', keys, 'client', user=user, more=more)}")
    try:
        export = f"driver=raw,file.driver=nbd,{export},file.export=d0,file.tls-creds=c"
        return client.command(f"drive_add 0 if=none,id=r,{export}")
    finally:
        client.command("drive_del r")
        client.quietly("object_del c")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["qemu-nbd 7.2", "qemu-nbd 10", "nbdkit"])
def test_a_drive_on_a_server_with_keys(
    client: Qmon,
    name: str,
    version: str,
    keys: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    filled(tmp_path / "remote.img", MIB)
    with served(name, tmp_path, keys / "ours") as server:
        export = f"file.path={server.socket}"
        for folder, user in RIGHT:
            assert added(client, keys / folder, user, export, VERSIONS[version]) == "OK"
        for folder, user in WRONG:
            capfd.readouterr()
            assert added(client, keys / folder, user, export, VERSIONS[version]) == (
                "TLS: the server closed the connection within the handshake: compare the user name and key in"
                " keys.psk at both ends, or see its log"
            )
            logged = ""
            while not logged.endswith("\n"):  # it may tell us first, and its terminal then
                time.sleep(0.01)
                logged += capfd.readouterr().err
            assert logged.count("\n") == 1
            assert "handshake" in logged
        told = client.command(f"drive_add 0 if=none,id=r,driver=raw,file.driver=nbd,{export},file.export=d0")
        assert told == "the NBD server requires TLS: connect with TLS credentials"


TOLD = {
    ("1.3", "qemu"): "TLS: the server can't verify the handshake: compare the keys at both ends",
    ("1.2", "qemu"): "TLS: the server has another key: compare keys.psk at both ends",
    (
        "1.3",
        "ann",
    ): "TLS: the server found nothing in common: it may want a certificate, a user of its"
    " keys.psk, or other ciphers",
    ("1.2", "ann"): "TLS: the server has no key for our user name: compare keys.psk at both ends",
}


def test_a_drive_of_one_qmon_on_anothers_export(client: Qmon, secured: Secured) -> None:
    export = f"file.host=127.0.0.1,file.port={secured.port}"
    for keys, user in RIGHT:
        assert added(client, secured.keys / keys, user, export) == "OK"
    for keys, user in WRONG:
        before = secured.qmon.log()
        assert added(client, secured.keys / keys, user, export) == TOLD[secured.version, user]
        assert secured.logged_since(before).endswith(LOGGED[secured.version, user])


def test_no_name_can_be_authorized_without_certificates(secured: Secured) -> None:
    qmon = secured.qmon
    qmon.quietly("object_add authz-simple,id=who,identity=CN=laptop", "nbd_server_stop")
    try:
        told = qmon.command(f"nbd_server_start -a -w -t tls0 -z who 127.0.0.1:{secured.port}")
        assert "needs certificates of the clients" in told
    finally:
        qmon.quietly(f"nbd_server_start -a -w -t tls0 127.0.0.1:{secured.port}", "object_del who")


def test_a_disk_moves_with_a_key(keys: Path, tmp_path: Path) -> None:
    image, empty, port = filled(tmp_path / "a.img", MIB), blank(tmp_path / "b.img", MIB), free_port()
    with lab_with_keys(tmp_path) as lab:
        there = lab.launch("target", *drive(empty), "-incoming", "defer")
        here = lab.start("source", *drive(image))
        there.quietly(f"object_add {credentials('t', keys / 'ours', 'server')}")
        there.quietly("migrate_set_parameter tls-creds t", f"migrate_incoming tcp:127.0.0.1:{port}")
        here.quietly(f"object_add {credentials('bad', keys / 'theirs', 'client')}")
        here.quietly("migrate_set_parameter tls-creds bad", f"migrate -d -b tcp:127.0.0.1:{port}")
        assert TOLD["1.3", "qemu"] in here.wait_migration("failed")
        there.wait_log(LOGGED["1.3", "qemu"])
        here.quietly(f"object_add {credentials('c', keys / 'ours', 'client', user='joe')}")
        here.quietly("migrate_set_parameter tls-creds c")
        migrated(here, there, f"migrate -d -b tcp:127.0.0.1:{port}")
    assert same(empty, image)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_qmp_server_with_keys(keys: Path, tmp_path: Path, version: str) -> None:
    require("openssl")
    port = free_port()
    made = credentials("t", keys / "ours", "server", more=VERSIONS[version])
    chardev = f"socket,id=q,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=t"
    options = ["-object", made, "-chardev", chardev, "-mon", "chardev=q,mode=control"]

    def greeting(key: str) -> str:
        line = ["openssl", "s_client", "-quiet", "-psk", key, "-psk_identity", "joe"]
        with subprocess.Popen(
            [*line, "-connect", f"127.0.0.1:{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                return process.stdout.readline()
            finally:
                process.kill()

    with lab_with_keys(tmp_path) as lab:
        qmon = lab.start("server", *options)
        right = dict(each.split(":") for each in (keys / "ours" / "keys.psk").read_text().split())["joe"]
        assert greeting(right).startswith('{"QMP": ')
        assert greeting("00" + right[2:]) == ""
        qmon.wait_log("a client was refused")
        (logged,) = (each for each in qmon.log().splitlines() if "a client was refused" in each)
        assert logged.endswith(LOGGED[version, "qemu"])
