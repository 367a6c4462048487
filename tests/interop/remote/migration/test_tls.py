"""A guest moves between two QEMUs under TLS, which is the consoles'; nobody else gets in."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.images import MIB
from tests.support.ports import free_port
from tests.support.vms.consoles import HOST, START_PATIENCE, Consoles, Script, listens
from tests.support.vms.disks import Filling
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Version
from tests.support.vms.moving import MOVE_PATIENCE
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import eventually

PARAMETER = ("-global", "migration.tls-creds={name}")
"""Each QEMU's parameter names an object of its console: ``source`` or ``destination``."""


def objects(authority: Authority, *, client: Authority | None = None) -> Sequence[str]:
    """The consoles' options: both have both objects."""
    ends = {"source": (client or authority, "client"), "destination": (authority, "server")}
    return [
        word
        for name, (signer, end) in ends.items()
        for word in ("-object", f"tls-creds-x509,id={name},endpoint={end},dir={signer.folder(end)}")
    ]


@pytest.mark.parametrize(
    "setup",
    [
        Setup(Version.SEVEN, Version.SEVEN, options=PARAMETER),
        Setup(disks=2, options=PARAMETER),
        Setup(by_tcp=True, options=PARAMETER),
    ],
    ids=str,
)
def test_disks_and_memory_go_under_tls(setup: Setup, tmp_path: Path) -> None:
    with Pair(tmp_path / "pair", setup) as pair, Consoles(pair, options=objects(Authority(tmp_path))) as both:
        both.wait_listening()
        with socket.create_connection((HOST, both.port)) as stranger:
            stranger.sendall(json.dumps({"qmon-migration": 1}).encode() + b"\n")
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(100)[:1] != b"{", "a plain line gets no answer in plain"
        both.destination.type("wait migrate")
        both.source.type(both.line)
        for script in (both.source, both.destination):
            assert script.wait(MOVE_PATIENCE) == 0, script.printed()
        assert judge(pair, pair.destination) == []
        for machine in pair.machines:
            assert machine.look.run("query-migrate-parameters")["tls-creds"] == machine.name


def test_a_console_of_another_authority_is_refused_at_both_ends(tmp_path: Path) -> None:
    options = objects(Authority(tmp_path / "ours"), client=Authority(tmp_path / "theirs"))
    with (
        Pair(tmp_path / "pair", Setup(options=PARAMETER)) as pair,
        Consoles(pair, options=options) as both,
    ):
        both.wait_listening()
        both.source.type(both.line)
        assert both.source.wait(MOVE_PATIENCE) == 1
        assert "certificate" in both.source.printed()
        both.destination.wait_for("is refused: ")
        assert pair.source.look.run("query-status")["status"] == "running"


def test_a_parameter_without_the_console_s_object_is_refused(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(pair) as both:
        both.wait_listening()
        both.source.type("migrate_set_parameter tls-creds tls0", both.line)
        assert both.source.wait(MOVE_PATIENCE) == 1
        assert "this console has no such object: start qmon with -object" in both.source.printed()


def test_a_console_that_is_not_authorized_is_refused(tmp_path: Path) -> None:
    options = objects(Authority(tmp_path))
    port = free_port()
    authz = ("-object", "authz-simple,id=ours,identity=CN=another")
    with Pair(tmp_path / "pair") as pair:
        destination = Script(pair.destination, *options, *authz, "-incoming", "defer")
        source = Script(pair.source, *options)
        with contextlib.closing(destination), contextlib.closing(source):
            destination.type(
                "migrate_set_parameter tls-creds destination",
                "migrate_set_parameter tls-authz ours",
                f"migrate_incoming tcp:{HOST}:{port}",
                "wait migrate",
            )
            eventually(lambda: listens(port), "the destination's console listens", START_PATIENCE)
            source.type("migrate_set_parameter tls-creds source", f"migrate blk tcp:{HOST}:{port}")
            assert source.wait(MOVE_PATIENCE) == 1
            destination.wait_for("is not authorized")
            assert pair.source.look.run("query-status")["status"] == "running"


def test_a_console_that_dies_leaves_the_parameter_as_it_was(tmp_path: Path) -> None:
    setup = Setup(options=PARAMETER, filling=Filling(64 * MIB, 32 * MIB))
    with Pair(tmp_path / "pair", setup) as pair, Consoles(pair, options=objects(Authority(tmp_path))) as both:
        both.wait_listening()
        look = pair.source.look
        both.source.type("migrate_set_parameter max-bandwidth 256k", both.line)
        eventually(lambda: look.run("query-block-jobs"), "the disk is copied", START_PATIENCE)
        assert look.run("query-migrate-parameters")["tls-creds"] == ""
        both.source.kill()
        eventually(
            lambda: look.run("query-migrate-parameters")["tls-creds"] == "source",
            "the guardian has put the parameter back",
            START_PATIENCE,
        )
        eventually(lambda: not look.run("query-block-jobs"), "no job is left", START_PATIENCE)
        assert look.run("query-status")["status"] == "running"
