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
from qmon.machine.hash_order import HashOrdered
from qmon.machine.qom import Node, Property, Tree
from qmon.machine.secret import Secret, decode_base64, find_secret
from qmon.notation.object_options import CREATABLE, TYPES
from tests.support.house import House, Play, Street
from tests.support.peers import require

MANDATORY: dict[str, dict[str, Any]] = {
    "authz-list-file": {"filename": "rules.json"},
    "authz-simple": {"identity": "fred"},
    "memory-backend-file": {"size": 1 << 40, "mem-path": "memory"},
    "memory-backend-memfd": {"size": 1 << 40},
    "memory-backend-ram": {"size": 1 << 40},
    "secret": {"data": "letmein"},
    "tls-creds-psk": {"dir": "creds"},
    "tls-creds-x509": {"dir": "creds"},
}
RULES = '{"policy": "deny", "rules": [{"match": "fred", "policy": "allow"}]}'


async def add(house: House, type_name: str, id: str = "o0", **more: Any) -> None:
    await house.ask("object-add", qom_type=type_name, id=id, **more)


async def ids(house: House) -> set[str]:
    """The ids of all objects."""
    listed = await house.ask("qom-list", path="/objects")
    return {row["name"] for row in listed if row["type"].startswith("child<")}


async def first(house: House) -> str:
    """The id of the one object, once there is one."""
    return "".join(await ids(house) if await objects_are_there(house) else ())


