"""Objects by QMP: what they hold, what is left when one fails, and what they leave alone."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import CommandError
from qmon.machine.object_types import CLASSES
from qmon.machine.secret import decode_base64, find_secret
from qmon.notation.object_options import type_names
from qmon.notation.qapi import LACKS, default_schema
from tests.support.embedded_lab import EmbeddedLab, LabMachine, Play
from tests.support.peers import require

MANDATORY: dict[str, dict[str, Any]] = {
    "authz-list-file": {"filename": "rules.json"},
    "authz-simple": {"identity": "fred"},
    "secret": {"data": "letmein"},
    "tls-creds-psk": {"dir": "creds"},
    "tls-creds-x509": {"dir": "creds"},
}
RULES = '{"policy": "deny", "rules": [{"match": "fred", "policy": "allow"}]}'


async def add(machine: LabMachine, type_name: str, id: str = "o0", **more: Any) -> None:
    await machine.qmp("object-add", qom_type=type_name, id=id, **more)


async def made(machine: LabMachine) -> list[dict[str, Any]]:
    return list(await machine.qmp("x-qmon-query-objects"))


async def first(machine: LabMachine) -> str:
    """The id of the one object, once there is one."""
    return "".join(each["id"] for each in await made(machine))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that objects name, in the current folder."""
    require("openssl")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.json").write_text(RULES)
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "keys.psk").write_text("qemu:00112233\n")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    certificate = ["-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=ca"]
    subprocess.run([*command, *certificate], cwd=tmp_path / "creds", check=True, capture_output=True)
    return tmp_path


def test_each_type_is_made_listed_and_deleted(play: Play, folder: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        before = set(os.listdir(folder))
        for type_name in type_names():
            await add(machine, type_name, **MANDATORY.get(type_name, {}))
            assert await made(machine) == [{"id": "o0", "qom-type": type_name}]
            told = await machine.qmp_error("object-add", qom_type="iothread", id="o0")
            assert told == "attempt to add duplicate property 'o0' to object (type 'container')"
            await machine.qmp("object-del", id="o0")
            assert await made(machine) == []
        assert await machine.qmp_error("object-del", id="o0") == "object 'o0' not found"
        assert set(os.listdir(folder)) == before

    play(scene)


def test_a_type_without_effect_is_refused_in_one_line(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        *most, last = type_names()
        for type_name in default_schema()["ObjectType"][LACKS]:
            told = await machine.qmp_error("object-add", qom_type=type_name, id="f")
            assert told == f"qom-type '{type_name}' is not supported: use {', '.join(most)} or {last}"
        told = await machine.qmp_error("object-add", qom_type="nosuch", id="f")
        assert told == "Parameter 'qom-type' does not accept value 'nosuch'"
        told = await machine.qmp_error("object-add", qom_type="iothread", id="1")
        assert told == "Parameter 'id' expects an identifier"
        options = {"qom-type": "iothread", "id": "a", "self": 1}
        with pytest.raises(CommandError, match="Parameter 'self' is unexpected"):
            await machine.embedded.registry.execute("object-add", options)

    play(scene)


def test_every_type_has_a_class() -> None:
    assert set(CLASSES) == set(type_names())


def test_an_object_that_fails_leaves_nothing_and_its_id_is_free(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        for type_name, options in (
            ("secret", {"file": "/nosuch"}),
            ("secret", {"file": "null\0byte"}),
            ("secret", {"data": "!", "format": "base64"}),
            ("tls-creds-x509", {"dir": "null\0byte"}),
            ("throttle-group", {"x-iops-total-max": 5}),
            ("authz-list-file", {"filename": "/dev/null"}),
        ):
            assert "\n" not in await machine.qmp_error("object-add", qom_type=type_name, id="o0", **options)
            assert await made(machine) == []
        await add(machine, "iothread")

    play(scene)


@pytest.mark.parametrize("option", ["keyid", "iv"])
def test_an_encrypted_secret_is_refused(play: Play, option: str) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        told = await machine.qmp_error("object-add", qom_type="secret", id="s", data="x", **{option: "x"})
        assert told == "encrypted secrets (keyid, iv) are not supported: use file= and protect the file"

    play(scene)


def test_an_object_can_not_be_used_before_it_is_complete(play: Play, tmp_path: Path) -> None:
    """A FIFO without a writer: the object waits to read its file, and the machine does not."""

    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        making = asyncio.create_task(add(machine, "secret", file=str(fifo)))
        await machine.until(lambda: first(machine), "o0")
        assert await machine.qmp_error("object-del", id="o0") == "object 'o0' is in use, can not be deleted"
        with pytest.raises(CommandError, match="Secret with id 'o0' has no data"):
            find_secret(machine.embedded.objects, "o0")
        await asyncio.to_thread(fifo.write_text, "letmein")
        await making
        assert find_secret(machine.embedded.objects, "o0") == b"letmein"

    play(scene)


def test_secrets_hold_what_their_file_or_data_says(play: Play, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"\x00\xff\n")

    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        await add(machine, "secret", "plain", file=str(tmp_path / "plain"))
        await add(machine, "secret", "coded", data=base64.b64encode(b"\x00key").decode(), format="base64")
        await add(machine, "iothread", "other")
        objects = machine.embedded.objects
        assert find_secret(objects, "plain") == b"\x00\xff\n"
        assert find_secret(objects, "coded") == b"\x00key"
        with pytest.raises(CommandError, match="No secret with id 'nosuch'"):
            find_secret(objects, "nosuch")
        with pytest.raises(CommandError, match="Object with id 'other' is not a secret"):
            find_secret(objects, "other")

    play(scene)


@given(st.binary(max_size=40))
def test_base64_is_read_as_it_was_written(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data)) == data
