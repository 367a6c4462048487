"""Migrations over TLS: the disk arrives, and who does not belong is refused in one line on both sides."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from qmon.host.paths import state_folder
from qmon.migration.journal import Entry, Journal
from qmon.migration.patience import PATIENCE as ORDINARY
from qmon.migration.patience import Patience
from qmon.migration.phases import Stand
from tests.support.certificates import Authority
from tests.support.embedded_lab import EmbeddedLab, LabMachine, Play
from tests.support.waiting import PATIENCE, eventually

WANTS = (
    "this destination wants TLS, and the source does not use it: set the parameter tls-creds at the source"
)
TRUST = "use certificates of one authority at both ends"


@dataclass
class Ends:
    """The folders of credentials of both ends; "" for none. ``source``, ``target``: more parameters."""

    there: Path | str
    here: Path | str
    source: dict[str, Any]
    target: dict[str, Any]


async def secure(machine: LabMachine, folder: Path | str, endpoint: str, **parameters: Any) -> None:
    if folder:
        about = {"qom_type": "tls-creds-x509", "id": "tls0", "dir": str(folder), "endpoint": endpoint}
        await machine.qmp("object-add", **about, sanity_check=False)
        parameters["tls_creds"] = "tls0"
    if parameters:
        await machine.qmp("migrate-set-parameters", **parameters)


async def pair(
    lab: EmbeddedLab, ends: Ends, patience: Patience = ORDINARY
) -> tuple[LabMachine, LabMachine, str]:
    """A source, a destination that waits on loopback, and its address."""
    source, target, _ = await lab.pair_deferred(patience)
    await target.qmp(
        "object-add",
        qom_type="authz-list",
        id="mine",
        rules=[{"match": "CN=laptop", "policy": "allow", "format": "exact"}],
    )
    await target.qmp("object-add", qom_type="authz-simple", id="others", identity="CN=somebody else")
    await secure(target, ends.there, "server", **ends.target)
    await secure(source, ends.here, "client", **ends.source)
    await target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    port = (await target.qmp("query-migrate"))["socket-address"][0]["port"]
    return source, target, f"tcp:localhost:{port}"


def moves(play: Play, ends: Ends) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await pair(lab, ends)
        found = await source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
        assert found["mismatches"] == []
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("completed")
        await target.wait_status("running")
        assert (lab.folder / "b.img").read_bytes() == (lab.folder / "a.img").read_bytes()

    play(scene)


def refused(play: Play, ends: Ends, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """What a source and the log of its destination say of a migration that is refused before it begins."""
    said = []

    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await pair(lab, ends)
        caplog.clear()
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("failed")
        said.append((await source.qmp("query-migrate"))["error-desc"])
        assert await source.status() == "running"
        await target.close()  # then its thread has told
        log = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        (line,) = [text for text in log if text.startswith("incoming migration")]
        assert line.startswith("incoming migration: connection from 127.0.0.1:")
        said.append(line.partition(" closed: ")[2])

    play(scene)
    assert not any("\n" in line for line in said)
    return said[0], said[1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.mark.parametrize(
    "parameters", [{}, {"target": {"tls_authz": "mine"}}, {"source": {"tls_hostname": "127.0.0.1"}}]
)
def test_a_disk_arrives(play: Play, authority: Authority, parameters: dict[str, Any]) -> None:
    folders = authority.folder("server"), authority.folder("client")
    moves(play, Ends(*folders, **{"source": {}, "target": {}, **parameters}))


def test_each_wrong_end_is_told_in_one_line_on_both_sides(
    play: Play, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, client = authority.folder("server"), authority.folder("client")
    stranger = Authority(tmp_path / "strange", "somebody else's authority")

    def wrong(there: Path | str, here: Path | str, **parameters: Any) -> tuple[str, str]:
        return refused(play, Ends(there, here, **{"source": {}, "target": {}, **parameters}), caplog)

    said, log = wrong(server, "")
    assert said == log == WANTS
    said, log = wrong("", client)
    assert said.endswith("TLS: the server does not speak TLS: turn TLS on there, or off here")
    assert log.endswith(
        "the source uses TLS, and this destination does not: set the parameter tls-creds here"
    )
    said, log = wrong(server, stranger.folder("client"))
    assert TRUST in said
    assert "TLS" in log
    said, log = wrong(server, authority.folder("client", stranger.issue("client")))
    assert TRUST in said
    assert TRUST in log
    said, log = wrong(server, client, source={"tls_hostname": "other.example"})
    assert "the server's certificate is not for 'other.example'" in said
    said, log = wrong(server, authority.folder())
    assert "the server wants a certificate, and we have none" in said
    assert "the client sent no certificate" in log
    said, log = wrong(server, client, target={"tls_authz": "others"})
    assert said == log
    assert "the client's certificate of 'CN=laptop' is not authorized" in said


def test_what_is_impossible_is_refused_at_once(play: Play, authority: Authority) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, _ = await lab.pair_deferred()
        await secure(source, authority.folder("client"), "client")
        await secure(target, authority.folder("server"), "server")
        for command in ("migrate", "x-qmon-migrate-trial"):
            await source.qmp("migrate-set-parameters", tls_creds="nosuch")
            said = await source.qmp_error(command, uri="tcp:localhost:1", blk=True)
            assert said == "No TLS credentials with id 'nosuch'"
            await source.qmp("migrate-set-parameters", tls_creds="tls0")
            said = await source.qmp_error(command, uri=f"unix:{lab.folder}/in", blk=True)
            assert "give it as tls-hostname" in said
        await target.qmp("migrate-set-parameters", tls_creds="nosuch")
        said = await target.qmp_error("migrate-incoming", uri="tcp:127.0.0.1:0")
        assert said == "No TLS credentials with id 'nosuch'"
        await target.qmp("migrate-set-parameters", tls_creds="tls0", tls_authz="nosuch")
        said = await target.qmp_error("migrate-incoming", uri="tcp:127.0.0.1:0")
        assert said == "No authorization object with id 'nosuch'"
        await target.qmp("migrate-set-parameters", tls_authz="")
        await target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        said = await target.qmp_error("migrate-set-parameters", tls_creds="")
        assert said.startswith("tls-creds can't be cleared while a migration over TLS is awaited")

    play(scene)


def test_who_never_ends_the_handshake_is_sent_away(
    play: Play, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        _, target, uri = await pair(lab, Ends(authority.folder("server"), "", {}, {}), Patience(hello=0.3))
        with socket.create_connection(("127.0.0.1", int(uri.rpartition(":")[2])), PATIENCE) as slow:
            slow.sendall(b"\x16\x03\x01")
            eventually(lambda: "did not end the handshake in time" in caplog.text, "it is told")
        assert await target.status() == "inmigrate"

    play(scene)


def test_a_source_in_doubt_asks_again_over_tls_only(play: Play, authority: Authority) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        here, there, id = lab.image("a.img"), lab.image("b.img"), uuid4().hex
        journal = Journal(state_folder())
        journal.write(Entry(str(there), id, Stand.PREPARED, ""))
        target = await lab.start(lab.settings(there), incoming="defer")
        await secure(target, authority.folder("server"), "server")
        await target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        port = (await target.qmp("query-migrate"))["socket-address"][0]["port"]
        journal.write(Entry(str(here), id, Stand.GONE, f"tcp:localhost:{port}", tls=True))
        source = await lab.start(lab.settings(here))

        async def why() -> str:
            said = str((await source.qmp("query-migrate"))["error-desc"])
            return "told" if "over TLS: set the parameter tls-creds again" in said else said

        await source.until(why, "told")
        assert await target.status() == "inmigrate"
        await secure(source, authority.folder("client"), "client")
        await source.wait_migration("completed")
        await target.wait_status("running")

    play(scene)