async def objects_are_there(house: House) -> bool:
    listed = await house.ask("qom-list", path="/")
    return any(row["name"] == "objects" for row in listed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that objects name, in the current folder."""
    require("openssl")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.json").write_text(RULES)
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "keys.psk").write_text("qemu:00112233\n")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made = ["-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=ca"]
    subprocess.run([*command, *made], cwd=tmp_path / "creds", check=True, capture_output=True)
    return tmp_path


def test_each_type_is_made_looked_at_and_deleted(play: Play, folder: Path) -> None:
    async def scene(street: Street) -> None:
        house = await street.machine()
        before = set(os.listdir(folder))
        for type_name in CREATABLE:
            await add(house, type_name, **MANDATORY.get(type_name, {}))
            assert await house.ask("qom-get", path="/objects/o0", property="type") == type_name
            listed = await house.ask("qom-list", path="/objects/o0")
            own = [row for row in listed if not row["type"].startswith("child<")]
            assert own == await house.ask("qom-list-properties", typename=type_name)
            for row in listed:
                await house.ask("qom-get", path="/objects/o0", property=row["name"])
            if type_name not in ("can-bus", "main-loop"):
                await house.ask("object-del", id="o0")
                assert await ids(house) == set()
                continue
            refusal = await house.refusal("object-del", id="o0")
            assert refusal == "object 'o0' is in use, can not be deleted"
            house = await street.machine()
        assert set(os.listdir(folder)) == before

    play(scene)


def test_a_type_that_needs_a_guest_is_refused_in_one_line(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.machine()
        told = await house.refusal("object-add", qom_type="filter-replay", id="f", netdev="n")
        assert told == "object type 'filter-replay' is not supported: this machine has no network cards"
        told = await house.refusal("object-add", qom_type="authz-pam", id="f", service="n")
        assert told == "invalid object type: authz-pam"
        told = await house.refusal("object-add", qom_type="iothread", id="1")
        assert told == "Parameter 'id' expects an identifier"
        options = {"qom-type": "iothread", "id": "a", "self": 1}
        with pytest.raises(CommandError, match="Parameter 'self' is unexpected"):
            await house.machine.registry.execute("object-add", options)

    play(scene)


def test_every_type_can_be_made_or_says_what_is_missing() -> None:
    assert all((name in CREATABLE) is not bool(row.absent) for name, row in TYPES.items())
    assert all(row.properties or name == "can-bus" for name, row in TYPES.items() if name in CREATABLE)


def test_an_object_that_fails_leaves_nothing_and_its_id_is_free(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.machine()
        for type_name, options in (
            ("secret", {"file": "/nosuch"}),
            ("secret", {"data": "x", "format": "base64", "keyid": "nosuch"}),
            ("rng-random", {"filename": "/nosuch"}),
            ("rng-random", {"filename": "null\0byte"}),
            ("memory-backend-file", {"size": 4096, "mem-path": "null\0byte"}),
            ("tls-creds-x509", {"dir": "null\0byte"}),
            ("throttle-group", {"x-iops-total-max": 5}),
            ("authz-list-file", {"filename": "/dev/null"}),
        ):
            assert "\n" not in await house.refusal("object-add", qom_type=type_name, id="o0", **options)
            assert await ids(house) == set()
        await add(house, "iothread")

    play(scene)


def test_an_object_is_not_there_for_others_before_it_is_complete(play: Play, tmp_path: Path) -> None:
    """A FIFO without a writer: the object waits to read its file, and the machine does not."""

    async def scene(street: Street) -> None:
        house = await street.machine()
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        making = asyncio.create_task(add(house, "secret", file=str(fifo)))
        await house.until(lambda: first(house), "o0")
        assert await house.refusal("object-del", id="o0") == "object 'o0' is in use, can not be deleted"
        told = await house.refusal("object-add", qom_type="secret", id="o1", data="x", keyid="o0")
        assert told == "Secret with id 'o0' has no data"
        await asyncio.to_thread(fifo.write_text, "letmein")
        await making
        assert await house.ask("qom-get", path="o0", property="loaded") is True

    play(scene)


def test_secrets_hold_what_their_file_or_data_says(play: Play, tmp_path: Path) -> None:
    """Encrypted ones as the documentation of QEMU's secrets has them made, by openssl."""
    require("openssl")
    key, vector = os.urandom(32), os.urandom(16)
    command = ["openssl", "enc", "-aes-256-cbc", "-a", "-A", "-K", key.hex(), "-iv", vector.hex()]
    encrypted = subprocess.run(command, input=b"letmein", capture_output=True, check=True).stdout.decode()
    (tmp_path / "plain").write_bytes(b"\x00\xff\n")

    async def scene(street: Street) -> None:
        house = await street.machine()
        await add(house, "secret", "plain", file=str(tmp_path / "plain"))
        await add(house, "secret", "key", data=base64.b64encode(key).decode(), format="base64")
        iv = base64.b64encode(vector).decode()
        await add(house, "secret", "sealed", data=encrypted, format="base64", keyid="key", iv=iv)
        tree = house.machine.qom
        assert find_secret(tree, "plain") == b"\x00\xff\n"
        assert find_secret(tree, "key") == key
        assert find_secret(tree, "sealed") == b"letmein"
        assert isinstance(tree.resolve("sealed"), Secret)
        with pytest.raises(CommandError, match="No secret with id 'nosuch'"):
            find_secret(tree, "nosuch")

    play(scene)


def test_secrets_survive_the_deletion_of_their_key(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.machine()
        await add(house, "secret", data="x")
        await house.ask("object-del", id="o0")
        await add(house, "secret", data="y")
        assert find_secret(house.machine.qom, "o0") == b"y"

    play(scene)


@given(st.binary(max_size=40))
def test_base64_is_read_as_it_was_written(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data)) == data


def test_memory_is_described_and_not_allocated(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.machine()
        await add(house, "memory-backend-ram", size=1 << 50, prealloc=True)
        (described,) = await house.ask("query-memdev")
        assert (described["size"], described["prealloc"]) == (1 << 50, True)

    play(scene)


KEYS = st.text("abcdef", min_size=1, max_size=3)


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=80))
def test_the_hashed_order_holds_what_a_dictionary_holds(steps: list[tuple[bool, str]]) -> None:
    ours: HashOrdered[int] = HashOrdered()
    model: dict[str, int] = {}
    for number, (adds, key) in enumerate(steps):
        if adds:
            ours[key] = model[key] = number
        else:
            assert ours.pop(key, None) == model.pop(key, None)
        assert dict(ours) == model
        assert len(list(ours)) == len(model)


def test_paths_lead_to_nodes_as_qom_has_it() -> None:
    tree = Tree()
    tree.add_child("/a/b", "x", Node("thing"))
    tree.add_child("/c", "x", Node("thing", {"to": Property("link<thing>", lambda: "/a/b/x")}))
    for path in ("/a/b/x", "//a//b//x/", "b/x", "a/b/x", "c/x/to", "/c/x/to"):
        assert tree.resolve(path).path == "/a/b/x", path
    for path, told in (
        ("x", "is ambiguous"),
        ("", "is ambiguous"),
        ("/b/x", "not found"),
        ("a/x", "not found"),
    ):
        with pytest.raises(CommandError, match=told):
            tree.resolve(path)
    with pytest.raises(CommandError, match="duplicate property 'x'"):
        tree.add_child("/c", "x", Node("thing"))
    tree.remove_child("/c", "x")
    assert tree.resolve("x").path == "/a/b/x"
